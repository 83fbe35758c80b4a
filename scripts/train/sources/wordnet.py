"""WordNet's glosses, from Debian's `wordnet-base` package. WordNet's licence (permissive)."""

from __future__ import annotations

import pathlib
import re

FOLDER = pathlib.Path("/usr/share/wordnet")
PARTS = {"noun": "noun", "verb": "verb", "adj": "adjective", "adv": "adverb"}


def entries() -> list[str]:
    """One line a set of synonyms, `word, word (part of speech): definition; "example"`. 117,659 entries, 12 MB.

    They come in WordNet's own order, in which what is near in meaning is near.
    """
    return [_entry(line, part) for file, part in PARTS.items() for line in _lines(FOLDER / f"data.{file}")]


def examples(entry: str) -> list[str]:
    """The example sentences that an entry quotes."""
    return re.findall(r'"([^"]+)"', entry.partition("): ")[2])


def _lines(path: pathlib.Path) -> list[str]:
    # The licence stands at the head of each file, in lines that begin with two spaces.
    return [line for line in path.read_text(encoding="latin-1").splitlines() if not line.startswith("  ")]


def _entry(line: str, part: str) -> str:
    fields, _, gloss = line.partition(" | ")
    _, _, _, count, *rest = fields.split(" ")
    # The words of a set, each with a number behind it; some adjectives carry a marker of where they may stand.
    words = [re.sub(r"\(\w+\)$", "", word).replace("_", " ") for word in rest[: 2 * int(count, 16) : 2]]
    meaning = re.sub(r"\s+", " ", gloss).strip()
    return f"{', '.join(words)} ({part}): {meaning}"
