"""Makes what fails short."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

# Each try is a call: an example that is not the shortest is worth more than waiting.
_MOST_TRIES = 400


def shortest(item: Any, fails: Callable[[Any], bool]) -> Any:
    """A part of `item` that still fails, from which nothing can be taken: a text, ids, or a pair of texts."""
    tries = _Tries(fails)
    if isinstance(item, tuple):
        first = _shorter(item[0], lambda text: tries((text, item[1])))
        return first, _shorter(item[1], lambda text: tries((first, text)))
    return _shorter(item, tries)


class _Tries:
    def __init__(self, fails: Callable[[Any], bool]) -> None:
        self._fails, self._left = fails, _MOST_TRIES

    def __call__(self, item: Any) -> bool:
        self._left -= 1
        return self._left >= 0 and self._fails(item)


def _shorter(whole: Any, fails: Callable[[Any], bool]) -> Any:
    """Takes away halves, quarters and so on down to single characters, as long as what is left fails."""
    size = max(1, len(whole) // 2)
    while True:
        start, shrunk = 0, False
        while start < len(whole):
            rest = whole[:start] + whole[start + size :]
            if len(rest) < len(whole) and fails(rest):
                whole, shrunk = rest, True
            else:
                start += size
        if size == 1 and not shrunk:
            return whole
        size = max(1, size // 2)
