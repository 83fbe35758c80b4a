"""Compares the graphs with torch, and asks whether a row's bits depend on what it shares a run with."""

from __future__ import annotations

import pathlib

import numpy
import torch
from decoder.report import Report

from .anatomy import Anatomy
from .runs import Row, Slots

# Of the inputs, and of the texts beside them, the first token of which is the one that every text begins with.
INPUTS = (48, 31, 17, 40, 2, 1, 25, 33)
TEXTS = (9, 14, 3, 12, 20, 7, 1, 16)

# Of each pair, a row for each token of its text.
Logits = list[numpy.ndarray]
Pair = tuple[list[int], list[int]]


def pairs(anatomy: Anatomy) -> list[Pair]:
    """Random inputs, and random texts for them."""
    draw = torch.Generator().manual_seed(0)

    def drawn(count: int) -> list[int]:
        return torch.randint(0, anatomy.vocabulary, (min(count, anatomy.context),), generator=draw).tolist()

    return [(drawn(input), [anatomy.start, *drawn(text)[1:]]) for input, text in zip(INPUTS, TEXTS)]


@torch.no_grad()
def truth(model, pairs: list[Pair]) -> Logits:
    run = lambda input, text: model(torch.tensor([input]), decoder_input_ids=torch.tensor([text]), use_cache=False)  # noqa: E731
    return [run(input, text).logits[0].float().numpy() for input, text in pairs]


def measure(folder: pathlib.Path, anatomy: Anatomy, pairs: list[Pair], seen: Logits, original: Logits) -> Report:
    """`seen`: torch's logits with the graphs' matrices, `original`: those of the model as it came."""
    report, everyone = Report(), list(range(len(pairs)))
    slots = Slots(folder, anatomy, len(pairs), max(TEXTS), max(INPUTS))
    alone = {slot: _stepped(slots, pairs, [slot])[slot] for slot in everyone}
    for slot, logits in alone.items():
        report.compare(logits, seen[slot], original[slot])

    def as_alone(order) -> bool:
        return all(numpy.array_equal(logits, alone[slot]) for slot, logits in _stepped(slots, pairs, order).items())

    together = all(as_alone(everyone[:count]) for count in (2, 3, 5, 8))
    report.bits.append(("a step has the same bits alone and among 2, 3, 5 and 8", together))
    report.bits.append(("a step has the same bits in another row", as_alone(everyone[::-1])))
    report.bits.append(("an input has the same bits alone and among 3 of its length", _encodes_as_alone(slots, pairs[0][0])))
    return report


def _stepped(slots: Slots, pairs: list[Pair], order) -> dict[int, numpy.ndarray]:
    """The logits of some texts, run together in rows of this order: each ends where it ends, and the others go on."""
    got = {slot: [] for slot in order}
    for slot in order:
        slots.encode(slot, pairs[slot][0])
    for step in range(max(len(pairs[slot][1]) for slot in order)):
        running = [slot for slot in order if step < len(pairs[slot][1])]
        rows = [Row(slot, pairs[slot][1][step], step, len(pairs[slot][0])) for slot in running]
        for slot, logits in zip(running, slots.step(rows)):
            got[slot].append(logits)
    return {slot: numpy.array(logits) for slot, logits in got.items()}


def _encodes_as_alone(slots: Slots, input: list[int]) -> bool:
    inputs = [input[::-1], input, sorted(input)]
    together, alone = slots.encoded(inputs), [slots.encoded([input]) for input in inputs]
    return all(numpy.array_equal(value[row], alone[row][name][0]) for name, value in together.items() for row in range(len(inputs)))
