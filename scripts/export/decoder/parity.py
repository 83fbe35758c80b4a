"""Compares a packed graph with torch, and asks whether a row's bits depend on what it shares a run with."""

from __future__ import annotations

import pathlib

import numpy
import torch

from . import runs
from .anatomy import Anatomy
from .report import Report
from .runs import Row, Slots
from .weights import Weights

# Of each text, a row for each token.
Logits = list[numpy.ndarray]

# Of the prompts.
LENGTHS = (48, 31, 17, 40, 2, 9, 25, 33)
# Steps that each slot takes behind its prompt.
STEPS = 6
# Room in the cache behind the tokens, for padding.
ROOM = 32


def texts(anatomy: Anatomy) -> list[list[int]]:
    """Random token ids: prompts, each with its steps behind it."""
    draw = torch.Generator().manual_seed(0)
    counts = [min(length + STEPS, anatomy.context) for length in LENGTHS]
    return [torch.randint(0, anatomy.vocabulary, (count,), generator=draw).tolist() for count in counts]


@torch.no_grad()
def truth(model, texts: list[list[int]]) -> Logits:
    return [model(torch.tensor([text]), use_cache=False).logits[0].float().numpy() for text in texts]


@torch.no_grad()
def degrade(model, weights: Weights) -> None:
    """Gives torch the matrices that the graph has. The head and the embedding come apart, also where they were one."""
    head, embedding = model.get_output_embeddings(), model.get_input_embeddings()
    head.weight = torch.nn.Parameter(weights.head.seen(head.weight).clone())
    embedding.weight.copy_(weights.embedding.seen(embedding.weight))
    for module in model.modules():
        if isinstance(module, torch.nn.Linear) and module is not head:
            module.weight.copy_(weights.layers.seen(module.weight))
        elif type(module).__name__ == "Conv1D":
            module.weight.copy_(weights.layers.seen(module.weight.T).T)


def matrices(model) -> dict[str, torch.Tensor]:
    """The model's tensors as they are now."""
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


@torch.no_grad()
def restore(model, matrices: dict[str, torch.Tensor]) -> None:
    """Gives them back. A head that the embedding shared may have a tensor of its own by now."""
    for name, tensor in model.state_dict().items():
        tensor.copy_(matrices[name])


def measure(path: pathlib.Path, anatomy: Anatomy, texts: list[list[int]], seen: Logits, original: Logits) -> Report:
    """`seen`: torch's logits with the graph's matrices, `original`: those of the model as it came."""
    trial = Trial(path, anatomy, texts, seen, original)
    trial.prompts()
    trial.steps()
    trial.first_tokens()
    trial.tile()
    if trial.ragged:
        trial.mixed_prompts()
        trial.mixed_steps()
    return trial.report


class Trial:
    """One graph, its texts, and what torch makes of them."""

    def __init__(self, path: pathlib.Path, anatomy: Anatomy, texts: list[list[int]], seen: Logits, original: Logits):
        self.session, self.anatomy, self.texts, self.seen, self.original = runs.session(path), anatomy, texts, seen, original
        self.ragged = any(tensor.name == "query_seqlens" for tensor in self.session.get_inputs())
        self.heads = [text[:-STEPS] for text in texts]
        self.report = Report()
        # What each prompt, and each text's steps, give alone.
        self.whole: Logits = []
        self.alone: Logits = []

    def empty(self, slots: int = 1, tokens: int | None = None) -> Slots:
        return Slots(self.session, self.anatomy, slots, (tokens or max(map(len, self.texts))) + ROOM)

    def compare(self, got: numpy.ndarray, index: int, start: int) -> None:
        part = slice(start, start + len(got))
        self.report.compare(got, self.seen[index][part], self.original[index][part])

    def prompts(self) -> None:
        self.whole = [self._prefilled(prompt, [len(prompt)]) for prompt in self.heads]
        for index, logits in enumerate(self.whole):
            self.compare(logits, index, 0)
        cut = ([2, 3, 5], [16], [7, 2])
        same = all(
            numpy.array_equal(self._prefilled(prompt, sizes), logits) for prompt, logits in zip(self.heads, self.whole) for sizes in cut
        )
        self.report.bits.append(("a prompt alone has the same bits in one piece and in chunks of 2 tokens or more", same))

    def steps(self) -> None:
        everyone = range(len(self.texts))
        self.alone = [self._stepped([slot])[slot] for slot in everyone]
        for slot, logits in enumerate(self.alone):
            self.compare(logits, slot, len(self.heads[slot]))
        orders = [range(count) for count in (2, 3, 5, 8)]
        same = all(self._as_alone(self._stepped(order)) for order in orders)
        self.report.bits.append(("at width 1 a step has the same bits alone and among 2, 3, 5 and 8", same))
        same = self._as_alone(self._stepped(everyone[::-1]))
        self.report.bits.append(("at width 1 a step has the same bits in another row", same))

    def first_tokens(self) -> None:
        alone = [self.empty().run([Row(0, text[:1])])[0] for text in self.texts]
        for index, logits in enumerate(alone):
            self.compare(logits, index, 0)
        together = self.empty(len(self.texts)).run([Row(slot, text[:1]) for slot, text in enumerate(self.texts)])
        same = all(map(numpy.array_equal, alone, together))
        self.report.bits.append(("at width 1 a first token has the same bits alone and among 8", same))

    def tile(self) -> None:
        """Whether the last token of a chunk that is one longer than a tile has other bits than it has beside others."""
        length = self.anatomy.tile + 1
        if length > self.anatomy.context:
            return
        draw = torch.Generator().manual_seed(1)
        text = torch.randint(0, self.anatomy.vocabulary, (length,), generator=draw).tolist()
        whole = self.empty(tokens=length).run([Row(0, text)])[0]
        slots = self.empty(tokens=length)
        slots.run([Row(0, text[:-3])])
        last = slots.run([Row(0, text[-3:], length - 3)])[0]
        bits = "the same bits as" if numpy.array_equal(last, whole[-3:]) else "OTHER bits than"
        self.report.notes.append(f"a chunk of {length} tokens, one more than a tile, gives its last token {bits} a shorter one")

    def mixed_prompts(self) -> None:
        """Chunks of three prompts beside an idle slot, in runs of ragged rows."""
        prompts, slots, got = self.heads[:3], self.empty(4), [[], [], []]
        cuts = [chunks(len(prompt), sizes, self.anatomy.tile) for prompt, sizes in zip(prompts, ([16, 20], [5, 26], [9, 8]))]
        for turn in range(max(map(len, cuts))):
            # A prompt that has ended idles with what it holds.
            pieces = [cut[turn] if turn < len(cut) else (len(prompt), len(prompt)) for cut, prompt in zip(cuts, prompts)]
            rows = [Row(slot, prompts[slot][start:end], start) for slot, (start, end) in enumerate(pieces)]
            for part, logits in zip(got, slots.run([*rows, Row(3, [])])):
                part.append(logits)
        same = all(numpy.array_equal(numpy.concatenate(part), expected) for part, expected in zip(got, self.whole))
        self.report.bits.append(("prompts in chunks beside each other and an idle slot have the bits that they have alone", same))

    def mixed_steps(self) -> None:
        """The first text's steps at width 2 and more, and at width 1 beside an idle slot."""
        text, other, start = self.texts[0], self.heads[3], len(self.heads[0])
        wide, beside, idling = [], [], []
        with_idle, with_chunk, narrow = self.empty(2), self.empty(2), self.empty(2)
        for slots in (with_idle, with_chunk, narrow):
            slots.run([Row(0, text[:start])])
        for step in range(STEPS):
            row, chunk = Row(0, [text[start + step]], start + step), Row(1, other[6 * step : 6 * step + 6], 6 * step)
            wide += with_idle.run([row, Row(1, [])], width=2)[:1]
            beside += with_chunk.run([row, chunk], width=2)[:1]
            idling += narrow.run([Row(1, []), row])[1:]
        wide, beside, idling = map(numpy.concatenate, (wide, beside, idling))
        self.compare(wide, 0, start)
        same = numpy.array_equal(wide, beside)
        self.report.bits.append(("at width 2 or more a step has the same bits beside an idle slot and beside a prompt chunk", same))
        self.report.bits.append(("at width 1 a step has the same bits beside an idle slot", numpy.array_equal(idling, self.alone[0])))
        bits = "the same bits as" if numpy.array_equal(wide, self.alone[0]) else "OTHER bits than"
        self.report.notes.append(f"a step at width 2 has {bits} at width 1")

    def _prefilled(self, prompt: list[int], sizes: list[int]) -> numpy.ndarray:
        slots, pieces = self.empty(), chunks(len(prompt), sizes, self.anatomy.tile)
        return numpy.concatenate([slots.run([Row(0, prompt[start:end], start)])[0] for start, end in pieces])

    def _stepped(self, order) -> dict[int, numpy.ndarray]:
        """The logits of the steps of some texts, in rows of this order, behind prompts that ran one by one."""
        slots, got = self.empty(len(self.texts)), {slot: [] for slot in order}
        for slot in order:
            slots.run([Row(slot, self.heads[slot])])
        for step in range(STEPS):
            at = {slot: len(self.heads[slot]) + step for slot in order}
            for slot, logits in zip(order, slots.run([Row(slot, [self.texts[slot][at[slot]]], at[slot]) for slot in order])):
                got[slot].append(logits)
        return {slot: numpy.concatenate(parts) for slot, parts in got.items()}

    def _as_alone(self, steps: dict[int, numpy.ndarray]) -> bool:
        return all(numpy.array_equal(logits, self.alone[slot]) for slot, logits in steps.items())


def chunks(length: int, sizes: list[int], tile: int) -> list[tuple[int, int]]:
    """Cuts of these sizes in turn, changed where one would leave a token alone in its tile (see `Anatomy.tile`)."""
    cuts, start, turn = [], 0, 0
    while start < length:
        end = min(length, start + sizes[turn % len(sizes)])
        if length - end == 1:
            end = length
        if (end - start) % tile == 1:
            end -= 2
        cuts.append((start, end))
        start, turn = end, turn + 1
    return cuts
