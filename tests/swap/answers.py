"""What two services answer to the same requests, held against each other."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable
from typing import Any

import grpc
from google.protobuf import message, text_format
from google.rpc import error_details_pb2, status_pb2

# Seconds that a call may take.
DEADLINE = 60.0


@dataclasses.dataclass(frozen=True)
class Refusal:
    """What a program can read of an error: all but the words."""

    code: str
    reason: str
    domain: str
    fields: tuple[str, ...]


def refusal(error: grpc.RpcError) -> Refusal:
    reason, domain, fields = "", "", []
    for key, value in error.trailing_metadata() or ():
        if key != "grpc-status-details-bin":
            continue
        for detail in status_pb2.Status.FromString(value).details:
            info, bad = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
            if detail.Unpack(info):
                reason, domain = info.reason, info.domain
            elif detail.Unpack(bad):
                fields += [violation.field for violation in bad.field_violations]
    return Refusal(error.code().name, reason, domain, tuple(fields))


def answer(call: Callable[..., Any], request: message.Message | list[message.Message]) -> list[message.Message] | Refusal:
    """All that a call answers, or how it is refused."""
    given = iter(request) if isinstance(request, list) else request
    try:
        answered = call(given, timeout=DEADLINE)
        return [answered] if isinstance(answered, message.Message) else list(answered)
    except grpc.RpcError as error:
        return refusal(error)


def one_line(value: Any) -> str:
    """A message, several or a refusal, as text."""
    if isinstance(value, list):
        return " | ".join(map(one_line, value))
    return text_format.MessageToString(value, as_one_line=True, as_utf8=True) if isinstance(value, message.Message) else str(value)


def apart(value: Any, other: Any) -> str:
    """An answer from a little before where it is not the other one."""
    text = one_line(value)
    at = len(os.path.commonprefix([text, one_line(other)]))
    return f"…{text[max(at - 80, 0) : at + 120]}"


class Pair:
    """Two services that must answer alike."""

    def __init__(self, ours: Any, theirs: Any) -> None:
        self.stubs = (ours, theirs)
        self.compared = 0
        self.differences: list[str] = []

    def same(self, rpc: str, request: message.Message | list[message.Message], without: Callable[[Any], None] = lambda _: None) -> Any:
        """Asks both, and gives what ours answers. `without` takes out of an answer what may differ."""
        ours, theirs = (answer(getattr(stub, rpc), request) for stub in self.stubs)
        for answered in [ours, theirs]:
            for part in answered if isinstance(answered, list) else []:
                without(part)
        self.compared += 1
        if ours != theirs:
            self.differences.append(f"{rpc}({one_line(request)[:200]})\n  ours:   {apart(ours, theirs)}\n  theirs: {apart(theirs, ours)}")
        return ours
