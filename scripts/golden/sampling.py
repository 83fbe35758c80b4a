"""Golden values of the token sampler, from the logits processors of transformers (which need torch).

    python scripts/golden/sampling.py FILE      # writes crates/text/src/engine/sampling/golden.json, or FILE

The processors are applied in the sampler's documented order. The presence and frequency penalties are OpenAI's, which
transformers does not have.
"""

from __future__ import annotations

import json
import pathlib
import random
import sys

import torch
from transformers import (
    MinPLogitsWarper,
    NoRepeatNGramLogitsProcessor,
    RepetitionPenaltyLogitsProcessor,
    SequenceBiasLogitsProcessor,
    SuppressTokensLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
    TypicalLogitsWarper,
)

TARGET = pathlib.Path(__file__).resolve().parents[2] / "crates/text/src/engine/sampling/golden.json"
VOCABULARY = 50

# The sampler gives what is less likely than this a probability of 0.
NEVER = 1e-37

OFF = {
    "logit_bias": [],
    "repetition_penalty": 1.0,
    "presence_penalty": 0.0,
    "frequency_penalty": 0.0,
    "no_repeat_ngram_size": 0,
    "temperature": 1.0,
    "top_k": 0,
    "top_p": 1.0,
    "min_p": 0.0,
    "typical_p": 1.0,
}

# Each step alone, pairs of steps whose order matters, and all at once.
CASES: list[dict] = [
    {},
    {"logit_bias": [[3, 2.5], [7, -4.0]]},
    {"logit_bias": [[0, 100.0], [49, -100.0], [11, 1.0]], "temperature": 0.7},
    {"repetition_penalty": 1.3},
    {"repetition_penalty": 0.8},
    {"repetition_penalty": 1.5, "logit_bias": [[1, 3.0], [2, -3.0]]},
    {"presence_penalty": 0.9},
    {"presence_penalty": -0.9},
    {"frequency_penalty": 0.6},
    {"frequency_penalty": -0.4},
    {"presence_penalty": 0.5, "frequency_penalty": 0.5, "repetition_penalty": 1.2},
    {"no_repeat_ngram_size": 1},
    {"no_repeat_ngram_size": 2},
    {"no_repeat_ngram_size": 3},
    {"no_repeat_ngram_size": 40},
    {"temperature": 0.3},
    {"temperature": 1.7},
    {"top_k": 1},
    {"top_k": 5},
    {"top_k": 49},
    {"top_k": 10, "temperature": 2.0},
    {"top_p": 0.1},
    {"top_p": 0.5},
    {"top_p": 0.9},
    {"top_p": 0.99},
    {"top_p": 0.7, "temperature": 0.6},
    {"top_p": 0.8, "top_k": 12},
    {"min_p": 0.02},
    {"min_p": 0.2},
    {"min_p": 0.05, "temperature": 1.5},
    {"min_p": 0.1, "top_p": 0.8, "top_k": 20},
    {"typical_p": 0.2},
    {"typical_p": 0.5},
    {"typical_p": 0.9},
    {"typical_p": 0.95, "temperature": 0.7},
    {"typical_p": 0.6, "top_k": 15},
    {"typical_p": 0.6, "top_p": 0.85},
    {"typical_p": 0.7, "min_p": 0.03, "top_p": 0.95, "top_k": 30},
    {"allowed": 8},
    {"allowed": 25, "top_p": 0.9, "barred": [2, 3]},
    {"barred": [0, 1, 48], "typical_p": 0.8},
    {"allowed": 30, "barred": [4], "logit_bias": [[5, 1.5]], "repetition_penalty": 1.1, "presence_penalty": 0.3,
     "frequency_penalty": 0.2, "no_repeat_ngram_size": 2, "temperature": 0.8, "top_k": 20, "top_p": 0.9, "min_p": 0.01, "typical_p": 0.95},
    {"logit_bias": [[9, -2.0]], "repetition_penalty": 1.05, "presence_penalty": 0.1, "frequency_penalty": 0.1,
     "no_repeat_ngram_size": 3, "temperature": 1.2, "top_k": 40, "top_p": 0.97, "min_p": 0.005, "typical_p": 0.9},
]


def golden(case: dict, index: int) -> dict:
    draw = random.Random(index)
    # Of three decimals, so that the file is short and both sides read the same numbers.
    logits = [round(draw.gauss(0, 1.4), 3) for _ in range(VOCABULARY)]
    # Of few tokens, so that they and their n-grams repeat.
    prompt = [draw.randrange(12) for _ in range(10)]
    output = [draw.randrange(12) for _ in range(9)]
    # Ends on what it began with, so that the n-grams have something to rule out.
    output += prompt[:2]
    allowed = sorted(draw.sample(range(VOCABULARY), case["allowed"])) if "allowed" in case else None
    barred = case.get("barred", [])
    steps = OFF | {key: value for key, value in case.items() if key in OFF}

    history = torch.tensor([prompt + output])

    def processed(scores: torch.Tensor) -> torch.Tensor:
        """After the steps that work on single tokens."""
        if steps["logit_bias"]:
            scores = SequenceBiasLogitsProcessor({(token,): bias for token, bias in steps["logit_bias"]})(history, scores)
        if steps["repetition_penalty"] != 1:
            scores = RepetitionPenaltyLogitsProcessor(steps["repetition_penalty"])(history, scores)
        counts = torch.bincount(torch.tensor(output), minlength=VOCABULARY)
        scores = scores - steps["presence_penalty"] * (counts > 0) - steps["frequency_penalty"] * counts
        if steps["no_repeat_ngram_size"]:
            scores = NoRepeatNGramLogitsProcessor(steps["no_repeat_ngram_size"])(history, scores)
        out = barred + ([token for token in range(VOCABULARY) if token not in allowed] if allowed is not None else [])
        if out:
            scores = SuppressTokensLogitsProcessor(out)(history, scores)
        return scores

    scores = torch.tensor([logits], dtype=torch.float32)
    # As a beam search has it: the steps work on log-probabilities.
    best = processed(torch.log_softmax(scores, -1))[0].topk(6)
    scores = processed(scores)
    for on, warper in (
        (steps["temperature"] != 1, lambda: TemperatureLogitsWarper(steps["temperature"])),
        (steps["top_k"], lambda: TopKLogitsWarper(steps["top_k"])),
        (steps["top_p"] < 1, lambda: TopPLogitsWarper(steps["top_p"])),
        (steps["min_p"], lambda: MinPLogitsWarper(steps["min_p"])),
        (steps["typical_p"] < 1, lambda: TypicalLogitsWarper(steps["typical_p"])),
    ):
        if on:
            scores = warper()(history, scores)
    probabilities = torch.softmax(scores.double(), -1)[0]
    return {
        "sampling": steps,
        "logits": logits,
        "prompt": prompt,
        "output": output,
        "allowed": allowed,
        "barred": barred,
        "log_probabilities": [round(value, 6) for value in torch.log_softmax(torch.tensor(logits).double(), -1).tolist()],
        "best": [[token, round(value, 6)] for token, value in zip(best.indices.tolist(), best.values.tolist()) if value > float("-inf")],
        "probabilities": [[token, round(value, 8)] for token, value in enumerate(probabilities.tolist()) if value > NEVER],
    }


if __name__ == "__main__":
    target = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else TARGET
    lines = ",\n".join(json.dumps(golden(case, index)) for index, case in enumerate(CASES))
    target.write_text(f"[\n{lines}\n]\n")
