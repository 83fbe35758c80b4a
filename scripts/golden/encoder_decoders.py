"""Writes tests/models/seq2seq: a tiny encoder–decoder with random weights for each family that scripts/export/text.py exports, and what
transformers makes of three inputs with it; and some of them again in the forms that Optimum writes.

    python scripts/golden/encoder_decoders.py [FAMILY …]

needs what scripts/export/text.py needs, and onnxscript. Each folder's `reference.json` says what is in it.
"""

from __future__ import annotations

import pathlib
import platform
import shutil
import sys
import tempfile

import torch
import transformers

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path += [str(ROOT / "scripts/export")]
import decoders  # noqa: E402
import destination  # noqa: E402
import encoder_decoder_forms  # noqa: E402
import text  # noqa: E402
from decoders import END, MARGIN, PROMPTS, SEARCHED, SEARCHES, SPECIAL, STEPS, VOCABULARY  # noqa: E402
from seq2seq import export  # noqa: E402

OUTPUT = ROOT / "tests/models/seq2seq"
START = 0
CONTEXT = 64

T5 = {
    "vocab_size": VOCABULARY, "d_model": 32, "d_kv": 16, "d_ff": 40, "num_layers": 2, "num_heads": 2, "initializer_factor": 1.0,
    "n_positions": CONTEXT, "relative_attention_num_buckets": 8, "relative_attention_max_distance": 20, "decoder_start_token_id": START,
    "eos_token_id": END, "pad_token_id": 0,
}  # fmt: skip
BART = {
    "vocab_size": VOCABULARY, "d_model": 32, "encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 2,
    "decoder_attention_heads": 2, "encoder_ffn_dim": 40, "decoder_ffn_dim": 40, "max_position_embeddings": CONTEXT, "init_std": 0.2,
    "bos_token_id": 0, "eos_token_id": END, "pad_token_id": None, "decoder_start_token_id": END,
}  # fmt: skip
CONFIGS = {
    "t5": lambda: transformers.T5Config(**T5),
    # Gated, and with a head of its own.
    "flan-t5": lambda: transformers.T5Config(**T5 | {"num_heads": 4, "d_kv": 8}, feed_forward_proj="gated-gelu", tie_word_embeddings=False),
    "mt5": lambda: transformers.MT5Config(**T5, feed_forward_proj="gated-gelu"),
    "bart": lambda: transformers.BartConfig(**BART, scale_embedding=True),
    "mbart": lambda: transformers.MBartConfig(**BART),
}
# What their generation_config.json says besides.
GENERATION = {
    "bart": {"forced_bos_token_id": 0, "forced_eos_token_id": END, "no_repeat_ngram_size": 2, "min_length": 6},
    "mbart": {"forced_bos_token_id": 5, "forced_eos_token_id": END},
}
# In the forms that Optimum writes: a decoder in two graphs, and one that holds both.
OTHER_FORMS = {"t5": encoder_decoder_forms.pair, "bart": encoder_decoder_forms.merged}


def main() -> None:
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    for family in sys.argv[1:] or CONFIGS:
        with tempfile.TemporaryDirectory() as checkpoint:
            seed, reference = lively(family, checkpoint)
            folder = OUTPUT / family / "1"
            write(family, checkpoint, folder)
            decoders.write_reference(folder, reference)
            if family in OTHER_FORMS:
                other = OUTPUT / f"{family}-optimum" / "1"
                shutil.rmtree(other, ignore_errors=True)
                other.mkdir(parents=True)
                OTHER_FORMS[family](checkpoint, other)
                decoders.write_reference(other, reference)
        print(f"{family}: seed {seed}, {sum(file.stat().st_size for file in folder.glob('*.onnx')) / 1e3:.0f} KB")


def write(family: str, checkpoint: str, folder: pathlib.Path) -> None:
    arguments = [checkpoint, str(folder), "--name", f"tiny-{family}", "--license", "Apache-2.0", "--overwrite"]
    options = text.parsed(arguments)
    destination.emptied(folder, overwrite=True)
    model, tokenizer = export.load(checkpoint)
    # A temporary folder is no source to name.
    options.model = f"random weights, {family}"
    export.export(model, tokenizer, CONTEXT, options, f"python scripts/golden/encoder_decoders.py {family}", text.judge)


def lively(family: str, checkpoint: str) -> tuple[int, dict]:
    """Draws weights until no greedy step is a near tie, none is a special token, and the texts are not of a few tokens only."""
    for seed in range(3000):
        model = drawn(family, seed)
        prompts = []
        for ids in decoders.drawn_prompts(seed):
            prompts.append(transcribe(model, ids))
            if not is_lively(prompts[-1]):
                break
        else:
            for prompt in prompts:
                prompt["searches"] = [search(model, prompt["ids"], *asked) for asked in SEARCHES]
            model.save_pretrained(checkpoint)
            decoders.tokenizer().save_pretrained(checkpoint)
            return seed, reference(family, seed, prompts)
    raise SystemExit(f"{family}: no seed gives lively texts")


def is_lively(prompt: dict) -> bool:
    tokens = prompt["continuation"]
    # The first may be forced, the last may be the end.
    return prompt["margin"] > MARGIN and len(tokens) >= STEPS - 1 and min(tokens[1:]) >= len(SPECIAL) and len(set(tokens)) >= 6


@torch.no_grad()
def drawn(family: str, seed: int):
    torch.manual_seed(seed)
    model = transformers.AutoModelForSeq2SeqLM.from_config(CONFIGS[family](), attn_implementation="eager").eval()
    decoders.stir(model)
    if family == "flan-t5":
        model.lm_head.weight = torch.nn.Parameter(0.5 * torch.randn_like(model.lm_head.weight))
    elif family in ("t5", "mt5"):
        # As they start, the embedding, which is the head too, is so large that each token would only name itself.
        model.shared.weight *= 0.1
        model.decoder.final_layer_norm.weight *= 30 if family == "t5" else 5
        for name, parameter in model.decoder.named_parameters():
            parameter *= 3 if name.endswith("o.weight") else 1
    else:
        model.final_logits_bias += 0.3 * torch.randn_like(model.final_logits_bias)
        model.model.shared.weight *= 0.5
        if family != "bart":
            for name, parameter in model.model.decoder.named_parameters():
                parameter *= 3 if name.endswith(("out_proj.weight", "fc2.weight")) else 1
    for key, value in GENERATION.get(family, {}).items():
        setattr(model.generation_config, key, value)
    model.generation_config.decoder_start_token_id = model.config.decoder_start_token_id
    model.generation_config.do_sample = False
    return model


def generated(model, ids: list[int], **asked):
    return model.generate(
        torch.tensor([ids]), attention_mask=torch.ones(1, len(ids), dtype=torch.long), do_sample=False, use_cache=True,
        eos_token_id=END, pad_token_id=END, return_dict_in_generate=True, **asked,
    )  # fmt: skip


def ended(tokens: list[int]) -> list[int]:
    """Without the token that every text begins with, up to the one that ends it."""
    return tokens[1 : tokens.index(END, 1)] if END in tokens[1:] else tokens[1:]


@torch.no_grad()
def transcribe(model, ids: list[int]) -> dict:
    """What the model makes of an input."""
    found = generated(model, ids, max_new_tokens=STEPS, output_scores=True)
    best = torch.cat(found.scores).topk(2).values
    tokens = ended(found.sequences[0].tolist())
    logits = model(torch.tensor([ids]), decoder_input_ids=found.sequences[:, :-1], use_cache=False).logits[0]
    return {
        "ids": ids,
        "text": bytes(token - len(SPECIAL) for token in ids).decode(),
        "continuation": tokens,
        "margin": float((best[:, 0] - best[:, 1]).min()),
        "continuation_logprobs": logits.log_softmax(-1)[range(len(tokens)), tokens].tolist(),
    }


def search(model, ids: list[int], beams: int, penalty: float, early_stopping: bool | str) -> dict:
    """All beams of a search, the best first, each up to the end of its text."""
    asked = {"num_beams": beams, "num_return_sequences": beams, "length_penalty": penalty, "early_stopping": early_stopping}
    found = generated(model, ids, max_new_tokens=SEARCHED, **asked)
    texts = [ended(row.tolist()) for row in found.sequences]
    return {"beams": beams, "length_penalty": penalty, "early_stopping": early_stopping, "texts": texts}


def reference(family: str, seed: int, prompts: list[dict]) -> dict:
    return {
        "about": {
            "family": family,
            "seed": seed,
            "made_by": "scripts/golden/encoder_decoders.py: transformers' generate in float32",
            "tokenizer": "one token a byte: id = byte + 2; 0 is <s>, 1 is </s>; nothing is added",
            "continuation": f"greedy, of at most {STEPS} tokens, without the one that ends it",
            "margin": "the smallest lead of the best token over the second at any step",
            "continuation_logprobs": "natural logarithms, in the model's own distribution",
            "searches": f"beam searches for at most {SEARCHED} tokens, without the end-of-text token",
            "versions": {
                "python": platform.python_version(), "torch": torch.__version__, "transformers": transformers.__version__,
            },
        },
        "prompts": prompts,
    }  # fmt: skip


if __name__ == "__main__":
    main()
