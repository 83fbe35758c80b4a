"""Writes tests/models/decoders: a tiny decoder with random weights for each family that scripts/export/text.py exports, and what
transformers makes of three prompts with it; the `llama` one again in the forms that other exporters write; and `llama-int8`, another
one with a cache of 8 bits.

    python scripts/golden/decoders.py [NAME …]

needs what scripts/export/text.py needs, onnxscript and onnxruntime-genai (0.18). Each folder's `reference.json` says what is in it.
"""

from __future__ import annotations

import json
import pathlib
import platform
import shutil
import sys
import tempfile

import tokenizers
import torch
import transformers
from transformers.convert_slow_tokenizer import bytes_to_unicode

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path += [str(ROOT / "scripts/export"), str(ROOT / "scripts/golden")]
import decoder_forms  # noqa: E402
import rounded_cache  # noqa: E402
import destination  # noqa: E402
import text  # noqa: E402
from decoder import weights  # noqa: E402

OUTPUT = ROOT / "tests/models/decoders"
# Beam searches: beams, length penalty, early stopping; and the most tokens of their texts.
SEARCHES = [(4, 1.0, False), (3, 0.0, True), (5, 2.0, "never")]
SEARCHED = 10
END = 1
CONTEXT = 128
VOCABULARY = 256
SPECIAL = ["<s>", "</s>"]
PROMPTS = (1, 7, 40)
STEPS = 24
# A runtime may differ from torch by a hundredth of this, and must still choose the same tokens.
MARGIN = 1e-3
# With an 8-bit cache a value that lies between two steps may fall to either side, by the last bits of what it comes from.
ROUNDED, ROUNDED_MARGIN, ROUNDED_TOLERANCE = "llama-int8", 2e-2, 4e-3

COMMON = {
    "vocab_size": VOCABULARY, "hidden_size": 32, "intermediate_size": 40, "num_hidden_layers": 2, "max_position_embeddings": CONTEXT,
    "initializer_range": 0.2, "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": None,
}  # fmt: skip
# Four query heads on two key–value heads, together wider than the hidden state.
GROUPED = {"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16}
# For families whose heads are shares of the hidden state.
SHARED = {"num_attention_heads": 2, "num_key_value_heads": 1}

CONFIGS = {
    "llama": lambda: transformers.LlamaConfig(**COMMON, **GROUPED, tie_word_embeddings=True),
    "qwen2": lambda: transformers.Qwen2Config(**COMMON, **SHARED),
    "qwen3": lambda: transformers.Qwen3Config(**COMMON, **GROUPED, tie_word_embeddings=True),
    # A window below the length of the longest prompt.
    "mistral": lambda: transformers.MistralConfig(**COMMON, **GROUPED, sliding_window=16, tie_word_embeddings=True),
    "gemma": lambda: transformers.GemmaConfig(**COMMON, num_attention_heads=2, num_key_value_heads=1, head_dim=16),
    "gemma2": lambda: transformers.Gemma2Config(
        **COMMON, **GROUPED, sliding_window=16, query_pre_attn_scalar=24, attn_logit_softcapping=5.0, final_logit_softcapping=6.0
    ),
    # Half of a head is rotated: fewer pairs than GroupQueryAttention wants, which the exporter mends.
    "phi": lambda: transformers.PhiConfig(**COMMON, **SHARED, partial_rotary_factor=0.5),
    "phi3": lambda: transformers.Phi3Config(**COMMON, **SHARED, sliding_window=20),
    "gpt2": lambda: transformers.GPT2Config(
        vocab_size=VOCABULARY, n_embd=32, n_inner=40, n_layer=2, n_head=4, n_positions=CONTEXT, initializer_range=0.2,
        bos_token_id=0, eos_token_id=1,
    ),  # fmt: skip
    "gpt_neox": lambda: transformers.GPTNeoXConfig(**COMMON, num_attention_heads=2, rotary_pct=0.5),
}


def main() -> None:
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    for name in sys.argv[1:] or [*CONFIGS, ROUNDED]:
        seed = write_rounded() if name == ROUNDED else write(name)
        print(f"{name}: seed {seed}, {(OUTPUT / name / '1/model.onnx').stat().st_size / 1e3:.0f} KB")


def write(family: str) -> int:
    """Writes a family's folder, and gives the seed."""
    seed, model, prompts = next(lively(family, MARGIN))
    with tempfile.TemporaryDirectory() as checkpoint:
        save(model, checkpoint)
        folder = OUTPUT / family / "1"
        export(family, checkpoint, folder)
        decoder_forms.check(folder, prompts, STEPS)
        write_reference(folder, reference(family, seed, prompts))
        if family == "llama":
            for form, written in (("concat", decoder_forms.concat), ("genai", decoder_forms.genai)):
                other = OUTPUT / f"{family}-{form}" / "1"
                shutil.rmtree(other, ignore_errors=True)
                other.mkdir(parents=True)
                written(checkpoint, other)
                decoder_forms.check(other, prompts, STEPS)
                write_reference(other, reference(family, seed, prompts))
    return seed


def write_rounded() -> int:
    """Writes the folder with a cache of 8 bits, whose reference is of transformers with keys and values rounded alike; gives the seed."""
    folder = OUTPUT / ROUNDED / "1"
    for seed, model, _ in lively("llama", ROUNDED_MARGIN):
        with tempfile.TemporaryDirectory() as checkpoint:
            save(model, checkpoint)
            export(ROUNDED, checkpoint, folder, "--cache", "int8")
        with rounded_cache.seen(folder / "model.onnx"):
            prompts = [transcribe(model, ids) for ids in drawn_prompts(seed)]
        if is_lively(prompts, ROUNDED_MARGIN):
            decoder_forms.check(folder, prompts, STEPS, ROUNDED_TOLERANCE)
            write_reference(folder, reference(ROUNDED, seed, prompts))
            break
    return seed


def save(model, checkpoint: str) -> None:
    model.save_pretrained(checkpoint)
    tokenizer().save_pretrained(checkpoint)


def export(family: str, checkpoint: str, folder: pathlib.Path, *choices: str) -> None:
    arguments = [checkpoint, str(folder), "--name", f"tiny-{family}", "--license", "Apache-2.0", "--overwrite", *choices]
    options = text.parsed(arguments)
    destination.emptied(folder, overwrite=True)
    model, tokenizer = text.load(checkpoint)
    # A temporary folder is no source to name.
    options.model = f"random weights, {family}"
    text.export(model, tokenizer, CONTEXT, weights.named("fp32"), options, f"python scripts/golden/decoders.py {family}")


def lively(family: str, margin: float):
    """Draws weights, and gives those with which no greedy step is a near tie, none is a special token, and the texts are not of a few
    tokens only: each one's seed, model and prompts."""
    for seed in range(1000):
        torch.manual_seed(seed)
        model = transformers.AutoModelForCausalLM.from_config(CONFIGS[family](), attn_implementation="eager").eval()
        stir(model)
        prompts = [transcribe(model, ids) for ids in drawn_prompts(seed)]
        if is_lively(prompts, margin):
            yield seed, model, prompts
    raise SystemExit(f"{family}: no seed gives lively texts")


def is_lively(prompts: list[dict], margin: float) -> bool:
    if any(prompt["margin"] <= margin or min(prompt["continuation"]) < len(SPECIAL) for prompt in prompts):
        return False
    return min(len(set(prompt["continuation"])) for prompt in prompts) >= 6


@torch.no_grad()
def stir(model) -> None:
    """Takes norms and biases away from the ones and zeros that they start with."""
    for parameter in model.parameters():
        if parameter.dim() == 1:
            parameter += 0.1 * torch.randn_like(parameter)
    if model.config.model_type.startswith("gemma"):
        # Its embedding is scaled and is its head too: as it starts, each token would only name itself.
        model.get_input_embeddings().weight *= 0.2
        model.model.norm.weight += 8


def drawn_prompts(seed: int) -> list[list[int]]:
    """Printable ASCII, so that each prompt is a text too."""
    draw = torch.Generator().manual_seed(seed)
    return [(torch.randint(32, 127, (count,), generator=draw) + len(SPECIAL)).tolist() for count in PROMPTS]


@torch.no_grad()
def transcribe(model, ids: list[int]) -> dict:
    """What the model makes of a prompt, each time from all tokens, with no cache."""
    tokens, margin = list(ids), float("inf")
    for _ in range(STEPS):
        best = model(torch.tensor([tokens]), use_cache=False).logits[0, -1].topk(2)
        margin = min(margin, float(best.values[0] - best.values[1]))
        tokens.append(int(best.indices[0]))
    logits = model(torch.tensor([tokens]), use_cache=False).logits[0]
    scores = logits.log_softmax(-1)[range(len(tokens) - 1), tokens[1:]].tolist()
    first = logits[len(ids) - 1]
    return {
        "ids": ids,
        "text": bytes(token - len(SPECIAL) for token in ids).decode(),
        "continuation": tokens[len(ids) :],
        "margin": margin,
        "first_logits": first[:16].tolist(),
        "first_logsumexp": float(first.logsumexp(-1)),
        "prompt_logprobs": scores[: len(ids) - 1],
        "continuation_logprobs": scores[len(ids) - 1 :],
        "searches": [search(model, ids, *asked) for asked in SEARCHES],
    }


def search(model, ids: list[int], beams: int, penalty: float, early_stopping: bool | str) -> dict:
    """All beams of a search, the best first, each up to the end of its text."""
    found = model.generate(
        torch.tensor([ids]), attention_mask=torch.ones(1, len(ids), dtype=torch.long), num_beams=beams, num_return_sequences=beams,
        length_penalty=penalty, early_stopping=early_stopping, max_new_tokens=SEARCHED, do_sample=False, use_cache=False,
        eos_token_id=END, pad_token_id=END,
    )  # fmt: skip
    texts = [row[len(ids) :].tolist() for row in found]
    texts = [text[: text.index(END)] if END in text else text for text in texts]
    return {"beams": beams, "length_penalty": penalty, "early_stopping": early_stopping, "texts": texts}


def reference(family: str, seed: int, prompts: list[dict]) -> dict:
    return {
        "about": {
            "family": family,
            "seed": seed,
            "made_by": "scripts/golden/decoders.py: transformers in float32, without a cache"
            + (", keys and values rounded as the graph's cache rounds them" if family == ROUNDED else ""),
            "tokenizer": "one token a byte: id = byte + 2; 0 is <s>, 1 is </s>; nothing is added",
            "continuation": "greedy; margin is the smallest lead of the best token over the second at any step",
            "first_logits": "the first 16 logits behind the prompt, and the logsumexp of all",
            "prompt_logprobs": "natural logarithms, of the prompt's second token and those after it",
            "searches": f"beam searches for at most {SEARCHED} tokens, without the end-of-text token",
            "versions": {
                "python": platform.python_version(), "torch": torch.__version__, "transformers": transformers.__version__,
            },
        },
        "prompts": prompts,
    }  # fmt: skip


def write_reference(folder: pathlib.Path, reference: dict) -> None:
    (folder / "reference.json").write_text(json.dumps(reference, indent=1) + "\n")


def tokenizer() -> transformers.PreTrainedTokenizerFast:
    """A token for each byte that UTF-8 has (0xFE and 0xFF do not occur), behind the special ones."""
    characters = bytes_to_unicode()
    vocabulary = {token: index for index, token in enumerate(SPECIAL)}
    vocabulary |= {characters[byte]: byte + len(SPECIAL) for byte in range(VOCABULARY - len(SPECIAL))}
    made = tokenizers.Tokenizer(tokenizers.models.BPE(vocab=vocabulary, merges=[]))
    made.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    made.decoder = tokenizers.decoders.ByteLevel()
    made.add_special_tokens(SPECIAL)
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=made, bos_token=SPECIAL[0], eos_token=SPECIAL[1], model_max_length=CONTEXT, clean_up_tokenization_spaces=False
    )


if __name__ == "__main__":
    main()
