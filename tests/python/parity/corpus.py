"""All the text that tokenizers are tried on, in one order at every run."""

from __future__ import annotations

import dataclasses
import functools
import pathlib
import random

import hostile_text
import real_text

# Each tokenizer sees at least so many real lines, besides all hostile ones.
WINDOW = 12_000


@dataclasses.dataclass(frozen=True)
class Corpus:
    """Real lines in a shuffled order, hostile ones, and a few that are very long."""

    real: list[str]
    hostile: list[str]
    long: list[str]

    def window(self, index: int, count: int) -> list[str]:
        """The real lines of the `index`-th of `count` tokenizers: together they see every line."""
        start = len(self.real) * index // count
        length = max(WINDOW, -(-len(self.real) // count))
        return [*self.real, *self.real][start : start + length] if start + length > len(self.real) else self.real[start : start + length]

    def sample(self, megabytes: float) -> list[str]:
        """What tokenizers are trained on: real lines up to this many megabytes, so that lines stay that they never saw."""
        lines: list[str] = []
        left = megabytes * 1e6
        for line in self.real:
            if left <= 0:
                break
            lines.append(line)
            left -= len(line.encode())
        return lines

    def size(self) -> int:
        """Bytes of all of it."""
        return sum(len(line.encode()) for line in (*self.real, *self.hostile, *self.long))


@functools.cache
def load(root: pathlib.Path) -> Corpus:
    real = [line for line in dict.fromkeys(real_text.everything(root)) if _travels(line)]
    random.Random(19).shuffle(real)
    hostile = list(dict.fromkeys(hostile_text.short()))
    return Corpus(real, hostile, list(hostile_text.long(real)))


def _travels(line: str) -> bool:
    """Whether gRPC can carry it: a lone surrogate, which some literals in the standard library spell, it cannot."""
    try:
        line.encode()
    except UnicodeEncodeError:
        return False
    return True
