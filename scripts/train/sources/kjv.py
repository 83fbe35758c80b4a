"""The King James Bible, from Debian's `bible-kjv` package: a list of chapters, split into train and held-out."""

from __future__ import annotations

import itertools
import re
import subprocess

# Every 20th chapter, counted through the whole Bible, is held out.
HELD_OUT_EVERY = 20


def chapters() -> list[str]:
    """Each chapter's text: one verse a line, without references. 1,189 chapters, 4.1 MB."""
    dump = subprocess.run(["bible", "-f", "gen1:1-rev22:21"], check=True, capture_output=True, text=True).stdout
    verses = [re.fullmatch(r"(\S+?\d+):\d+ (.*)", line).groups() for line in dump.splitlines() if line.strip()]
    by_chapter = itertools.groupby(verses, key=lambda verse: verse[0])
    return ["\n".join(text for _, text in group) for _, group in by_chapter]


def split() -> tuple[list[str], list[str]]:
    """Chapters to train on, and chapters held out."""
    everything = chapters()
    held_out = everything[HELD_OUT_EVERY - 1 :: HELD_OUT_EVERY]
    train = [text for index, text in enumerate(everything) if index % HELD_OUT_EVERY != HELD_OUT_EVERY - 1]
    return train, held_out
