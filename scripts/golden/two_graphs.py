"""Writes tests/models/two_graphs: a tiny Llama with a graph for prompts (w8a8) and one for steps (int8).

    python scripts/golden/two_graphs.py

needs what scripts/export/text.py needs, and a processor whose 8-bit products do not saturate.
"""

from __future__ import annotations

import pathlib
import sys
import tempfile

import torch
import transformers

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path += [str(ROOT / "scripts/export"), str(ROOT / "scripts/golden")]
import decoders  # noqa: E402
import destination  # noqa: E402
import text  # noqa: E402
from decoder import weights  # noqa: E402

FOLDER = ROOT / "tests/models/two_graphs/1"
BLOCK = 64


@torch.no_grad()
def main() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = transformers.LlamaForCausalLM._from_config(decoders.CONFIGS["llama"](), attn_implementation="eager").eval()
    decoders.stir(model)
    with tempfile.TemporaryDirectory() as checkpoint:
        decoders.save(model, checkpoint)
        forms = ["--weights", "w8a8", "--decode-weights", "int8", "--block-size", str(BLOCK)]
        options = text.parsed([checkpoint, str(FOLDER), "--name", "two_graphs", "--license", "Apache-2.0", "--overwrite", *forms])
        destination.emptied(FOLDER, overwrite=True)
        loaded = text.load(checkpoint)
        options.model = "random weights, llama"
        text.export(*loaded, decoders.CONTEXT, weights.named(options.weights, BLOCK), options, "python scripts/golden/two_graphs.py")


if __name__ == "__main__":
    main()
