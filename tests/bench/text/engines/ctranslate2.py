"""CTranslate2 with int8 weights (one scale a row; activations are rounded too). Its batches are static: texts that are asked for at once run
as one, and those that are done leave it."""
import json
import time

import ctranslate2


def convert(checkpoint, folder):
    converter = ctranslate2.converters.TransformersConverter(str(checkpoint))
    converter.convert(str(folder), quantization="int8", force=True)
    # Our tokenizer knows every byte and so has no token for what it does not know; the file must name one.
    path = folder / "config.json"
    settings = json.loads(path.read_text())
    path.write_text(json.dumps(settings | {name: "<|endoftext|>" for name, value in settings.items() if name.endswith("_token") and value is None}))


class Engine:
    def __init__(self, folder, slots, context, threads):
        self.weights = (folder / "model.bin").stat().st_size
        self.generator = ctranslate2.Generator(str(folder), device="cpu", compute_type="int8", inter_threads=1, intra_threads=threads)
        # What a token is called: the interface takes names and the benchmark has ids.
        self.names = json.loads((folder / "vocabulary.json").read_text("utf-8"))

    def run(self, requests, prefix=None):
        times = [[] for _ in requests]

        def came(step):
            times[step.batch_id].append(time.perf_counter())
            return len(times[step.batch_id]) == requests[step.batch_id].new_tokens

        most = max(request.new_tokens for request in requests)
        self.generator.generate_batch(
            [self._named(request.ids) for request in requests], max_length=most, min_length=most, sampling_topk=1, callback=came,
            include_prompt_in_result=False, static_prompt=prefix and self._named(prefix), end_token=[],
        )  # fmt: skip
        return times

    def prefixed(self, requests):
        """What all begin with is named beforehand; it is kept from its first use on."""
        heads = [request.ids for request in requests]
        shared = next(at for at, tokens in enumerate(zip(*heads)) if len(set(tokens)) > 1)
        seconds = []
        for request in requests:
            begun = time.perf_counter()
            rest = type(request)(request.ids[shared:], request.new_tokens)
            (times,) = self.run([rest], request.ids[:shared])
            seconds.append(times[0] - begun)
        return seconds

    def _named(self, ids):
        return [self.names[token] for token in ids]

