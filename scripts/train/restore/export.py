"""Exports the trained encoder and decoder, checks them against torch, measures them, and writes the model folder.

    python scripts/train/restore/export.py
"""

from __future__ import annotations

import argparse
import json
import pathlib
import platform
import shutil
import sys

import numpy
import onnxruntime
import tokenizers
import torch

import data
from measure import compare, restore
from model import Seq2Seq, Shape

ROOT = pathlib.Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT / "scripts/train"))
import folder  # noqa: E402

# The longest input and output that are served: the longest that it was trained on, in tokens. Beyond, copying fails.
SERVED_TOKENS = 144


class ExportedEncoder(torch.nn.Module):
    """Ids and mask to hidden states and the decoder layers' cross-attention keys and values."""

    def __init__(self, model: Seq2Seq):
        super().__init__()
        self.model = model

    def forward(self, input_ids, attention_mask):
        hidden = self.model.encode(input_ids, attention_mask)
        return hidden, *[part for pair in self.model.cross(hidden) for part in pair]


class ExportedDecoder(torch.nn.Module):
    """The next ids behind what has been decoded, to logits and all keys and values so far."""

    def __init__(self, model: Seq2Seq):
        super().__init__()
        self.model = model

    def forward(self, input_ids, encoder_attention_mask, *cache):
        half = len(cache) // 2
        pairs = lambda parts: list(zip(parts[0::2], parts[1::2]))  # noqa: E731
        logits, present = self.model.decode(input_ids, pairs(cache[half:]), pairs(cache[:half]), encoder_attention_mask)
        return logits, *[part for pair in present for part in pair]


def names(prefix: str, layers: int, kind: str) -> list[str]:
    return [f"{prefix}.{layer}.{kind}.{part}" for layer in range(layers) for part in ("key", "value")]


def export(model: Seq2Seq, target: pathlib.Path) -> None:
    shape = model.shape
    layers = shape.decoder_layers
    ids, mask = torch.full((2, 7), 5), torch.ones(2, 7, dtype=torch.int64)
    torch.onnx.export(
        ExportedEncoder(model).eval(), (ids, mask), str(target / "encoder_model.onnx"),
        input_names=["input_ids", "attention_mask"], output_names=["last_hidden_state", *names("present", layers, "encoder")],
        dynamic_axes={name: {0: "b", 1: "s"} for name in ("input_ids", "attention_mask", "last_hidden_state")}
        | {name: {0: "b", 2: "s"} for name in names("present", layers, "encoder")},
        opset_version=18, dynamo=False,
    )  # fmt: skip
    cross = [torch.zeros(2, shape.heads, 7, shape.head_size) for _ in range(2 * layers)]
    past = [torch.zeros(2, shape.heads, 3, shape.head_size) for _ in range(2 * layers)]
    torch.onnx.export(
        ExportedDecoder(model).eval(), (torch.full((2, 1), 5), mask, *cross, *past), str(target / "decoder_model.onnx"),
        input_names=["input_ids", "encoder_attention_mask", *names("past_key_values", layers, "encoder"), *names("past_key_values", layers, "decoder")],
        output_names=["logits", *names("present", layers, "decoder")],
        dynamic_axes={"input_ids": {0: "b", 1: "t"}, "encoder_attention_mask": {0: "b", 1: "s"}, "logits": {0: "b", 1: "t"}}
        | {name: {0: "b", 2: "s"} for name in names("past_key_values", layers, "encoder")}
        | {name: {0: "b", 2: "p"} for name in names("past_key_values", layers, "decoder")}
        | {name: {0: "b", 2: "q"} for name in names("present", layers, "decoder")},
        opset_version=18, dynamo=False,
    )  # fmt: skip


class Runtime:
    """The exported graphs, decoding greedily as the service does."""

    def __init__(self, target: pathlib.Path, shape: Shape):
        self.encoder, self.decoder = (
            onnxruntime.InferenceSession(str(target / file), providers=folder.REFERENCE_PROVIDER) for file in ("encoder_model.onnx", "decoder_model.onnx")
        )
        self.shape = shape

    def encode(self, ids: list[int]) -> dict[str, numpy.ndarray]:
        mask = numpy.ones((1, len(ids)), "i8")
        outputs = self.encoder.run(None, {"input_ids": numpy.array([ids], "i8"), "attention_mask": mask})
        cross = dict(zip(names("past_key_values", self.shape.decoder_layers, "encoder"), outputs[1:]))
        return {"encoder_attention_mask": mask} | cross

    def empty_past(self) -> dict[str, numpy.ndarray]:
        empty = numpy.zeros((1, self.shape.heads, 0, self.shape.head_size), "f4")
        return {name: empty for name in names("past_key_values", self.shape.decoder_layers, "decoder")}

    def greedy(self, ids: list[int]) -> list[int]:
        fixed, past, token, out = self.encode(ids), self.empty_past(), 0, []
        while token != 1 and len(out) < self.shape.max_tokens:
            logits, *present = self.decoder.run(None, fixed | past | {"input_ids": numpy.array([[token]], "i8")})
            past = dict(zip(past, present))
            token = int(logits[0, -1].argmax())
            out.append(token)
        return out


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--cache", type=pathlib.Path, default=pathlib.Path.home() / ".cache/quintet-train")
    arguments.add_argument("--checkpoint", default="final.pt")
    arguments.add_argument("--sentences", type=int, default=300, help="held-out sentences of each source to measure on")
    options = arguments.parse_args()
    torch.set_num_threads(2)
    trained = options.cache / "restore-case"
    saved = torch.load(trained / options.checkpoint)
    model = Seq2Seq(Shape())
    model.load_state_dict(saved["model"])
    model.eval()
    shape = model.shape
    tokenizer = tokenizers.Tokenizer.from_file(str(trained / "tokenizer.json"))
    target = ROOT / "deploy/models/restore-case/1"
    target.mkdir(parents=True, exist_ok=True)
    export(model, target)

    _, held_out = data.split()
    draw = torch.Generator().manual_seed(0)
    chosen = {name: [texts[i] for i in torch.randperm(len(texts), generator=draw)[: options.sentences].tolist()] for name, texts in held_out.items()}
    runtime = Runtime(target, shape)
    for text in [text for texts in chosen.values() for text in texts[:5]]:
        stripped = data.stripped(text)
        served = tokenizer.decode([token for token in runtime.greedy(tokenizer.encode(stripped).ids) if token > 1])
        (expected,) = restore(model, tokenizer, [stripped])
        assert served == expected, (served, expected)
    print("the exported graphs decode what torch decodes")

    tables, samples = [], []
    for name, truths in chosen.items():
        inputs = [data.stripped(text) for text in truths]
        outputs = restore(model, tokenizer, inputs)
        model.eval()
        ours, nothing = compare(outputs, truths), compare(inputs, truths)
        rows = "\n".join(f"| {key} | {nothing[key]:.3f} | **{ours[key]:.3f}** |" for key in ours)
        tables.append(f"{name}, {len(truths)} sentences:\n\n| | doing nothing | restore-case |\n|---|---|---|\n{rows}")
        samples += [f"    {a}\n    → {b}" for a, b in list(zip(inputs, outputs))[:2]]
        print(name, ours, nothing)
        assert ours["character error rate"] < nothing["character error rate"]
    shutil.copy(trained / "tokenizer.json", target / "tokenizer.json")
    config = {
        "architectures": ["T5ForConditionalGeneration"], "model_type": "t5", "d_model": shape.width, "d_kv": shape.head_size, "d_ff": shape.feed_forward,
        "num_layers": shape.encoder_layers, "num_decoder_layers": shape.decoder_layers, "num_heads": shape.heads, "vocab_size": shape.vocabulary,
        "n_positions": SERVED_TOKENS, "relative_attention_num_buckets": shape.buckets, "relative_attention_max_distance": shape.max_distance,
        "feed_forward_proj": "gated-gelu", "decoder_start_token_id": 0, "pad_token_id": 0, "eos_token_id": 1, "tie_word_embeddings": True,
    }  # fmt: skip
    (target / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    (target / "tokenizer_config.json").write_text(json.dumps({"eos_token": "</s>", "pad_token": "<pad>", "model_max_length": SERVED_TOKENS}, indent=2) + "\n")
    (target / "generation_config.json").write_text(json.dumps({"do_sample": False, "max_new_tokens": SERVED_TOKENS}, indent=2) + "\n")

    ids = tokenizer.encode("the lord is my shepherd").ids
    mask = numpy.ones((1, len(ids)), "i8")
    golden = folder.golden_pairs(target / "encoder_model.onnx", {"input_ids": numpy.array([ids], "i8"), "attention_mask": mask}, ["last_hidden_state"])
    first = runtime.encode(ids) | runtime.empty_past() | {"input_ids": numpy.array([[0]], "i8")}
    _, *present = runtime.decoder.run(None, first)
    second = runtime.encode(ids) | dict(zip(runtime.empty_past(), present)) | {"input_ids": numpy.array([[int(runtime.greedy(ids)[0])]], "i8")}
    golden |= folder.golden_pairs(target / "decoder_model.onnx", second, ["logits"])
    quality = "\n\n".join(tables)
    examples = "\n".join(samples)
    folder.write(
        target,
        kind="seq2seq",
        description="Restores case and punctuation of English",
        license="Apache-2.0",
        training_data=[
            "King James Bible (Debian bible-kjv-text), public domain: 19 of every 20 chapters",
            "Python's documentation (Debian python3-doc), PSF licence: prose of 19 of every 20 files",
        ],
        section={"encoder": "encoder_model.onnx", "decoder": "decoder_model.onnx"},
        golden=golden,
        golden_tolerance=2e-3,
        card=f"""
# restore-case

A small T5 (relative positions, gated GELU, RMSNorm, no biases) that restores case and punctuation: it reads lower case without
punctuation and writes the sentence. Encoder and decoder are apart; cross-attention keys and values are computed once.

* Shape: width {shape.width}, {shape.encoder_layers} + {shape.decoder_layers} layers, {shape.heads} heads, {sum(p.numel() for p in model.parameters()):,} parameters; byte-level BPE of {shape.vocabulary}, so that copying a
  word is copying its tokens; at most {SERVED_TOKENS} tokens.
* Data: verses of the King James Bible (Debian `bible-kjv-text`, public domain) and prose sentences of Python's documentation
  (Debian `python3-doc`, PSF licence), up to {data.MAX_BYTES} bytes. Weights: Apache-2.0.

## Quality

Greedy decoding of held-out sentences: every 20th chapter, every 20th file of the documentation; none of them in the training part.
"Doing nothing" leaves the input as it is. "Sentences with other letters" counts outputs whose letters and digits are not the input's.

{quality}

{examples}

## Make it, measure it again

    python scripts/train/restore/train.py --cpu-seconds {saved["spent"]:.0f}      # {saved["step"]} steps of about 3,600 tokens
    python scripts/train/restore/export.py                    # exports, checks against torch, prints the tables above

Seed 0; {saved["spent"]:.0f} CPU seconds of one thread. Python {platform.python_version()}, torch {torch.__version__}, tokenizers {tokenizers.__version__}, ONNX Runtime
{onnxruntime.__version__}.

## Limits

It has read two kinds of English, a sentence or verse at a time, and writes everything in their manner: give it one sentence of 4
to 40 words. Copying is learned, not built in: a few outputs in a hundred change a letter (the last row of each table), and single
words, other languages and invented words are often changed. Names that it has never seen often stay in lower case.
""",
    )  # fmt: skip


if __name__ == "__main__":
    main()
