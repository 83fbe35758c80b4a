"""A conversation as the contract has it becomes one as templates have it."""

from __future__ import annotations

import json
import time
from itertools import accumulate
from typing import Any

from quintet.tokenization.v1 import tokenization_pb2 as pb

from .chat import Marks, refuse_specials
from .encoding import Cut, check_policy, check_truncation
from .errors import Checks, invalid, unable
from .limits import MAX_INPUTS, MAX_TEXT_BYTES
from .tokenizer import Tokenizer

# What a template is given by other fields.
RESERVED = ["messages", "tools", "documents", "add_generation_prompt"]

# How a message's own fields are called in a template.
MESSAGE_FIELDS = ["role", "content", "tool_calls", "name", "tool_call_id", "reasoning_content"]


def apply(tokenizer: Tokenizer, request: pb.ApplyChatTemplateRequest) -> pb.ApplyChatTemplateResponse:
    """Writes a conversation down, and encodes it if that is asked for."""
    if request.ByteSize() > MAX_TEXT_BYTES:
        raise invalid("messages", f"the request has {request.ByteSize()} bytes: must be at most {MAX_TEXT_BYTES}")
    if not tokenizer.templates.names:
        raise unable(f"the tokenizer '{tokenizer.name}' has no chat template")
    checks = Checks()
    check_policy(request.special_tokens, checks)
    if request.HasField("truncation"):
        check_truncation(request.truncation, False, checks)
        checks.require(request.return_encoding, "truncation", "it cuts the encoding, and return_encoding is not set")
        whole = not request.truncation.return_overflow
        checks.require(whole, "truncation.return_overflow", "a conversation is not answered in pieces")
    variables = _variables(request, checks)
    checks.finish()

    marks = Marks([] if request.special_tokens == pb.SPECIAL_TOKEN_POLICY_ALLOW else list(tokenizer.specials.values()))
    for field in ["messages", "tools", "documents"]:
        for index, value in enumerate(variables[field] or []):
            if request.special_tokens == pb.SPECIAL_TOKEN_POLICY_REFUSE:
                refuse_specials(value, f"{field}[{index}]", tokenizer.find_special)
            variables[field][index] = marks.mark(value)
    for name in variables.keys() - set(RESERVED):
        if request.special_tokens == pb.SPECIAL_TOKEN_POLICY_REFUSE:
            refuse_specials({name: variables[name]}, "variables", tokenizer.find_special)
        variables[name] = marks.mark(variables[name])
    now = request.now_seconds if request.HasField("now_seconds") else time.time()
    written = tokenizer.templates.apply(request.template, variables, now, request.continue_final_message)

    text = marks.restored(written.text)
    # A mark is one character, and what it stands for is longer.
    at = list(accumulate((len(marks.restored(character).encode()) for character in written.text), initial=0))
    response = pb.ApplyChatTemplateResponse(model=tokenizer.name, model_version=tokenizer.version, template=written.template, text=text)
    for start, end in written.generation:
        response.generation_spans.add(start=at[start], end=at[end])
    if request.return_encoding:
        ids = tokenizer.encode_between(written.text, marks.restore)
        kept = range(len(ids))
        if request.HasField("truncation"):
            left = request.truncation.side == pb.TRUNCATION_SIDE_LEFT or (request.truncation.side == 0 and tokenizer.cuts_left)
            ((kept, _),) = Cut(request.truncation, left, 0).pieces(len(ids), 0)
        response.encoding.ids.extend(ids[kept.start : kept.stop])
        response.encoding.truncated_tokens = len(ids) - len(kept)
    return response


def _variables(request: pb.ApplyChatTemplateRequest, checks: Checks) -> dict[str, Any]:
    for field, least in [("messages", 1), ("tools", 0), ("documents", 0)]:
        count = len(getattr(request, field))
        checks.require(least <= count <= MAX_INPUTS, field, f"{count} {field}: must be {least} to {MAX_INPUTS}")
    one = not (request.add_generation_prompt and request.continue_final_message)
    checks.require(
        one, "continue_final_message", "true, as add_generation_prompt is: the model goes on with the last message or begins its own"
    )
    messages = [_message(given, f"messages[{index}]", checks) for index, given in enumerate(request.messages)]
    lists = {
        field: [_object(text, f"{field}[{index}]", checks, needed=True) for index, text in enumerate(getattr(request, field))] or None
        for field in ["tools", "documents"]
    }
    variables = _object(request.variables, "variables", checks)
    for name in RESERVED:
        checks.require(name not in variables, "variables", f"it sets '{name}', which has a field of its own")
    return variables | lists | {"messages": messages, "add_generation_prompt": request.add_generation_prompt}


def _message(given: pb.ChatMessage, field: str, checks: Checks) -> dict[str, Any]:
    checks.require(bool(given.role), f"{field}.role", "empty: each message must say who speaks")
    message: dict[str, Any] = {"role": given.role, "content": given.content}
    if given.parts:
        checks.require(not given.content, f"{field}.content", f"{len(given.parts)} parts are given beside it")
        message["content"] = [{"type": part.type} | ({"text": part.text} if part.text else {}) for part in given.parts]
    if given.tool_calls:
        message["tool_calls"] = [_tool_call(call, f"{field}.tool_calls[{index}]", checks) for index, call in enumerate(given.tool_calls)]
    for name in ["name", "tool_call_id", "reasoning_content"]:
        if getattr(given, name):
            message[name] = getattr(given, name)
    if given.reasoning_content:
        # Templates read one or the other.
        message |= {"thinking": given.reasoning_content, "reasoning": given.reasoning_content}
    extra = _object(given.extra, f"{field}.extra", checks)
    for name in extra.keys() & set(MESSAGE_FIELDS):
        checks.require(False, f"{field}.extra", f"it sets '{name}', which has a field of its own")
    return message | extra


def _tool_call(given: pb.ChatToolCall, field: str, checks: Checks) -> dict[str, Any]:
    checks.require(bool(given.name), f"{field}.name", "empty: a call must name its function")
    arguments = _object(given.arguments, f"{field}.arguments", checks)
    return ({"id": given.id} if given.id else {}) | {"type": "function", "function": {"name": given.name, "arguments": arguments}}


def _object(text: str, field: str, checks: Checks, needed: bool = False) -> dict[str, Any]:
    if not text and not needed:
        return {}
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as fault:
        checks.require(False, field, f"it is no JSON object: {fault}")
        return {}
    checks.require(isinstance(value, dict), field, "it is no JSON object")
    return value if isinstance(value, dict) else {}
