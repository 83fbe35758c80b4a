"""onnxruntime-genai on the CPU, with the graph of its own model builder in 8 bits. A lone text runs in a `Generator`, texts that are asked
for at once in an `Engine`, which batches them. The builder has no GPT-2."""
import json
import shutil
import subprocess
import sys
import time

import numpy
import onnxruntime_genai as native


def convert(checkpoint, folder):
    if json.loads((checkpoint / "config.json").read_text())["model_type"] == "gpt2":
        raise NotImplementedError("onnxruntime-genai's model builder has no GPT-2")
    builder = [sys.executable, "-m", "onnxruntime_genai.models.builder"]
    cache = folder / "cache"
    # As our own weights are: blocks of 32, activations rounded to 8 bits.
    options = ["--extra_options", "block_size=32", "accuracy_level=4"]
    subprocess.run([*builder, "-i", str(checkpoint), "-o", str(folder), "-p", "int8", "-e", "cpu", "-c", str(cache), *options], check=True)
    shutil.rmtree(cache, ignore_errors=True)


class Engine:
    def __init__(self, folder, slots, context, threads):
        self.weights = sum(path.stat().st_size for path in folder.glob("model.onnx*"))
        self.slots, self.context = slots, context
        config = native.Config(str(folder))
        decoder = {"session_options": {"intra_op_num_threads": threads}}
        engine = {"static_batching": {"max_batch_size": slots}} if slots > 1 else {}
        config.overlay(json.dumps({"model": {"decoder": decoder}, "search": {"max_length": context}, **({"engine": engine} if engine else {})}))
        self.model = native.Model(config)
        self.engine = native.Engine(self.model) if slots > 1 else None

    def run(self, requests):
        return self._alone(requests) if self.engine is None else self._together(requests)

    def prefixed(self, requests):
        """What the second prompt shares with the first is kept by hand: its generator is wound back."""
        generator, known, seconds = self._generator(), [], []
        for request in requests:
            begun = time.perf_counter()
            shared = next((at for at, (a, b) in enumerate(zip(known, request.ids)) if a != b), len(known))
            generator.rewind_to(shared)
            generator.append_tokens(numpy.array([request.ids[shared:]], "i4"))
            generator.generate_next_token()
            seconds.append(time.perf_counter() - begun)
            known = request.ids
        return seconds

    def _generator(self):
        parameters = native.GeneratorParams(self.model)
        parameters.set_search_options(max_length=self.context, min_length=self.context, do_sample=False)
        return native.Generator(self.model, parameters)

    def _alone(self, requests):
        """One after the other, where there is room for one."""
        every = []
        for request in requests:
            generator, times = self._generator(), []
            generator.append_tokens(numpy.array([request.ids], "i4"))
            while len(times) < request.new_tokens:
                generator.generate_next_token()
                times.append(time.perf_counter())
            every.append(times)
        return every

    def _together(self, requests):
        times, running = {}, {}
        for place, request in enumerate(requests):
            handle = self.engine.create_request()
            options = native.TurnOptions(handle)
            options.set_do_sample(False)
            options.set_min_generated_tokens(request.new_tokens)
            options.set_max_generated_tokens(request.new_tokens)
            handle.begin_turn(numpy.array(request.ids, "i4"), options)
            running[place], times[place] = handle, []
        places = {handle: place for place, handle in running.items()}
        buffer = self.engine.create_event_buffer(4 * len(requests))
        while self.engine.has_pending_requests():
            events = self.engine.run(buffer)
            now = time.perf_counter()
            for event in events:
                if event.flags & native.EngineEventFlags.FAILED:
                    raise RuntimeError(f"the engine failed: {event.error_code}")
                if event.flags & native.EngineEventFlags.TOKEN:
                    times[places[event.request]].append(now)
        for handle in running.values():
            handle.close()
        return list(times.values())
