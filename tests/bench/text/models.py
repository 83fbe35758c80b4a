#!/usr/bin/env python3
"""What the benchmark runs: prompts, and random-weight models in the form of each engine.

    python3 tests/bench/text/models.py out/bench/text [--shape:llama] [--peers:llama.cpp,openvino]

Writes OUT/texts (the prompts and their tokenizer), OUT/checkpoints/SHAPE (Hugging Face), OUT/models/SHAPE/1 (ours) and
OUT/peers/ENGINE/SHAPE. What is there already stays.
"""
import json
import pathlib
import random
import shutil
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[2]
sys.path += [str(HERE), str(HERE.parent)]


def flag(name, default):
    prefix = f"--{name}:"
    return next((argument[len(prefix) :].split(",") for argument in sys.argv if argument.startswith(prefix)), default)


def once(path, write):
    """Calls `write` with a folder that becomes `path` when it is whole."""
    if path.exists():
        return
    unfinished = path.with_name(path.name + ".unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    print(f"making {path}", flush=True)
    try:
        write(unfinished)
    except NotImplementedError as error:
        print(f"left out: {error}", flush=True)
        shutil.rmtree(unfinished)
    else:
        unfinished.rename(path)


def prepare(folder):
    """The tokenizer, and the prompts that are counted with it."""
    import english
    import prompts

    texts = list(dict.fromkeys(text for text in english.prose() if text))
    random.Random(7).shuffle(texts)
    text = " ".join(texts)
    tokenizer = english.byte_level(list(english.kilobytes(text))[::4])
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "prompts.json").write_text(json.dumps(prompts.drawn(tokenizer, text), ensure_ascii=False), "utf-8")


def checkpoint(shape, texts, folder):
    import checkpoints
    from tokenizers import Tokenizer

    checkpoints.write(shape, Tokenizer.from_file(str(texts / "tokenizer.json")), folder)


def export(source, folder):
    """By the exporter that anybody uses."""
    script = str(ROOT / "scripts/export/text.py")
    # One graph for prompts, one for steps: each in the form that is quickest at it and keeps a row's bits.
    form = ["--weights", "w8a8", "--decode-weights", "int8", "--block-size", "64"]
    subprocess.run([sys.executable, script, str(source), str(folder / "1"), *form, "--license", "Apache-2.0"], check=True)


if __name__ == "__main__":
    import engines

    root = pathlib.Path(sys.argv[1])
    once(root / "texts", prepare)
    for shape in flag("shape", ["llama", "gpt2", "qwen"]):
        source = root / "checkpoints" / shape
        once(source, lambda folder: checkpoint(shape, root / "texts", folder))
        once(root / "models" / shape, lambda folder: export(source, folder))
        for peer in flag("peers", engines.NAMES):
            once(root / "peers" / peer / shape, lambda folder: engines.convert(peer, source, folder))
