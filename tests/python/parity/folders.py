"""Model folders of Quintet's, written with what `training.py` trains."""

from __future__ import annotations

import concurrent.futures
import hashlib
import json
import multiprocessing
import pathlib

import added_tokens
import byte_level
import corpus
import other_formats
import pieces
import words
from training import Trained

HUGGING_FACE = byte_level.KINDS | pieces.KINDS | words.KINDS | added_tokens.KINDS

FORMATS = {"hugging-face": HUGGING_FACE, "tiktoken": other_formats.TIKTOKEN, "sentencepiece": other_formats.SENTENCEPIECE}

# Which are made by one process, so that no model is trained twice. The second has all that SentencePiece trains.
_SHARES = (
    (*byte_level.KINDS, *other_formats.TIKTOKEN, "added-on-bytes"),
    (*pieces.KINDS, *words.KINDS, *other_formats.SENTENCEPIECE, "added-on-bert"),
)


def names() -> list[str]:
    """All tokenizers, in the order that decides which lines each sees."""
    return [name for kinds in FORMATS.values() for name in kinds]


def manifest(files: dict[str, bytes], table: str = "") -> str:
    """The quintet.toml of a folder with nothing but a tokenizer."""
    lines = ["schema = 1", 'kind = "tokenizer"', 'description = ""', 'license = ""', "training_data = []", "golden_tolerance = 0.0", "[tokenizer]", table, "[sha256]"]
    lines += [f'"{name}" = "{hashlib.sha256(content).hexdigest()}"' for name, content in files.items()]
    return "\n".join(lines) + "\n"


def write(models: pathlib.Path, name: str, files: dict[str, bytes], table: str = "") -> None:
    folder = models / name / "1"
    folder.mkdir(parents=True, exist_ok=True)
    for file, content in files.items():
        (folder / file).write_bytes(content)
    (folder / "quintet.toml").write_text(manifest(files, table), "utf-8")


def _make(models: pathlib.Path, name: str, trained: Trained) -> None:
    if name in HUGGING_FACE:
        definition = json.dumps(HUGGING_FACE[name](trained), ensure_ascii=False).encode()
        write(models, name, {"tokenizer.json": definition, "tokenizer_config.json": b'{"model_max_length": 8192}'})
    elif name in other_formats.TIKTOKEN:
        pattern = other_formats.TIKTOKEN[name]
        ranks = other_formats.ranks(trained, pattern)
        special = f'special_tokens = {{ "{other_formats.END}" = {len(ranks.splitlines())} }}'
        write(models, name, {"tokenizer.tiktoken": ranks}, f'pattern = "{pattern}"\n{special}')
    else:
        write(models, name, {"tokenizer.model": other_formats.SENTENCEPIECE[name](trained)})


def _make_share(models: pathlib.Path, wanted: list[str], root: pathlib.Path) -> None:
    trained = Trained(corpus.load(root))
    for name in wanted:
        _make(models, name, trained)


def make(models: pathlib.Path, root: pathlib.Path, wanted: list[str]) -> None:
    """Writes a folder for each of the wanted tokenizers, in two processes."""
    shares = [[name for name in share if name in wanted] for share in _SHARES]
    with concurrent.futures.ProcessPoolExecutor(2, multiprocessing.get_context("fork")) as pool:
        for done in [pool.submit(_make_share, models, share, root) for share in shares]:
            done.result()
