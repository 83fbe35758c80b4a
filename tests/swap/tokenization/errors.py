"""What a client is told when something is wrong: a code, a message, and google.rpc details."""

from __future__ import annotations

from typing import NoReturn

import grpc
from google.protobuf import any_pb2, message
from google.rpc import error_details_pb2, status_pb2

DOMAIN = "quintet"


class Fault(Exception):
    """A request that is refused."""

    def __init__(self, code: grpc.StatusCode, reason: str, text: str, *details: message.Message) -> None:
        super().__init__(text)
        self.code, self.reason, self.details = code, reason, details


def not_found(reason: str, text: str) -> Fault:
    return Fault(grpc.StatusCode.NOT_FOUND, reason, text)


def unable(text: str) -> Fault:
    return Fault(grpc.StatusCode.FAILED_PRECONDITION, "UNABLE", text)


def invalid(field: str, description: str) -> Fault:
    return _invalid([(field, description)])


def _invalid(violations: list[tuple[str, str]]) -> Fault:
    bad = error_details_pb2.BadRequest()
    for field, description in violations:
        bad.field_violations.add(field=field, description=description[:512])
    text = "; ".join(f"{field}: {description}" for field, description in violations)
    return Fault(grpc.StatusCode.INVALID_ARGUMENT, "INVALID_REQUEST", text[:1024], bad)


class Checks:
    """Collects what is wrong with a request, so that the client learns everything at once."""

    # How many faults are named: a status travels in headers, of which clients take some kilobytes.
    NAMED = 16

    def __init__(self) -> None:
        self._violations: list[tuple[str, str]] = []

    def require(self, holds: bool, field: str, description: str) -> None:
        """Notes the field unless it `holds`."""
        if not holds:
            self._violations.append((field, description))

    def finish(self) -> None:
        """Refuses the request if anything is wrong."""
        if self._violations:
            raise _invalid(self._violations[: self.NAMED])


async def abort(context: grpc.aio.ServicerContext, fault: Fault) -> NoReturn:
    """Ends a call with a fault."""
    status = status_pb2.Status(code=fault.code.value[0], message=str(fault))
    for detail in (error_details_pb2.ErrorInfo(reason=fault.reason, domain=DOMAIN), *fault.details):
        packed = any_pb2.Any()
        packed.Pack(detail)
        status.details.append(packed)
    await context.abort(fault.code, str(fault), (("grpc-status-details-bin", status.SerializeToString()),))
    raise AssertionError("a call goes on after it was ended")
