"""The families of decoders that can be exported, by transformers' `model_type`. A family is one function, model → anatomy."""

from __future__ import annotations

from ..anatomy import Anatomy, Unsupported
from ..rotary import aligned, limit
from . import gemma, gpt2, gpt_neox, llama, phi, phi3

READERS = {
    "gemma": gemma.read,
    "gemma2": gemma.read,
    "gpt2": gpt2.read,
    "gpt_neox": gpt_neox.read,
    "llama": llama.read,
    "mistral": llama.read,
    "phi": phi.read,
    "phi3": phi3.read,
    "qwen2": llama.read,
    "qwen3": llama.read,
}

# Below this there is no room for the comparison with torch.
SHORTEST = 16


def check(config, context: int | None) -> int:
    """The context to export; raises Unsupported for a family, a rotary scaling or a context that cannot be had.

    It needs the configuration only, so that the answer comes before gigabytes of weights are read.
    """
    if config.model_type not in READERS:
        raise Unsupported(f"model_type {config.model_type!r} is not supported: {', '.join(READERS)} are")
    longest = config.max_position_embeddings
    one_table = limit(config)
    if one_table is not None and one_table < longest and (context is None or context > one_table):
        kind = config.rope_parameters["rope_type"]
        raise Unsupported(f"rope_type {kind!r} changes its frequencies beyond {one_table} tokens: say --context {one_table} or less")
    context = context or longest
    if not SHORTEST <= context <= longest:
        raise Unsupported(f"--context {context}: must be {SHORTEST} to {longest}, the model's own")
    return context


def read(model, context: int) -> Anatomy:
    anatomy = READERS[model.config.model_type](model, context)
    if anatomy.head_size % 8:
        raise Unsupported(f"heads of {anatomy.head_size} values are not supported: GroupQueryAttention wants a multiple of 8")
    return aligned(anatomy)
