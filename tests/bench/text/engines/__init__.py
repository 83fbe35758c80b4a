"""The engines that people use in place of this service, each in a module of its own, driven in this process.

A module has `convert(checkpoint, folder)` and a class `Engine`:

    Engine(folder, slots, context, threads)   loads the model, with room for so many texts of so many tokens at once
    run(requests)                             texts that are asked for at once: for each the times at which its tokens came
    prefixed(requests)                        times to first token of one after the other, where the first tokens are the same
    weights                                   bytes of the model's files

A request is a `Request`: the prompt's token ids and how many tokens to generate, whatever they are. Times are of `time.perf_counter`.
"""
import dataclasses
import importlib

# In the order of what they are asked about; the module of "llama.cpp" is llama_cpp.
NAMES = ["llama.cpp", "openvino", "genai", "ctranslate2"]


@dataclasses.dataclass
class Request:
    ids: list[int]
    new_tokens: int


def convert(name, checkpoint, folder):
    _module(name).convert(checkpoint, folder)


def load(name, folder, slots, context, threads):
    return _module(name).Engine(folder, slots, context, threads)


def _module(name):
    return importlib.import_module(f"engines.{name.replace('.', '_')}")
