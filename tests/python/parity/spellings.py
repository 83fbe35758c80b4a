"""How special and added tokens are written, so that hostile text can spell them."""

from __future__ import annotations

SPECIAL = (
    "<|endoftext|>", "<|startoftext|>", "<|im_start|>", "<|im_end|>", "<|begin_of_text|>", "<|end_of_text|>", "<|eot_id|>",
    "<|start_header_id|>", "<|end_header_id|>", "<|reserved_special_token_0|>", "<|fim_prefix|>", "<｜begin▁of▁sentence｜>",
    "<｜end▁of▁sentence｜>", "<|startoftranscript|>", "<|notimestamps|>", "<|0.00|>", "<|29.98|>", "[PAD]", "[UNK]", "[CLS]",
    "[SEP]", "[MASK]", "<s>", "</s>", "<pad>", "<unk>", "<mask>", "<bos>", "<eos>", "<start_of_turn>", "<end_of_turn>",
    "<extra_id_0>", "<extra_id_99>", "[INST]", "[/INST]", "<0x0A>", "<0xE2>", "<0x00>", "<|endofprompt|>", "<|return|>",
)

# What looks like the inside of a vocabulary.
MARKS = ("▁", "▁▁", "Ġ", "Ċ", "ĠĠ", "##ing", "##", "</w>", "@@", "|")

# The words that `added_tokens.py` adds: each meets its own capitals, accents, blanks and neighbours in hostile text.
ADDED = ("Foobar", "<word>", "ÉCLAIR", "naïve", "ΣΊΣΥΦΟΣ", "İstanbul", "straße", "two words", "@", "new\nline", "日本", "ﬁx", "é", "👍🏽", "_x_", "12")
