"""Compares an encoder's graph with torch, and asks whether a text's bits depend on what it shares a run with."""

from __future__ import annotations

import pathlib

import numpy
import torch
from decoder.runs import session
from decoder.weights import Weights

from .anatomy import Anatomy

LENGTHS = (3, 8, 17, 31, 64, 120)
ROWS = 8


class Text:
    """Random tokens [rows, length] and their types: `ROWS` texts of one length."""

    def __init__(self, anatomy: Anatomy, padding_id: int | None, length: int, draw: torch.Generator):
        ids = torch.randint(1, anatomy.vocabulary, (ROWS, length), generator=draw)
        # torch counts positions past padding tokens, which no text has.
        self.ids = torch.where(ids == padding_id, (ids + 1) % anatomy.vocabulary, ids) if padding_id is not None else ids
        second = torch.arange(length)[None] >= torch.randint(1, length + 1, (ROWS, 1), generator=draw)
        self.types = second.long() if anatomy.types is not None else None

    def inputs(self, rows: slice, names: set[str]) -> dict[str, numpy.ndarray]:
        ids = self.ids[rows].numpy()
        inputs = {"input_ids": ids, "attention_mask": numpy.ones_like(ids), "logit_index": numpy.arange(ids.size)}
        if self.types is not None:
            inputs["token_type_ids"] = self.types[rows].numpy()
        return {name: value for name, value in inputs.items() if name in names}


def texts(anatomy: Anatomy, padding_id: int | None) -> list[Text]:
    draw = torch.Generator().manual_seed(0)
    return [Text(anatomy, padding_id, length, draw) for length in sorted({min(length, anatomy.context) for length in (*LENGTHS, anatomy.context)})]


@torch.no_grad()
def truth(model, texts: list[Text]) -> list[numpy.ndarray]:
    """Token vectors or logits; those of a vocabulary with rows and tokens in one dimension, as the graph gives them."""
    found = []
    for text in texts:
        types = {} if text.types is None else {"token_type_ids": text.types}
        outputs = model(input_ids=text.ids, attention_mask=torch.ones_like(text.ids), **types)
        values = outputs.logits if hasattr(outputs, "logits") else outputs.last_hidden_state
        found.append(values.flatten(0, 1).numpy() if values.dim() == 3 and hasattr(outputs, "logits") else values.numpy())
    return found


@torch.no_grad()
def degrade(model, weights: Weights, anatomy: Anatomy) -> None:
    """Gives torch the matrices that the graph has. The embedding keeps its own, also where the head shared it."""
    output = model.get_output_embeddings()
    if output is not None:
        output.weight = torch.nn.Parameter(weights.head.seen(output.weight).clone())
    classes = anatomy.head.output.parts[0] if anatomy.head is not None and anatomy.head.kind == "classification" else None
    for module in model.modules():
        if isinstance(module, torch.nn.Linear) and module is not output and module.weight is not classes:
            module.weight.copy_(weights.layers.seen(module.weight))


class Report:
    """What a comparison found."""

    def __init__(self, path: pathlib.Path, texts: list[Text], seen: list[numpy.ndarray], original: list[numpy.ndarray]):
        """`seen`: torch's values with the graph's matrices, `original`: those of the model as it came."""
        self.session = session(path)
        self.names = {tensor.name for tensor in self.session.get_inputs()}
        got = [self._run(text, slice(None)) for text in texts]
        flat = [numpy.concatenate([part.ravel().astype("f8") for part in parts]) for parts in (got, seen)]
        self.largest = float(numpy.nan_to_num(abs(flat[0] - flat[1]), nan=numpy.inf).max())
        self.scale = max(1.0, float(abs(flat[1]).max()))
        self.relative = float(numpy.linalg.norm(flat[0] - flat[1]) / numpy.linalg.norm(flat[1]))
        self.cosine = min(float(_cosines(part, true).min()) for part, true in zip(got, original))
        self.bits = all(self._apart(text, whole) for text, whole in zip(texts, got))
        self.padded = self._padded(texts, got) if "attention_mask" in self.names else None

    def _run(self, text: Text, rows: slice) -> numpy.ndarray:
        return self.session.run(None, text.inputs(rows, self.names))[0]

    def _apart(self, text: Text, whole: numpy.ndarray) -> bool:
        """Whether each text has in smaller company, and alone, the bits that it has among all."""
        each = len(whole) // ROWS
        parts = [[slice(row, row + 1) for row in range(ROWS)], [slice(0, 3), slice(3, ROWS)], [slice(0, 5), slice(5, ROWS)]]
        return all(numpy.array_equal(self._run(text, rows), whole[rows.start * each : rows.stop * each]) for cut in parts for rows in cut)

    def _padded(self, texts: list[Text], got: list[numpy.ndarray]) -> float:
        """The largest difference where a text stands beside one of the greatest length."""
        longest, worst = texts[-1], 0.0
        width = longest.ids.shape[1]
        for text, alone in zip(texts[:-1], got):
            length = text.ids.shape[1]
            short, long = text.inputs(slice(0, 1), self.names), longest.inputs(slice(0, 1), self.names)
            filled = {name: numpy.pad(short[name], ((0, 0), (0, width - length))) for name in short if name != "logit_index"}
            inputs = {name: numpy.concatenate([value, long[name]]) for name, value in filled.items()}
            if "logit_index" in self.names:
                inputs["logit_index"] = numpy.arange(length)
            beside = self.session.run(None, inputs)[0]
            mine = beside if "logit_index" in self.names else beside[:1, :length] if beside.ndim == 3 else beside[:1]
            worst = max(worst, float(abs(mine - alone[: len(alone) // ROWS]).max()))
        return worst


def _cosines(got: numpy.ndarray, true: numpy.ndarray) -> numpy.ndarray:
    rows, others = got.reshape(-1, got.shape[-1]), true.reshape(-1, true.shape[-1])
    return (rows * others).sum(-1) / (numpy.linalg.norm(rows, axis=-1) * numpy.linalg.norm(others, axis=-1))
