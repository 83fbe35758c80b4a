"""OpenVINO GenAI, by its pipeline for continuous batching, with 8-bit weights as Optimum Intel exports them (one scale a row) and all else
as it comes: on processors that have them bfloat16 activations, and an 8-bit cache."""
import pathlib
import subprocess
import time

import numpy
import openvino
import openvino_genai

BLOCK = 32


def convert(checkpoint, folder):
    """In an environment of its own: Optimum Intel 2.2 takes transformers up to 5.5."""
    program = pathlib.Path(__file__).resolve().parents[4] / ".venv-bench-text-openvino/bin/optimum-cli"
    task = ["--task", "text-generation-with-past", "--weight-format", "int8"]
    subprocess.run([str(program), "export", "openvino", "--model", str(checkpoint), *task, str(folder)], check=True)


class Engine:
    def __init__(self, folder, slots, context, threads):
        self.weights = (folder / "openvino_model.bin").stat().st_size
        scheduler = openvino_genai.SchedulerConfig()
        scheduler.max_num_seqs = slots
        scheduler.num_kv_blocks = slots * -(-context // BLOCK) + 1
        scheduler.enable_prefix_caching = True
        # On from the start; a prompt that nobody has seen pays for its hashes alone.
        scheduler.dynamic_split_fuse = True
        self.pipeline = openvino_genai.ContinuousBatchingPipeline(str(folder), scheduler, "CPU", {"INFERENCE_NUM_THREADS": threads})
        self.next = 0

    def run(self, requests):
        times = {}
        handles = []
        for request in requests:
            handles.append((self.next, self.pipeline.add_request(self.next, openvino.Tensor(numpy.array([request.ids], "i8")), settings(request))))
            times[self.next] = []
            self.next += 1
        while self.pipeline.has_non_finished_requests():
            self.pipeline.step()
            now = time.perf_counter()
            for name, handle in handles:
                if handle.can_read():
                    for output in handle.read().values():
                        times[name] += [now] * len(output.generated_ids)
        return list(times.values())

    def prefixed(self, requests):
        seconds = []
        for request in requests:
            begun = time.perf_counter()
            (times,) = self.run([request])
            seconds.append(times[0] - begun)
        return seconds


def settings(request):
    config = openvino_genai.GenerationConfig()
    config.max_new_tokens = config.min_new_tokens = request.new_tokens
    config.ignore_eos = True
    config.do_sample = False
    return config
