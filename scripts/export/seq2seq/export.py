"""Writes the model folder of an encoder–decoder."""

from __future__ import annotations

import argparse
import pathlib
from collections.abc import Callable

import folder
import torch
import transformers
from decoder import weights
from decoder.anatomy import Unsupported
from decoder.parity import degrade
from decoder.report import Report

from . import card, families, graphs, parity, runs
from .anatomy import Anatomy


def check(config, options: argparse.Namespace) -> int:
    """The most tokens of an input and of an output; raises Unsupported for what cannot be had."""
    if options.device == "cuda":
        raise Unsupported("--device cuda: decoders alone")
    if options.decode_weights:
        raise Unsupported("--decode-weights: an encoder-decoder's steps have a graph of their own already")
    if not options.ragged:
        raise Unsupported("--without-ragged: an encoder-decoder's graphs have no query_seqlens")
    if options.cache != "float":
        raise Unsupported(f"--cache {options.cache}: decoders alone; an encoder writes keys and values of its own in full")
    weights.named(options.weights, options.block_size)
    return families.check(config, options.context)


def load(source: str):
    """A model in float32, and its tokenizer."""
    model = transformers.AutoModelForSeq2SeqLM.from_pretrained(source, dtype=torch.float32, attn_implementation="eager")
    return model.eval(), transformers.AutoTokenizer.from_pretrained(source)


def export(model, tokenizer, context: int, options: argparse.Namespace, command: str, judge: Callable[[Report, str], None]) -> None:
    """Writes the model folder. `judge` exits with a message where the graphs do not do what torch does."""
    output = options.output
    anatomy = families.read(model, context)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    family, size = model.config.model_type, card.size(parameters)
    print(f"writing {output}: {family}, {size} parameters, {options.weights}, context {context}", flush=True)
    form = lambda: weights.named(options.weights, options.block_size)  # noqa: E731: each graph needs its own
    graphs.encoder_graph(anatomy, form()).save(output / runs.ENCODER)
    graphs.step_graph(anatomy, form()).save(output / runs.DECODER)
    save_settings(model, tokenizer, context, output)

    print("comparing with torch", flush=True)
    pairs = parity.pairs(anatomy)
    original = seen = parity.truth(model, pairs)
    if options.weights != "fp32":
        degrade(model, form())
        seen = parity.truth(model, pairs)
    report = parity.measure(output, anatomy, pairs, seen, original)
    judge(report, options.weights)

    name = options.name or pathlib.PurePath(options.model.rstrip("/")).name
    about = card.Export(name, options.model, options.license, family, parameters, options.weights, command)
    section = {"encoder": runs.ENCODER, "decoder": runs.DECODER, "form": "slots"}
    if options.weights in weights.DEPENDENT:
        section["batch_invariant"] = False
    folder.write(
        output,
        kind="seq2seq",
        description=f"{name}, {size} parameters, {options.weights}",
        license=options.license,
        training_data=[f"what {options.model} was trained with"],
        section=section,
        golden=golden_pairs(output, tokenizer, anatomy),
        # Kernels for rounded activations differ between kinds of processor.
        golden_tolerance=1e-3 if options.weights == "fp32" else 0.05,
        card=card.card(about, anatomy, report),
    )
    megabytes = sum(file.stat().st_size for file in output.iterdir()) / 1e6
    print(f"wrote {output}: {megabytes:.1f} MB")


def save_settings(model, tokenizer, context: int, output: pathlib.Path) -> None:
    """config.json, generation_config.json and the tokenizer's files, as transformers writes them."""
    learned = getattr(model.config, "max_position_embeddings", None) is not None
    setattr(model.config, "max_position_embeddings" if learned else "n_positions", context)
    model.config.save_pretrained(output)
    model.generation_config.save_pretrained(output)
    tokenizer.save_pretrained(output)


def golden_pairs(output: pathlib.Path, tokenizer, anatomy: Anatomy) -> dict:
    """An input, and a step of two texts beside its keys and values, of which one reads all of it and one the first half."""
    ids = tokenizer("In the beginning God created the heaven and the earth.").input_ids[: min(12, anatomy.context)]
    slots = runs.Slots(output, anatomy, 2, 4, len(ids))
    encoded = slots.encoded([ids])
    last = len(anatomy.decoder.blocks) - 1
    pairs = folder.golden_pairs(output / runs.ENCODER, {"input_ids": [ids]}, ["present.0.encoder.key", f"present.{last}.encoder.value"])
    for name, value in encoded.items():
        slots.cache[name][:, :, : len(ids)] = value
    inputs = runs.feed([runs.Row(0, anatomy.start, 0, len(ids)), runs.Row(1, ids[0], 1, max(1, len(ids) // 2))])
    inputs |= {f"past_key_values.{name}": value for name, value in slots.cache.items()}
    return pairs | folder.golden_pairs(output / runs.DECODER, inputs, ["logits"])
