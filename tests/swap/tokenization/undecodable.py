"""Bytes that are no message are the client's fault: the library alone would call them the server's own."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc
from google.protobuf.message import DecodeError


class Undecodable(grpc.aio.ServerInterceptor):
    """Ends calls of one service with INVALID_ARGUMENT where a message cannot be decoded."""

    def __init__(self, service: str) -> None:
        self._prefix = f"/{service}/"

    async def intercept_service(
        self, continuation: Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler]], details: grpc.HandlerCallDetails
    ) -> grpc.RpcMethodHandler:
        handler = await continuation(details)
        if handler is None or not details.method.startswith(self._prefix):
            return handler

        def decode(data: bytes) -> Any:
            try:
                return handler.request_deserializer(data)
            except DecodeError as error:
                return error

        async def one(request: Any, context: grpc.aio.ServicerContext) -> Any:
            return await handler.unary_unary(await decoded(request, context), context)

        async def many(request: Any, context: grpc.aio.ServicerContext) -> AsyncIterator[Any]:
            async for answer in handler.unary_stream(await decoded(request, context), context):
                yield answer

        async def each(requests: AsyncIterator[Any], context: grpc.aio.ServicerContext) -> AsyncIterator[Any]:
            async def messages() -> AsyncIterator[Any]:
                async for request in requests:
                    yield await decoded(request, context)

            async for answer in handler.stream_stream(messages(), context):
                yield answer

        if handler.request_streaming:
            return grpc.stream_stream_rpc_method_handler(each, decode, handler.response_serializer)
        if handler.response_streaming:
            return grpc.unary_stream_rpc_method_handler(many, decode, handler.response_serializer)
        return grpc.unary_unary_rpc_method_handler(one, decode, handler.response_serializer)


async def decoded(request: Any, context: grpc.aio.ServicerContext) -> Any:
    """A request that is a message; one that is none ends the call."""
    if isinstance(request, DecodeError):
        await context.abort(grpc.StatusCode.INVALID_ARGUMENT, f"a message cannot be decoded: {request}")
    return request
