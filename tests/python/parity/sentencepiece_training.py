"""Trains SentencePiece's models, each in a process of its own: the trainer ends a process that was forked, or that trained by
`tokenizers` before, with "terminate called after throwing an instance of 'std::system_error'"."""

from __future__ import annotations

import concurrent.futures
import io
import multiprocessing

import sentencepiece


def _trained(lines: list[str], options: dict[str, object]) -> bytes:
    written = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines), model_writer=written, minloglevel=2, num_threads=1, max_sentence_length=4192, **options
    )
    return written.getvalue()


def train(lines: list[str], **options: object) -> bytes:
    """A .model file. SentencePiece ends its own strings at NUL, so lines with one are left out."""
    with concurrent.futures.ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(_trained, [line for line in lines if "\0" not in line], options).result(timeout=120)
