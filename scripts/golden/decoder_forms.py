"""A checkpoint in the forms that other exporters write, and whether a graph of any form continues prompts as transformers does."""

from __future__ import annotations

import pathlib
import subprocess
import sys

import numpy
import onnx
import onnxruntime
import torch
import transformers

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path += [str(ROOT / "scripts/export"), str(ROOT / "scripts/train")]
import folder as model_folder  # noqa: E402
from decoder import runs  # noqa: E402


def concat(checkpoint: str, folder: pathlib.Path) -> None:
    """As Optimum names things, and transformers.js reads them: padded batches, and a cache that each run gives back longer."""
    model = transformers.AutoModelForCausalLM.from_pretrained(checkpoint, dtype=torch.float32, attn_implementation="eager").eval()
    config, layers = model.config, model.config.num_hidden_layers
    # All different, and none 0 or 1, which torch.export would take for constants.
    batch, past, new = 2, 3, 4
    cache = torch.zeros(batch, config.num_key_value_heads, past, config.head_dim)
    pairs = [f"{layer}.{part}" for layer in range(layers) for part in ("key", "value")]
    arguments = (
        torch.zeros(batch, new, dtype=torch.int64),
        torch.ones(batch, past + new, dtype=torch.int64),
        torch.arange(past, past + new).expand(batch, new).contiguous(),
        [cache.clone() for _ in pairs],
    )
    b, s, p, t = (torch.export.Dim(name) for name in ("batch_size", "sequence_length", "past_sequence_length", "total_sequence_length"))
    torch.onnx.export(
        Concat(model).eval(), arguments, folder / "model.onnx", dynamo=True, opset_version=18, external_data=False, verbose=False,
        input_names=["input_ids", "attention_mask", "position_ids", *(f"past_key_values.{pair}" for pair in pairs)],
        output_names=["logits", *(f"present.{pair}" for pair in pairs)],
        dynamic_shapes=({0: b, 1: s}, {0: b, 1: t}, {0: b, 1: s}, [{0: b, 2: p} for _ in pairs]),
    )  # fmt: skip
    strip(folder / "model.onnx")
    config.save_pretrained(folder)
    model.generation_config.save_pretrained(folder)
    transformers.AutoTokenizer.from_pretrained(checkpoint).save_pretrained(folder)


class Concat(torch.nn.Module):
    """A model whose cache comes in and goes out as plain tensors."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, input_ids, attention_mask, position_ids, past):
        cache = transformers.DynamicCache()
        for layer in range(0, len(past), 2):
            cache.update(past[layer], past[layer + 1], layer // 2)
        output = self.model(input_ids, attention_mask=attention_mask, position_ids=position_ids, cache=cache, use_cache=True)
        return (output.logits, *(part for layer in cache.layers for part in (layer.keys, layer.values)))


def strip(path: pathlib.Path) -> None:
    """Takes out the stack traces of the machine that it was made on, and the shapes of what lies between."""
    model_folder.strip(path)
    model = onnx.load(path)
    # A third of the file, and any runtime infers it.
    model.graph.ClearField("value_info")
    onnx.save(model, path)


def genai(checkpoint: str, folder: pathlib.Path) -> None:
    """As onnxruntime-genai's model builder writes it."""
    downloads = folder / "cache"
    arguments = ["-i", checkpoint, "-o", folder, "-p", "fp32", "-e", "cpu", "-c", downloads]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    subprocess.run([sys.executable, "-m", "onnxruntime_genai.models.builder", *arguments], check=True, **quiet)
    # It makes the folder for downloads even where there are none.
    if downloads.exists():
        downloads.rmdir()


def check(folder: pathlib.Path, prompts: list[dict], steps: int, tolerance: float = 1e-4) -> None:
    """Exits unless the graph, with its cache, chooses the tokens of the reference, from first logits close to its own."""
    session = onnxruntime.InferenceSession(str(folder / "model.onnx"), providers=["CPUExecutionProvider"])
    packed = any(tensor.name == "pad_index" for tensor in session.get_inputs())
    for prompt in prompts:
        tokens, worst = continued_in_place(session, prompt, steps) if packed else continued(session, prompt, steps)
        if tokens != prompt["continuation"] or worst > tolerance:
            raise SystemExit(f"{folder}: other tokens than the reference, or first logits that differ by {worst:.1e}")


def continued(session, prompt: dict, steps: int) -> tuple[list[int], float]:
    """With a cache that grows: each run's present is the next one's past."""
    shapes = {tensor.name: tensor.shape for tensor in session.get_inputs()}
    past = {name: numpy.zeros((1, shape[1], 0, 16), "f4") for name, shape in shapes.items() if name.startswith("past")}
    outputs = [tensor.name for tensor in session.get_outputs()]
    new, length, tokens, worst = prompt["ids"], 0, [], 0.0
    for step in range(steps):
        places = numpy.arange(length, length + len(new))[None]
        length += len(new)
        inputs = {"input_ids": numpy.array([new], "i8"), "attention_mask": numpy.ones((1, length), "i8"), "position_ids": places, **past}
        results = dict(zip(outputs, session.run(outputs, {name: inputs[name] for name in shapes})))
        past = {name: results[name.replace("past_key_values", "present")] for name in past}
        new, worst = chosen(results["logits"][0, -1], prompt, step, worst)
        tokens += new
    return tokens, worst


def continued_in_place(session, prompt: dict, steps: int) -> tuple[list[int], float]:
    """With one slot of a cache that stays where it is."""
    inputs = session.get_inputs()
    names, past = {tensor.name for tensor in inputs}, [tensor for tensor in inputs if tensor.name.startswith("past")]
    empty = {tensor.name: numpy.zeros((1, tensor.shape[1], 80, tensor.shape[3]), runs.KINDS[tensor.type]) for tensor in past}
    cache = {name: onnxruntime.OrtValue.ortvalue_from_numpy(values) for name, values in empty.items()}
    new, length, tokens, worst = prompt["ids"], 0, [], 0.0
    for step in range(steps):
        binding = session.io_binding()
        for name, value in runs.feed([runs.Row(0, new, length)], names, every=False).items():
            binding.bind_ortvalue_input(name, onnxruntime.OrtValue.ortvalue_from_numpy(value))
        for name, value in cache.items():
            binding.bind_ortvalue_input(name, value)
            binding.bind_ortvalue_output(name.replace("past_key_values", "present"), value)
        binding.bind_output("logits")
        session.run_with_iobinding(binding)
        length += len(new)
        new, worst = chosen(binding.get_outputs()[-1].numpy()[0], prompt, step, worst)
        tokens += new
    return tokens, worst


def chosen(logits: numpy.ndarray, prompt: dict, step: int, worst: float) -> tuple[list[int], float]:
    """The best token, and how far the first logits are from the reference."""
    if step == 0:
        worst = float(abs(logits[:16] - prompt["first_logits"]).max())
    return [int(logits.argmax())], worst
