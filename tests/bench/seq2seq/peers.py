#!/usr/bin/env python3
"""One round of a peer's measurement, in this process.

    python3 tests/bench/seq2seq/peers.py out/bench/seq2seq PEER ROUND THREADS

PEER is ctranslate2-fp32, ctranslate2-int8 or transformers (float32, one padded batch). Prints a line of JSON: {"tokens": …, "seconds": …}
from the moment when all texts were asked for to the last token of the last, token ids in and out.
"""
import json
import pathlib
import sys
import time

from tokenizers import Tokenizer


def main():
    root, peer, number, threads = sys.argv[1:]
    root = pathlib.Path(root)
    prompts = json.loads((root / "texts/prompts.json").read_text("utf-8"))[int(number)]
    tokenizer = Tokenizer.from_file(str(root / "checkpoint/tokenizer.json"))
    name, _, precision = peer.partition("-")
    engine = {"ctranslate2": CTranslate2, "transformers": Transformers}[name](root, precision, int(threads))
    for measurement in ("warm-up", "sixteen"):
        inputs = [tokenizer.encode(request["prompt"], add_special_tokens=False).ids for request in prompts[measurement]]
        assert [len(ids) for ids in inputs] == [request["prompt_tokens"] for request in prompts[measurement]]
        wanted = prompts[measurement][0]["new_tokens"]
        begun = time.perf_counter()
        counts = engine.run(inputs, wanted)
        seconds = time.perf_counter() - begun
        assert counts == [wanted] * len(inputs), counts
    print(json.dumps({"tokens": sum(counts), "seconds": seconds}))


class CTranslate2:
    """Its batch is static: texts that are asked for at once run as one, sorted by length as it does by itself."""

    def __init__(self, root, precision, threads):
        import ctranslate2

        folder = root / "ctranslate2" / precision
        form = {"fp32": "float32", "int8": "int8"}[precision]
        self.translator = ctranslate2.Translator(str(folder), device="cpu", compute_type=form, inter_threads=1, intra_threads=threads)
        self.names = json.loads((folder / "shared_vocabulary.json").read_text("utf-8"))

    def run(self, inputs, wanted):
        names = [[self.names[token] for token in ids] for ids in inputs]
        lengths = {"max_decoding_length": wanted, "min_decoding_length": wanted}
        results = self.translator.translate_batch(names, beam_size=1, end_token=[], **lengths)
        return [len(result.hypotheses[0]) for result in results]


class Transformers:
    def __init__(self, root, precision, threads):
        import torch
        import transformers

        torch.set_num_threads(threads)
        transformers.logging.set_verbosity_error()
        self.torch = torch
        self.model = transformers.AutoModelForSeq2SeqLM.from_pretrained(root / "checkpoint", dtype=torch.float32).eval()

    def run(self, inputs, wanted):
        torch, longest = self.torch, max(map(len, inputs))
        ids = torch.tensor([row + [0] * (longest - len(row)) for row in inputs])
        mask = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in inputs])
        with torch.inference_mode():
            found = self.model.generate(ids, attention_mask=mask, max_new_tokens=wanted, min_new_tokens=wanted, do_sample=False)
        return [found.shape[1] - 1] * len(inputs)


if __name__ == "__main__":
    main()
