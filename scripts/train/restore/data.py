"""Sentences to restore: verses of the King James Bible and prose of Python's documentation."""

from __future__ import annotations

import pathlib
import re
import sys

# Appended, not put first: both folders have a model.py.
sys.path.append(str(pathlib.Path(__file__).resolve().parents[1] / "gpt"))
import kjv  # noqa: E402

# Where Debian's python3-doc (python3.11-doc) keeps the documentation's sources.
DOCUMENTATION = pathlib.Path("/usr/share/doc/python3.11/html/_sources")
# Every 20th documentation file is held out.
HELD_OUT_EVERY = 20
MAX_BYTES = 220

PUNCTUATION = ".,;:?!'\"()-"


def stripped(text: str) -> str:
    """What the model is given: lower case, without punctuation."""
    return re.sub(r"\s+", " ", re.sub(f"[{re.escape(PUNCTUATION)}]", "", text)).strip().lower()


def prose(source: str) -> list[str]:
    """Plain sentences of a reStructuredText file: those with no markup or code in them."""
    sentences = []
    for paragraph in re.split(r"\n\s*\n", source):
        lines = paragraph.splitlines()
        if not lines or any(line.startswith((" ", "..", "*", "-", "#", "=", ">>>")) for line in lines):
            continue
        text = " ".join(line.strip() for line in lines)
        # Roles keep their words: :class:`dict` is dict.
        text = re.sub(r":[\w:+-]+:`[~!]?([^`<]+?)(?:\s*<[^>]*>)?`", r"\1", text)
        text = re.sub(r"``([^`]+)``|`([^`]+)`_?|\*+([^*]+)\*+", lambda m: m.group(1) or m.group(2) or m.group(3), text)
        for sentence in re.split(r"(?<=[.?!])\s+(?=[A-Z])", text):
            if re.fullmatch(r"[A-Z][A-Za-z0-9 ,;:'\"()?!.\-]*[.?!]", sentence) and len(sentence.split()) >= 4:
                sentences.append(sentence)
    return sentences


def split() -> tuple[list[str], dict[str, list[str]]]:
    """Sentences to train on, and held-out ones by source."""
    train_chapters, held_out_chapters = kjv.split()
    files = sorted(DOCUMENTATION.rglob("*.rst.txt"))
    held_out_files = files[HELD_OUT_EVERY - 1 :: HELD_OUT_EVERY]
    documentation = [s for file in files if file not in held_out_files for s in prose(file.read_text(errors="replace"))]
    held_out_documentation = [s for file in held_out_files for s in prose(file.read_text(errors="replace"))]
    verses = [verse for chapter in train_chapters for verse in chapter.splitlines()]
    held_out_verses = [verse for chapter in held_out_chapters for verse in chapter.splitlines()]

    def fits(texts: list[str]) -> list[str]:
        return [text for text in dict.fromkeys(texts) if len(text.encode()) <= MAX_BYTES and stripped(text)]

    # The documentation is the smaller part and the harder one: it comes three times.
    train = fits(verses) + 3 * fits(documentation)
    seen = {stripped(text) for text in train}
    held_out = {"KJV": held_out_verses, "Python documentation": held_out_documentation}
    return train, {name: [text for text in fits(texts) if stripped(text) not in seen] for name, texts in held_out.items()}
