#!/usr/bin/env python3
"""A decoder of a size that people serve, for scripts/bench speculation.

    python3 tests/bench/speculation/models.py out/bench/speculation

Writes OUT/models/bytes/1: a Llama of 12 layers and 85 million random weights in 8 bits, with a token for each byte, so that a text that a
guide gives has one spelling in tokens. What is there already stays.
"""
import pathlib
import subprocess
import sys
import tempfile

import torch
import transformers

ROOT = pathlib.Path(__file__).resolve().parents[3]
sys.path += [str(ROOT / "scripts/golden")]
import decoders  # noqa: E402

CONTEXT = 2048


def main() -> None:
    output = pathlib.Path(sys.argv[1]) / "models/bytes/1"
    if (output / "quintet.toml").exists():
        return
    torch.manual_seed(7)
    # Weights so wide that a text does not settle on one token, and so narrow that rounding does not grow past what the exporter lets pass.
    config = transformers.LlamaConfig(
        vocab_size=decoders.VOCABULARY, hidden_size=768, intermediate_size=2048, num_hidden_layers=12, num_attention_heads=12,
        num_key_value_heads=4, head_dim=64, max_position_embeddings=CONTEXT, initializer_range=0.02, bos_token_id=0, eos_token_id=1,
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as checkpoint:
        transformers.AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16).save_pretrained(checkpoint)
        decoders.tokenizer().save_pretrained(checkpoint)
        script = str(ROOT / "scripts/export/text.py")
        named = ["--weights", "int8", "--license", "Apache-2.0", "--name", "bytes", "--overwrite"]
        subprocess.run([sys.executable, script, checkpoint, str(output), *named], check=True)


if __name__ == "__main__":
    main()
