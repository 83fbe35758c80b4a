"""Compares the tokenization service with the reference implementations on some hundred thousand lines.

    python tests/python/parity/parity.py --models FOLDER --make
    quintet-tokenization --listen 127.0.0.1:0 --set models.path=FOLDER
    python tests/python/parity/parity.py --models FOLDER --address 127.0.0.1:PORT

The first writes model folders with tokenizers that it trains, the last tries each of them on its share of the lines.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import multiprocessing
import os
import pathlib
import tempfile
import time

# Two processes share the work: threads in each would only be in the way, and of the service's too.
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["RAYON_NUM_THREADS"] = "1"

import corpus  # noqa: E402
import folders  # noqa: E402
import service  # noqa: E402
from comparing import Outcome, compare  # noqa: E402


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=pathlib.Path, required=True, help="the folder of model folders")
    parser.add_argument("--make", action="store_true", help="write the model folders, and compare nothing")
    parser.add_argument("--address", help="the service, as HOST:PORT")
    parser.add_argument("--only", help="these tokenizers alone, with commas between")
    parser.add_argument("--root", type=pathlib.Path, default=pathlib.Path(__file__).resolve().parents[3], help="the repository")
    parsed = parser.parse_args()
    if not parsed.make and not parsed.address:
        parser.error("--make or --address is needed")
    return parsed


def outcomes(parsed: argparse.Namespace, names: list[str]) -> list[Outcome]:
    only = set(parsed.only.split(",")) if parsed.only else set(names)
    # Forked before the first channel is opened, and after the corpus is loaded: processes share it, and gRPC does not mind.
    with concurrent.futures.ProcessPoolExecutor(2, multiprocessing.get_context("fork")) as pool:
        work = [
            pool.submit(compare, parsed.address, parsed.models, parsed.root, name, index, len(names)) for index, name in enumerate(names) if name in only
        ]
        for done in concurrent.futures.as_completed(work):
            outcome = done.result()
            print("\n".join([*outcome.examples, f"{outcome.tokenizer}: {outcome.mismatches} mismatches in {outcome.seconds:.1f} s"]), flush=True)
        return [done.result() for done in work]


def table(rows: list[Outcome]) -> str:
    width = max(len(row.tokenizer) for row in rows)
    head = f"{'tokenizer':{width}}  {'lines':>8}  {'MB':>6}  {'seconds':>7}  {'mismatches':>10}"
    body = [f"{row.tokenizer:{width}}  {row.lines:8,}  {row.size / 1e6:6.1f}  {row.seconds:7.1f}  {row.mismatches:10,}" for row in rows]
    lines, size, mismatches = (sum(getattr(row, field) for row in rows) for field in ("lines", "size", "mismatches"))
    return "\n".join([head, *body, f"{'all':{width}}  {lines:8,}  {size / 1e6:6.1f}  {'':7}  {mismatches:10,}"])


def main() -> None:
    parsed = arguments()
    begun = time.monotonic()
    lines = corpus.load(parsed.root)
    print(f"{len(lines.real):,} real lines, {len(lines.hostile):,} hostile, {len(lines.long)} long: {lines.size() / 1e6:.1f} MB, read in {time.monotonic() - begun:.1f} s")
    names = folders.names()
    if parsed.make:
        folders.make(parsed.models, parsed.root, names)
        print(f"{len(names)} tokenizers made in {time.monotonic() - begun:.1f} s")
        return
    with tempfile.TemporaryDirectory() as stubs:
        service.generate(parsed.root / "proto", pathlib.Path(stubs))
        rows = outcomes(parsed, names)
    print(table(rows))
    print(f"{time.monotonic() - begun:.1f} s")
    if any(row.mismatches for row in rows):
        raise SystemExit(1)
    print("all of it agrees")


if __name__ == "__main__":
    main()
