"""A Hugging Face encoder on its way to a model folder."""

from __future__ import annotations

import argparse
import pathlib
import platform
import sys

import destination
import folder
import numpy
import onnxruntime
import torch
import transformers
from decoder import weights
from decoder.anatomy import Unsupported
from decoder.card import size

from . import families, parity, sentences
from .anatomy import Anatomy
from .graph import encoder_graph

SENTENCE = "In the beginning God created the heaven and the earth."
# Over the largest value, over 1 where that is smaller; the other two as a share of the values' size.
FULL_TOLERANCE = 1e-3
# Token vectors are normed at each layer, so that rounding weighs more than in a decoder's logits.
ROUNDED_TOLERANCE = 0.05
DYNAMIC_TOLERANCE = 0.1


def export(config, options: argparse.Namespace, command: str, source: str | None = None) -> None:
    """Writes the model folder; exits with a message where the graph does not do what torch does. `source` is what the card names."""
    if options.device == "cuda":
        raise Unsupported("--device cuda: decoders alone")
    if options.decode_weights:
        raise Unsupported("--decode-weights: decoders alone; an encoder has no steps")
    if options.cache != "float":
        raise Unsupported(f"--cache {options.cache}: decoders alone; an encoder keeps nothing")
    about = sentences.read(options.model)
    tokenizer = transformers.AutoTokenizer.from_pretrained(options.model)
    longest = families.check(config, None)
    context = families.check(config, options.context or min(about.max_tokens or longest, tokenizer.model_max_length, longest))
    form = weights.named(options.weights, options.block_size)
    print(f"reading {options.model}", flush=True)
    model = load(options.model, config, about)
    options.model = source or options.model
    with destination.written(options.output, options.overwrite):
        write(model, tokenizer, about, context, form, options, command)


def load(source: str, config, about: sentences.Sentences):
    """A model in float32, with the head that it is used with."""
    architecture = (config.architectures or [""])[0]
    kind = transformers.AutoModel
    if about.pooling is None and architecture.endswith("ForMaskedLM"):
        kind = transformers.AutoModelForMaskedLM
    elif about.pooling is None and architecture.endswith("ForSequenceClassification"):
        kind = transformers.AutoModelForSequenceClassification
    return kind.from_pretrained(source, dtype=torch.float32, attn_implementation="eager").eval()


def write(model, tokenizer, about: sentences.Sentences, context: int, form, options: argparse.Namespace, command: str) -> None:
    output, path = options.output, options.output / "model.onnx"
    anatomy = families.read(model, context)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    print(f"writing {path}: {model.config.model_type}, {size(parameters)} parameters, {options.weights}, at most {context} tokens", flush=True)
    encoder_graph(anatomy, form, options.padding).save(path)
    model.config.save_pretrained(output)
    tokenizer.save_pretrained(output)

    print("comparing with torch", flush=True)
    texts = parity.texts(anatomy, model.config.pad_token_id)
    original = parity.truth(model, texts)
    if options.weights != "fp32":
        parity.degrade(model, form, anatomy)
    seen = original if options.weights == "fp32" else parity.truth(model, texts)
    report = parity.Report(path, texts, seen, original)
    judge(report, options.weights)

    section = {"graph": path.name, "max_tokens": context} | settings(anatomy, about, options)
    if options.weights in weights.DEPENDENT:
        section["batch_invariant"] = False
    name = options.name or pathlib.PurePath(options.model.rstrip("/")).name
    folder.write(
        output,
        kind="encoder",
        description=f"{name}, {size(parameters)} parameters, {options.weights}",
        license=options.license,
        training_data=[f"what {options.model} was trained with"],
        section=section,
        golden=golden_pairs(path, tokenizer, anatomy),
        # Kernels for rounded activations differ between kinds of processor.
        golden_tolerance=FULL_TOLERANCE if options.weights == "fp32" else 0.05,
        card=card(name, model, anatomy, section, report, options, command),
    )
    print(f"wrote {output}: {sum(file.stat().st_size for file in output.iterdir()) / 1e6:.1f} MB")


def settings(anatomy: Anatomy, about: sentences.Sentences, options: argparse.Namespace) -> dict:
    """What the table [encoder] says beside graph and length."""
    if anatomy.head is not None:
        return {"head": anatomy.head.kind}
    section = {"pooling": options.pooling or about.pooling or "mean", "normalize": about.normalize, "dimensions": anatomy.width}
    if about.default_prompt:
        section["default_prompt_name"] = about.default_prompt
    return section | ({"prompts": about.prompts} if about.prompts else {})


def judge(report: parity.Report, form: str) -> None:
    """Prints what was measured; exits where it does not do."""
    print(f"  largest difference {report.largest:.1e} beside a largest value of {report.scale:.1f}; {report.relative:.1e} of their size")
    print(f"  least cosine with the original weights' vectors: {report.cosine:.5f}")
    print(f"  {'holds' if report.bits else 'DOES NOT HOLD'}: a text has the same bits alone and among others of its length", flush=True)
    faults = [] if report.bits or form in weights.DEPENDENT else ["a text's bits depend on what shares its run"]
    if form == "fp32" and not report.largest < FULL_TOLERANCE * report.scale:
        faults.append(f"values differ from torch by {report.largest:.1e}")
    tolerance = DYNAMIC_TOLERANCE if form in weights.DEPENDENT else ROUNDED_TOLERANCE
    if form != "fp32" and not report.relative < tolerance:
        faults.append(f"values differ from torch with the same weights by {report.relative:.1%}, allowed are {tolerance:.0%}")
    if report.padded is not None and form == "fp32" and not report.padded < FULL_TOLERANCE * report.scale:
        faults.append(f"a text beside a longer one differs by {report.padded:.1e}")
    if faults:
        sys.exit("\n".join(["error: the graph is not what it should be; no quintet.toml was written", *faults]))


def golden_pairs(path: pathlib.Path, tokenizer, anatomy: Anatomy) -> dict:
    """A sentence, and its tokens the other way round."""
    ids = numpy.array([tokenizer(SENTENCE).input_ids[: min(16, anatomy.context)]])
    inputs = {"input_ids": numpy.concatenate([ids, ids[:, ::-1]])}
    names = {tensor.name for tensor in onnxruntime.InferenceSession(str(path), providers=folder.REFERENCE_PROVIDER).get_inputs()}
    more = {
        "attention_mask": numpy.ones_like(inputs["input_ids"]),
        "token_type_ids": numpy.zeros_like(inputs["input_ids"]),
        "logit_index": numpy.array([1, ids.size + 1]),
    }
    inputs |= {name: value for name, value in more.items() if name in names}
    return folder.golden_pairs(path, inputs, ["last_hidden_state" if anatomy.head is None else "logits"])


def card(name: str, model, anatomy: Anatomy, section: dict, report: parity.Report, options: argparse.Namespace, command: str) -> str:
    truth = "float32 torch" if options.weights == "fp32" else "float32 torch with the same rounded weights"
    does = {
        None: f"token vectors; a text's is pooled by `{section.get('pooling')}`",
        "masked-lm": "logits over the vocabulary, of the tokens asked for",
        "classification": f"logits over {model.config.num_labels} classes",
    }[section.get("head")]
    company = "of any length (`attention_mask`)" if options.padding else "of its length"
    return f"""
# {name}

`{options.model}`, exported as an encoder (see Quintet's ARCHITECTURE.md). License: {options.license}.

* Shape: {model.config.model_type}, {size(sum(p.numel() for p in model.parameters()))} parameters, width {anatomy.width},
  {len(anatomy.blocks)} layers, {anatomy.heads} heads, vocabulary {anatomy.vocabulary}, at most {anatomy.context} tokens.
* Weights: {options.weights}.
* Gives {does}. A text shares runs with texts {company}.

## Measured against torch, random texts

* Values differ from {truth} by at most {report.largest:.1e}, where the largest is {report.scale:.1f}:
  {report.relative:.1e} of their size.
* The least cosine with the original weights' vectors is {report.cosine:.5f}.
* A text {"has the same bits alone and among others of its length" if report.bits else "has bits that depend on what shares its run"}.

## Make it again

    {command}

Python {platform.python_version()}, torch {torch.__version__}, transformers {transformers.__version__},
ONNX Runtime {onnxruntime.__version__}.
"""
