"""Prompts of so many tokens, the same for everybody. Each round has its own: nobody has seen a prompt before, but where that is what is
measured."""
import random

# Rounds that there are prompts for.
ROUNDS = 12
NEW_TOKENS = (64, 128)
PROMPT_TOKENS = (32, 256)
CONTEXTS = (64, 512, 1024)
PREFIX = 512


class Cutter:
    """Cuts pieces of prose to a number of tokens."""

    def __init__(self, tokenizer, text, seed):
        self.tokenizer, self.text, self.random = tokenizer, text, random.Random(seed)

    def piece(self, tokens):
        """From anywhere, beginning with a word, and just so long."""
        while True:
            begin = self.text.index(" ", self.random.randrange(len(self.text) - 32 * tokens)) + 1
            offsets = self.tokenizer.encode(self.text[begin : begin + 32 * tokens], add_special_tokens=False).offsets
            piece = self.text[begin : begin + offsets[tokens - 1][1]]
            if self._count(piece) == tokens:
                return piece

    def continued(self, text, tokens):
        """The text with so many tokens behind it, its own left as they are."""
        known = self.tokenizer.encode(text, add_special_tokens=False).ids
        while True:
            whole = f"{text} {self.piece(tokens)}"
            ids = self.tokenizer.encode(whole, add_special_tokens=False).ids
            if len(ids) == len(known) + tokens and ids[: len(known)] == known:
                return whole

    def _count(self, piece):
        return len(self.tokenizer.encode(piece, add_special_tokens=False).ids)


def drawn(tokenizer, text):
    """For each round and measurement its requests; those of "prefix" one after the other, others all at once."""
    return [_round(Cutter(tokenizer, text, seed), random.Random(seed)) for seed in range(ROUNDS)]


def _round(cutter, lengths):
    def request(tokens, new_tokens):
        return {"prompt": cutter.piece(tokens), "prompt_tokens": tokens, "new_tokens": new_tokens}

    def mixed(count):
        return [request(lengths.randint(*PROMPT_TOKENS), lengths.randint(*NEW_TOKENS)) for _ in range(count)]

    prefix = cutter.piece(PREFIX)
    return {
        "warm-up": [request(40, 8), request(24, 8)],
        "one": [request(128, 128)],
        "eight": mixed(8),
        "thirtytwo": mixed(32),
        **{f"context-{tokens}": [request(tokens, 48)] for tokens in CONTEXTS},
        "prefix": [{"prompt": cutter.continued(prefix, 8), "prompt_tokens": PREFIX + 8, "new_tokens": 4} for _ in range(2)],
    }
