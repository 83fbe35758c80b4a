"""The text service gives the same with either tokenization service behind it."""

from __future__ import annotations

from typing import Any

from answers import Pair
from quintet.text.v1 import text_pb2 as pb
from quintet.tokenization.v1 import tokenization_pb2

PROMPTS = [
    "In the beginning",
    "And the king said unto his servants,",
    "  And it came to pass\n",
    "天地 🌍 naïve",
    "He said <|endoftext|> unto them",
    "Wherefore",
]


def untimed(answer: Any) -> None:
    """Takes out how long it took, and what a cache saved."""
    parts = [answer, *getattr(answer, "alternatives", [])]
    for part in parts:
        if "timings" in part.DESCRIPTOR.fields_by_name:
            part.ClearField("timings")
    if "usage" in answer.DESCRIPTOR.fields_by_name:
        answer.usage.ClearField("cached_prompt_tokens")


def check(pair: Pair) -> None:
    # Greedy draws nothing; the seed is there so that no answer names a fresh one.
    greedy, stopping = pb.Sampling(temperature=0, seed=0), pb.Stopping(max_new_tokens=48)
    for prompt in PROMPTS:
        request = pb.GenerateRequest(model="gpt-english", prompt=prompt, sampling=greedy, stopping=stopping)
        pair.same("Generate", request, untimed)
        drawn = pb.GenerateRequest(
            model="gpt-english", prompt=prompt, sampling=pb.Sampling(seed=5), stopping=stopping, logprobs=True, top_logprobs=2
        )
        pair.same("Generate", drawn, untimed)
        restored = pb.GenerateRequest(model="restore-case", prompt=prompt.lower(), sampling=greedy)
        pair.same("Generate", restored, untimed)
        guided = pb.GenerateRequest(model="gpt-english", prompt=prompt, sampling=greedy, guide=pb.Guide(regex="[A-Z][a-z ]{5,20}[.]"))
        pair.same("Generate", guided, untimed)
        stopped = pb.GenerateRequest(
            model="gpt-english", prompt=prompt, sampling=greedy, stopping=pb.Stopping(max_new_tokens=48, stop=[" the", "."])
        )
        pair.same("Generate", stopped, untimed)
        streams = [whole_stream(stub, request) for stub in pair.stubs]
        pair.compared += 1
        if streams[0] != streams[1]:
            pair.differences.append(f"GenerateStream({prompt!r}): {streams}")
    pair.same("Score", pb.ScoreRequest(model="gpt-english", texts=PROMPTS, return_tokens=True))
    pair.same("Embed", pb.EmbedRequest(model="all-minilm-l6-v2", inputs=PROMPTS))
    chat = pb.ChatRequest(
        generate=pb.GenerateRequest(model="gpt-english", sampling=greedy, stopping=pb.Stopping(max_new_tokens=24)),
        messages=[tokenization_pb2.ChatMessage(role="user", content="Who art thou, <|endoftext|>?")],
    )
    pair.same("Chat", chat, lambda answer: untimed(answer.generated))
    no_template = pb.ChatRequest(generate=pb.GenerateRequest(model="restore-case"), messages=chat.messages)
    pair.same("Chat", no_template)
    pair.same("Generate", pb.GenerateRequest(model="none", prompt="a"))


def whole_stream(stub: Any, request: pb.GenerateRequest) -> tuple[str, int, int]:
    """A stream's text, why it ended and how many tokens it has; its pieces may be cut elsewhere."""
    pieces = list(stub.GenerateStream(pb.GenerateStreamRequest(request=request), timeout=60))
    return "".join(piece.text for piece in pieces), pieces[-1].finish_reason, pieces[-1].usage.completion_tokens
