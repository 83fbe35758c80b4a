"""Both tokenization services answer alike, rpc by rpc."""

from __future__ import annotations

import random

from answers import Pair, Refusal
from quintet.tokenization.v1 import tokenization_pb2 as pb

TEXTS = [
    "",
    " ",
    "In the beginning God created the heaven and the earth.",
    "  two  blanks, a tab\tand\n\nlines \r\n",
    "naïve café — “quoted” … ½ ﬁ Å",
    "天地玄黄，宇宙洪荒。 こんにちは 한국어",
    "🌍👩‍👩‍👧‍👦 🇩🇪 e\u0301 \u200b\ufeff",
    "שלום עולם مرحبا بالعالم हिन्दी ไทย",
    "<|endoftext|> </s> <pad> [CLS] [SEP] [UNK] [PAD]",
    "a<|endoftext|>b</s>c[SEP]d",
    "don't can't I'll we've 1234567890 3.14 x_y-z @home #1",
    "ÀÉÎÕÜ ŞĞİ ǅ ß ﷺ \x00\x01\x7f",
]


def drawn(count: int) -> list[str]:
    """Texts of characters drawn from many scripts, the same in every run."""
    draw = random.Random(7)
    ranges = [(0x20, 0x7F)] * 6 + [
        (0xA0, 0x250),
        (0x370, 0x400),
        (0x400, 0x500),
        (0x590, 0x700),
        (0x900, 0x980),
        (0x3040, 0x30FF),
        (0x4E00, 0x9FFF),
    ]
    ranges += [(0x1F300, 0x1F650)]
    return ["".join(chr(draw.randint(*draw.choice(ranges))) for _ in range(draw.randint(1, 80))) for _ in range(count)]


def inputs(texts: list[str]) -> list[pb.EncodeInput]:
    return [pb.EncodeInput(text=text) for text in texts]


def check(pair: Pair, chat_models: list[str]) -> None:
    """Compares every rpc that the stand-in has."""
    (listed,) = pair.same("ListTokenizers", pb.ListTokenizersRequest())
    for name in ["", *(tokenizer.name for tokenizer in listed.tokenizers)]:
        pair.same("GetTokenizer", pb.GetTokenizerRequest(model=name))
    for model in ["gpt-english", "restore-case", "all-minilm-l6-v2"]:
        pair.same("GetVocabulary", pb.GetVocabularyRequest(model=model))
        check_encoding(pair, model)
        check_decoding(pair, model)
    check_refusals(pair)
    for model in chat_models:
        check_chat(pair, model)


def check_encoding(pair: Pair, model: str) -> None:
    texts = TEXTS + drawn(200)
    for policy in [pb.SPECIAL_TOKEN_POLICY_UNSPECIFIED, pb.SPECIAL_TOKEN_POLICY_ALLOW]:
        pair.same("Encode", pb.EncodeRequest(model=model, inputs=inputs(texts), special_tokens=policy))
    for text in TEXTS:
        pair.same("Encode", pb.EncodeRequest(model=model, inputs=inputs([text]), special_tokens=pb.SPECIAL_TOKEN_POLICY_REFUSE))
    (described,) = pair.same("GetTokenizer", pb.GetTokenizerRequest(model=model))
    for special in described.tokenizer.special_tokens:
        spelling = [*texts, f"a{special.content}b", f"{special.content} {special.content}", f"<|endoftext|>[MASK]{special.content}"]
        allowed = {"allowed_special_token": special.content}
        pair.same("Encode", pb.EncodeRequest(model=model, inputs=inputs(spelling), **allowed))
        both = [pb.EncodeInput(text=text, pair=text) for text in spelling[-4:]]
        pair.same("Encode", pb.EncodeRequest(model=model, inputs=both, truncation=pb.Truncation(max_tokens=9), **allowed))
    every = {"return_offsets": True, "return_special_tokens_mask": True}
    pairs = [pb.EncodeInput(text=first, pair=second) for first, second in zip(texts, reversed(texts))]
    pair.same("Encode", pb.EncodeRequest(model=model, inputs=inputs(texts), **every))
    pair.same("Encode", pb.EncodeRequest(model=model, inputs=inputs(texts), add_special_tokens=False, **every))
    pair.same("Encode", pb.EncodeRequest(model=model, inputs=pairs, **every))
    for side in [pb.TRUNCATION_SIDE_UNSPECIFIED, pb.TRUNCATION_SIDE_LEFT]:
        for most in [1, 2, 3, 7, 12]:
            cut = pb.Truncation(max_tokens=most, side=side)
            pair.same("Encode", pb.EncodeRequest(model=model, inputs=inputs(texts), truncation=cut, **every))
            for strategy in pb.TruncationStrategy.values():
                pair.same(
                    "Encode",
                    pb.EncodeRequest(
                        model=model, inputs=pairs[:20], truncation=pb.Truncation(max_tokens=most + 20, side=side, strategy=strategy)
                    ),
                )
        cut = pb.Truncation(max_tokens=9, side=side, return_overflow=True, stride=2)
        padding = pb.Padding(multiple_of=8, pad_id=1, side=pb.PADDING_SIDE_LEFT if side else pb.PADDING_SIDE_RIGHT)
        pair.same("Encode", pb.EncodeRequest(model=model, inputs=inputs(texts), truncation=cut, padding=padding, **every))
    pair.same("Encode", pb.EncodeRequest(model=model, inputs=[pb.EncodeInput(raw_text=b"a\xf0\x9f\x98\xffb\xc3")]))
    pair.same("CountTokens", pb.CountTokensRequest(model=model, inputs=inputs(texts)))
    pair.same("CountTokens", pb.CountTokensRequest(model=model, inputs=pairs, add_special_tokens=False))
    messages = [
        pb.EncodeStreamRequest(request=pb.EncodeRequest(model=model if not index else "", inputs=inputs([text])))
        for index, text in enumerate(texts)
    ]
    pair.same("EncodeStream", messages)


def check_decoding(pair: Pair, model: str) -> None:
    (encoded,) = pair.same(
        "Encode", pb.EncodeRequest(model=model, inputs=inputs(TEXTS + drawn(200)), special_tokens=pb.SPECIAL_TOKEN_POLICY_ALLOW)
    )
    draw = random.Random(11)
    (described,) = pair.same("GetTokenizer", pb.GetTokenizerRequest(model=model))
    size = described.tokenizer.vocabulary_size
    sequences = [pb.TokenIds(ids=encoding.ids) for encoding in encoded.encodings]
    sequences += [pb.TokenIds(ids=[draw.randrange(size) for _ in range(draw.randint(0, 40))]) for _ in range(300)]
    for skip in [True, False]:
        pair.same("Decode", pb.DecodeRequest(model=model, sequences=sequences, skip_special_tokens=skip))
        pair.same("Decode", pb.DecodeRequest(model=model, sequences=sequences, skip_special_tokens=skip, return_bytes=True))
        for sequence in sequences[::10]:
            steps = [pb.DecodeStreamRequest(ids=[id]) for id in sequence.ids]
            pair.same("DecodeStream", [pb.DecodeStreamRequest(model=model, skip_special_tokens=skip), *steps])


def check_refusals(pair: Pair) -> None:
    one = inputs(["a"])
    refused = [
        ("Encode", pb.EncodeRequest(model="none", inputs=one)),
        ("Encode", pb.EncodeRequest(model="gpt-english", model_version="9", inputs=one)),
        ("Encode", pb.EncodeRequest()),
        ("Encode", pb.EncodeRequest(inputs=inputs(["a"] * 4097))),
        ("Encode", pb.EncodeRequest(inputs=inputs(["a" * (1 << 20) + "b"]))),
        ("Encode", pb.EncodeRequest(inputs=[pb.EncodeInput(text="a", raw_text=b"a")])),
        ("Encode", pb.EncodeRequest(inputs=one, special_tokens=9, truncation=pb.Truncation(side=9, strategy=9, stride=1))),
        ("Encode", pb.EncodeRequest(model="gpt-english", inputs=one, padding=pb.Padding())),
        ("Encode", pb.EncodeRequest(model="gpt-english", inputs=one, allowed_special_token="a")),
        (
            "Encode",
            pb.EncodeRequest(
                model="gpt-english",
                inputs=one,
                allowed_special_token="<|endoftext|>",
                return_offsets=True,
                special_tokens=pb.SPECIAL_TOKEN_POLICY_REFUSE,
            ),
        ),
        ("Encode", pb.EncodeRequest(inputs=one, padding=pb.Padding(multiple_of=5000, side=9, pad_id=1 << 30, min_tokens=1 << 30))),
        ("CountTokens", pb.CountTokensRequest()),
        ("Decode", pb.DecodeRequest()),
        ("Decode", pb.DecodeRequest(model="gpt-english", sequences=[pb.TokenIds(ids=[1, 1 << 31])])),
        ("GetTokenizer", pb.GetTokenizerRequest(model="none")),
        ("GetVocabulary", pb.GetVocabularyRequest(model="none")),
        ("ApplyChatTemplate", pb.ApplyChatTemplateRequest(model="restore-case", messages=[pb.ChatMessage(role="user")])),
        ("ApplyChatTemplate", pb.ApplyChatTemplateRequest(model="gpt-english")),
        ("ApplyChatTemplate", pb.ApplyChatTemplateRequest(model="gpt-english", template="none", messages=[pb.ChatMessage(role="user")])),
        (
            "ApplyChatTemplate",
            pb.ApplyChatTemplateRequest(
                model="gpt-english",
                messages=[
                    pb.ChatMessage(extra="[1]"),
                    pb.ChatMessage(role="a", extra='{"role": "x"}', tool_calls=[pb.ChatToolCall(arguments="{")]),
                ],
                tools=["no"],
                variables='{"messages": []}',
                add_generation_prompt=True,
                continue_final_message=True,
            ),
        ),
        ("EncodeStream", [pb.EncodeStreamRequest()]),
        ("DecodeStream", [pb.DecodeStreamRequest(model="none")]),
        ("DecodeStream", [pb.DecodeStreamRequest(), pb.DecodeStreamRequest(model="gpt-english")]),
        ("DecodeStream", [pb.DecodeStreamRequest(), pb.DecodeStreamRequest(skip_special_tokens=True)]),
        ("DecodeStream", [pb.DecodeStreamRequest(), pb.DecodeStreamRequest(ids=[1 << 31])]),
    ]
    for rpc, request in refused:
        if not isinstance(pair.same(rpc, request), Refusal):
            pair.differences.append(f"{rpc}({str(request)[:200]}) was not refused")


def check_chat(pair: Pair, model: str) -> None:
    say = lambda role, content: pb.ChatMessage(role=role, content=content)  # noqa: E731
    tool = '{"type": "function", "function": {"name": "weather", "description": "Tells it.", "parameters": {"type": "object"}}}'
    conversations = [
        {"messages": [say("user", "Hello <|endoftext|> there")], "add_generation_prompt": True},
        {"messages": [say("user", "Who?"), say("assistant", "I, 天 <|endoftext|>"), say("user", "Why?")], "add_generation_prompt": True},
        {"messages": [say("system", "Be brief."), say("user", "Hi"), say("assistant", "And the")], "continue_final_message": True},
        {"messages": [say("user", "The weather?")], "tools": [tool], "add_generation_prompt": True},
    ]
    if "rag" in model:
        # It goes through documents, and Python's Jinja takes no missing ones for none.
        for conversation in conversations:
            conversation["documents"] = ['{"title": "Almanac", "text": "Rain <|endoftext|>."}']
    for conversation in conversations:
        for policy in pb.SpecialTokenPolicy.values():
            request = pb.ApplyChatTemplateRequest(
                model=model, return_encoding=True, special_tokens=policy, now_seconds=1_700_000_000, **conversation
            )
            pair.same("ApplyChatTemplate", request)
    cut = pb.Truncation(max_tokens=5, side=pb.TRUNCATION_SIDE_LEFT)
    pair.same(
        "ApplyChatTemplate",
        pb.ApplyChatTemplateRequest(model=model, return_encoding=True, now_seconds=0, truncation=cut, **conversations[0]),
    )
