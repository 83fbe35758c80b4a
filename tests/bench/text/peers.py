#!/usr/bin/env python3
"""One round of an engine's measurements, in this process.

    python3 tests/bench/text/peers.py out/bench/text ENGINE SHAPE ROUND SLOTS CONTEXT THREADS MEASUREMENT…

Prints a line of JSON for each: {"measurement": …, "requests": [{"prompt_tokens": …, "tokens": …, "times": […]}]} with seconds since
they were all asked for, text in, token ids out (turning those into text is spared them); of "prefix" one request after the other, each
from its own beginning; and at the end {"resident": …, "weights": …} in bytes.
"""
import json
import pathlib
import sys
import time

from tokenizers import Tokenizer

sys.path.append(str(pathlib.Path(__file__).resolve().parent))
import engines  # noqa: E402


def main():
    root, name, shape, number, slots, context, threads, *asked = sys.argv[1:]
    root = pathlib.Path(root)
    prompts = json.loads((root / "texts/prompts.json").read_text("utf-8"))
    prompts = prompts[int(number) % len(prompts)]
    tokenizer = Tokenizer.from_file(str(root / "checkpoints" / shape / "tokenizer.json"))
    engine = engines.load(name, root / "peers" / name / shape, int(slots), int(context), int(threads))
    measured(engine, tokenizer, prompts["warm-up"][: int(slots)])
    for measurement in asked:
        requests = prompts[measurement]
        answer = prefixed(engine, tokenizer, requests) if measurement == "prefix" else measured(engine, tokenizer, requests)
        print(json.dumps({"measurement": measurement, "requests": answer}), flush=True)
    print(json.dumps({"resident": resident(), "weights": engine.weights}), flush=True)


def measured(engine, tokenizer, requests):
    begun = time.perf_counter()
    times = engine.run([read(tokenizer, request) for request in requests])
    return [answered(request, [at - begun for at in times]) for request, times in zip(requests, times)]


def prefixed(engine, tokenizer, requests):
    seconds = engine.prefixed([read(tokenizer, request) for request in requests])
    return [answered(request, [first]) for request, first in zip(requests, seconds or [])]


def read(tokenizer, request):
    ids = tokenizer.encode(request["prompt"], add_special_tokens=False).ids
    assert len(ids) == request["prompt_tokens"], f"{len(ids)} tokens in place of {request['prompt_tokens']}"
    return engines.Request(ids, request["new_tokens"])


def answered(request, times):
    return {"prompt_tokens": request["prompt_tokens"], "tokens": len(times), "times": times}


def resident():
    for line in pathlib.Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return 1024 * int(line.split()[1])


if __name__ == "__main__":
    main()
