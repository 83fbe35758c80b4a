"""Runs the checks of one tokenizer and tells what differs."""

from __future__ import annotations

import dataclasses
import pathlib
import time
from collections.abc import Iterator, Sequence
from typing import Any

import grpc
from checks import Check, checks
from reference import Reference, load
from service import Service
from shrinking import shortest

import corpus
import other_formats

# The service takes 4,096 inputs a call, and 16 MiB.
_MOST_ITEMS = 4096
_MOST_BYTES = 2 << 20
# More examples of one check would be the same fault again.
_EXAMPLES = 4


@dataclasses.dataclass(frozen=True)
class Refused:
    """An answer that says no; why is shown, but one no is as good as another."""

    reason: str = dataclasses.field(compare=False)


@dataclasses.dataclass
class Outcome:
    """What came of one tokenizer."""

    tokenizer: str
    lines: int = 0
    size: int = 0
    seconds: float = 0.0
    mismatches: int = 0
    examples: list[str] = dataclasses.field(default_factory=list)


def _weight(item: Any) -> int:
    return len(item.encode()) if isinstance(item, str) else 4 * len(item) if isinstance(item, list) else sum(map(_weight, item))


def batches(items: Sequence[Any]) -> Iterator[list[Any]]:
    batch: list[Any] = []
    weight = 0
    for item in items:
        own = _weight(item)
        if batch and (len(batch) == _MOST_ITEMS or weight + own > _MOST_BYTES):
            yield batch
            batch, weight = [], 0
        batch.append(item)
        weight += own
    if batch:
        yield batch


def _answers(check: Check, batch: list[Any]) -> tuple[list[Any], list[Any]]:
    """What both say, the service working while the reference does; a batch that is refused is asked for one by one."""
    pending = check.service(batch)
    expected = _expected(check, batch)
    try:
        return pending(), expected
    except grpc.RpcError as error:
        if len(batch) == 1 or error.code() != grpc.StatusCode.INVALID_ARGUMENT:
            return [Refused(f"{error.code().name}: {error.details()}")] * len(batch), expected
    return [_answers(check, [item])[0][0] for item in batch], expected


def _expected(check: Check, batch: list[Any]) -> list[Any]:
    try:
        return check.reference(batch)
    except Exception as error:  # noqa: BLE001, the library raises bare exceptions
        return [Refused(str(error))] if len(batch) == 1 else [_expected(check, [item])[0] for item in batch]


def _differs(check: Check, item: Any) -> bool:
    got, expected = _answers(check, [item])
    return got != expected


def _told(tokenizer: str, check: Check, item: Any, reference: Reference) -> str:
    short = shortest(item, lambda part: _differs(check, part))
    (got,), (expected,) = _answers(check, [short])
    lines = [f"{tokenizer}, {check.name}: {ascii(short)[:2000]}"]
    return "\n".join([*lines, f"    service   {_shown(got, reference)}", f"    reference {_shown(expected, reference)}"])


def _shown(answer: Any, reference: Reference) -> str:
    """An answer, and how its ids are written."""
    if isinstance(answer, list):
        ids = [entry if isinstance(entry, int) else entry[0] for entry in answer]
        return f"{answer[:60]} {ascii([reference.token(number) for number in ids[:60]])}"
    return ascii(answer)[:1000]


def _run(outcome: Outcome, check: Check, reference: Reference) -> None:
    failed: list[Any] = []
    for batch in batches(check.items):
        got, expected = _answers(check, batch)
        if got != expected:
            failed += [item for item, mine, theirs in zip(batch, got, expected, strict=True) if mine != theirs]
    outcome.mismatches += len(failed)
    failed.sort(key=_weight)
    outcome.examples += dict.fromkeys(_told(outcome.tokenizer, check, item, reference) for item in failed[:_EXAMPLES])
    if failed:
        outcome.examples.append(f"{outcome.tokenizer}, {check.name}: {len(failed)} of {len(check.items)} differ")


def compare(address: str, models: pathlib.Path, root: pathlib.Path, name: str, index: int, count: int) -> Outcome:
    """Tries everything on one tokenizer."""
    begun = time.monotonic()
    outcome = Outcome(name)
    service = Service(address, name, add_special_tokens=name not in other_formats.SENTENCEPIECE)
    reference = load(models, name)
    lines: set[str] = set()
    for check in checks(service, reference, corpus.load(root), index, count):
        lines.update(item for item in check.items if isinstance(item, str))
        _run(outcome, check, reference)
    outcome.lines, outcome.size = len(lines), sum(map(_weight, lines))
    outcome.seconds = time.monotonic() - begun
    return outcome
