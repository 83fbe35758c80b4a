"""Trains SentencePiece's models, each by a program of its own: the trainer ends a process that has other libraries' threads, or was
forked, with "terminate called after throwing an instance of 'std::system_error'"."""

from __future__ import annotations

import io
import json
import subprocess
import sys


def train(lines: list[str], **options: object) -> bytes:
    """A .model file. SentencePiece ends its own strings at NUL, so lines with one are left out."""
    work = json.dumps({"lines": [line for line in lines if "\0" not in line], "options": options})
    return subprocess.run([sys.executable, __file__], input=work.encode(), stdout=subprocess.PIPE, check=True, timeout=120).stdout


def main() -> None:
    import sentencepiece

    work = json.load(sys.stdin)
    written = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(work["lines"]), model_writer=written, minloglevel=2, num_threads=1, max_sentence_length=4192, **work["options"]
    )
    sys.stdout.buffer.write(written.getvalue())


if __name__ == "__main__":
    main()
