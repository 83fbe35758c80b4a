#!/usr/bin/env python3
"""What the benchmark of encoder–decoders runs: inputs, and a model of T5-small's shape with random weights in the form of each engine.

    python3 tests/bench/seq2seq/models.py out/bench/seq2seq

Writes OUT/texts (the inputs and their tokenizer), OUT/checkpoint (Hugging Face), OUT/models/CLASS/1 (ours) and OUT/ctranslate2/CLASS, of
which the classes are fp32 and int8. What is there already stays.
"""
import json
import pathlib
import random
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[2]
# In front: this script has the name of another there.
sys.path[:0] = [str(HERE.parent), str(HERE.parent / "text")]
import checkpoints  # noqa: E402
import english  # noqa: E402
import prompts  # noqa: E402

ROUNDS = 7
AT_ONCE = 16
INPUT = (32, 128)
OUTPUT = 64
# Ours and CTranslate2's names of a precision: weights and activations of 8 bits, each with a scale a row.
CLASSES = {"fp32": ("fp32", "float32"), "int8": ("w8a8", "int8")}


def once(path, write):
    """Calls `write` with a folder that becomes `path` when it is whole."""
    if path.exists():
        return
    unfinished = path.with_name(path.name + ".unfinished")
    unfinished.mkdir(parents=True, exist_ok=True)
    print(f"making {path}", flush=True)
    write(unfinished)
    unfinished.rename(path)


def texts(folder):
    prose = list(dict.fromkeys(text for text in english.prose() if text))
    random.Random(7).shuffle(prose)
    text = " ".join(prose)
    tokenizer = english.byte_level(list(english.kilobytes(text))[::4])
    tokenizer.save(str(folder / "tokenizer.json"))
    rounds = [round(tokenizer, text, seed) for seed in range(ROUNDS)]
    (folder / "prompts.json").write_text(json.dumps(rounds, ensure_ascii=False), "utf-8")


def round(tokenizer, text, seed):
    cutter, lengths = prompts.Cutter(tokenizer, text, seed), random.Random(seed)

    def inputs(count):
        drawn = [lengths.randint(*INPUT) for _ in range(count)]
        return [{"prompt": cutter.piece(tokens), "prompt_tokens": tokens, "new_tokens": OUTPUT} for tokens in drawn]

    return {"warm-up": inputs(2), "sixteen": inputs(AT_ONCE)}


def checkpoint(texts, folder):
    import torch
    import transformers
    from tokenizers import Tokenizer

    torch.manual_seed(7)
    config = transformers.T5Config(decoder_start_token_id=0, n_positions=512, tie_word_embeddings=True)
    model = transformers.T5ForConditionalGeneration(config)
    model.save_pretrained(folder)
    tokenizer = checkpoints.widened(Tokenizer.from_file(str(texts / "tokenizer.json")), config.vocab_size)
    special = {f"{name}_token": "<|endoftext|>" for name in ("eos", "pad", "unk")}
    fast = transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, clean_up_tokenization_spaces=False, **special)
    fast.save_pretrained(folder)


def ours(source, form, folder):
    """By the exporter that anybody uses."""
    script = str(ROOT / "scripts/export/text.py")
    command = [sys.executable, script, str(source), str(folder / "1"), "--weights", form, "--license", "Apache-2.0", "--overwrite"]
    subprocess.run(command, check=True)


def ctranslate2(source, form, folder):
    import ctranslate2

    ctranslate2.converters.TransformersConverter(str(source)).convert(str(folder), quantization=form, force=True)


if __name__ == "__main__":
    root = pathlib.Path(sys.argv[1])
    once(root / "texts", texts)
    once(root / "checkpoint", lambda folder: checkpoint(root / "texts", folder))
    for name, (form, theirs) in CLASSES.items():
        once(root / "models" / f"t5-{name}", lambda folder: ours(root / "checkpoint", form, folder))
        once(root / "ctranslate2" / name, lambda folder: ctranslate2(root / "checkpoint", theirs, folder))
