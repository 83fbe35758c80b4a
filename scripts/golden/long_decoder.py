"""Writes tests/models/long: a tiny GPT-2 of one head, whose texts are longer than a block of keys that attention takes at a time.

    python scripts/golden/long_decoder.py

needs what scripts/export/text.py needs. A block has as many tokens as a 32nd of the processor's second-level cache has bytes for a head of
this size: 512 with 1 MiB, 1,024 with 2 MiB.
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

FOLDER = ROOT / "tests/models/long/1"
CONTEXT = 1152


def main() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    config = transformers.GPT2Config(
        vocab_size=decoders.VOCABULARY, n_embd=64, n_inner=64, n_layer=1, n_head=1, n_positions=CONTEXT, initializer_range=0.2,
        bos_token_id=0, eos_token_id=decoders.END,
    )  # fmt: skip
    model = transformers.GPT2LMHeadModel._from_config(config, attn_implementation="eager").eval()
    decoders.stir(model)
    with tempfile.TemporaryDirectory() as checkpoint:
        decoders.save(model, checkpoint)
        options = text.parsed([checkpoint, str(FOLDER), "--name", "long", "--license", "Apache-2.0", "--overwrite"])
        destination.emptied(FOLDER, overwrite=True)
        loaded = text.load(checkpoint)
        options.model = "random weights, gpt2"
        text.export(*loaded, CONTEXT, weights.named("fp32"), options, "python scripts/golden/long_decoder.py")


if __name__ == "__main__":
    main()
