"""What a comparison of a graph with torch found."""

from __future__ import annotations

import numpy


class Report:
    """Sums up differences of logits, and keeps what held of a row's bits."""

    def __init__(self):
        # The largest difference of two logits, and the largest logit, 1 at least.
        self.largest, self.scale = 0.0, 1.0
        # Statements that must hold, each with whether it did.
        self.bits: list[tuple[str, bool]] = []
        # What a server has to know besides.
        self.notes: list[str] = []
        self._error = self._size = 0.0
        self._agreed = self._count = 0

    def compare(self, got: numpy.ndarray, seen: numpy.ndarray, original: numpy.ndarray) -> None:
        """Rows of logits: the graph's, torch's with the graph's matrices, and those of the model as it came."""
        difference = got.astype("f8") - seen
        # A NaN must not get lost in a maximum.
        self.largest = max(self.largest, float(numpy.nan_to_num(abs(difference), nan=numpy.inf).max()))
        self.scale = max(self.scale, float(abs(seen).max()))
        self._error += float((difference**2).sum())
        self._size += float((seen.astype("f8") ** 2).sum())
        self._agreed += int((got.argmax(-1) == original.argmax(-1)).sum())
        self._count += len(got)

    @property
    def relative(self) -> float:
        """The size of the differences over that of torch's logits."""
        return (self._error / self._size) ** 0.5

    @property
    def agreement(self) -> float:
        """Of the tokens that the model as it came puts first, the share that the graph puts first."""
        return self._agreed / self._count

    def failures(self) -> list[str]:
        return [statement for statement, held in self.bits if not held]
