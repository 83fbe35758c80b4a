"""What the decoder reads: documents, each behind its source's tag."""

from __future__ import annotations

import tokenizers

from sources import Source

END = "<|endoftext|>"
# Every so many documents one stands without its tag, so that a text without one is known too.
UNTAGGED_EVERY = 8
# WordNet's entries are a line each: so many make a document.
ENTRIES = 16


def documents(source: Source, part: str) -> list[str]:
    """The texts of a part of a source ("train", "validation", "held_out"), without tags."""
    texts = getattr(source, part)
    if source.tag == "WordNet":
        return ["\n".join(texts[begin : begin + ENTRIES]) for begin in range(0, len(texts), ENTRIES)]
    return texts


def tagged(source: Source, text: str) -> str:
    """The tag is ordinary text on a line of its own: whoever writes it in front of a prompt says in which manner to go on."""
    return f"{source.tag}\n{text}"


def stream(source: Source, part: str) -> list[str]:
    """A part of a source as it is trained on."""
    texts = documents(source, part)
    return [text if index % UNTAGGED_EVERY == UNTAGGED_EVERY - 1 else tagged(source, text) for index, text in enumerate(texts)]


def train_tokenizer(texts: list[str], size: int) -> tokenizers.Tokenizer:
    """A byte-level BPE tokenizer trained on `texts`; id 0 ends a text, and stands in front of one."""
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE())
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = tokenizers.decoders.ByteLevel()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=[END],
        initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    begin = {"single": f"{END} $A", "pair": f"{END} $A {END} $B:1"}
    tokenizer.post_processor = tokenizers.processors.TemplateProcessing(**begin, special_tokens=[(END, tokenizer.token_to_id(END))])
    return tokenizer


def encode(tokenizer: tokenizers.Tokenizer, texts: list[str]) -> list[int]:
    """All texts after each other, each behind the end-of-text token."""
    return [token for encoding in tokenizer.encode_batch(texts) for token in encoding.ids] + [tokenizer.token_to_id(END)]
