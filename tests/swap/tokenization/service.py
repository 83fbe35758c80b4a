"""The gRPC face: converts a request, calls the tokenizer, converts the answer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import TypeVar

import grpc
from quintet.tokenization.v1 import tokenization_pb2 as pb
from quintet.tokenization.v1 import tokenization_pb2_grpc

from . import conversation, encoding
from .catalog import Catalog
from .detokenizer import Stream
from .errors import Checks, Fault, abort, invalid
from .limits import INLINE_BYTES, MAX_IDS, MAX_INPUTS, MAX_RESPONSE_BYTES, MAX_STREAMED_IDS, VOCABULARY_PART
from .tokenizer import Tokenizer

Answer = TypeVar("Answer")

ALGORITHMS = {
    "BPE": pb.TOKENIZER_ALGORITHM_BPE,
    "WordPiece": pb.TOKENIZER_ALGORITHM_WORD_PIECE,
    "Unigram": pb.TOKENIZER_ALGORITHM_UNIGRAM,
    "WordLevel": pb.TOKENIZER_ALGORITHM_WORD_LEVEL,
}


async def worked(request_bytes: int, work: Callable[[], Answer]) -> Answer:
    """Does work at once where it is little, and on a thread where it would hold up others."""
    return work() if request_bytes <= INLINE_BYTES else await asyncio.to_thread(work)


def fits(field: str, answer: Answer) -> Answer:
    """An answer, if it is not larger than clients take."""
    if answer.ByteSize() > MAX_RESPONSE_BYTES:
        raise invalid(field, f"the answer has {answer.ByteSize()} bytes: {MAX_RESPONSE_BYTES} is the limit")
    return answer


def describe(tokenizer: Tokenizer) -> pb.Tokenizer:
    return pb.Tokenizer(
        name=tokenizer.name,
        version=tokenizer.version,
        algorithm=ALGORITHMS[tokenizer.algorithm],
        vocabulary_size=tokenizer.size,
        special_tokens=[pb.SpecialToken(id=id, content=content) for id, content in tokenizer.specials.items()],
        sha256=tokenizer.sha256,
        model_max_length=tokenizer.max_length,
        chat_templates=tokenizer.templates.names,
        pad_id=tokenizer.pad_id,
        mask_id=tokenizer.mask_id,
    )


def check_ids(sequences: list[list[int]], tokenizer: Tokenizer, field: Callable[[int], str]) -> None:
    """Every id must be one of the vocabulary's."""
    checks = Checks()
    for sequence, ids in enumerate(sequences):
        if ids and max(ids) >= tokenizer.size:
            for index, id in enumerate(ids):
                described = f"{id}: must be below the vocabulary's size, {tokenizer.size}"
                checks.require(id < tokenizer.size, f"{field(sequence)}[{index}]", described)
    checks.finish()


class TokenizationService(tokenization_pb2_grpc.TokenizationServiceServicer):
    """Every rpc but Chunk."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog

    async def ListTokenizers(self, request: pb.ListTokenizersRequest, context: grpc.aio.ServicerContext) -> pb.ListTokenizersResponse:
        return pb.ListTokenizersResponse(tokenizers=map(describe, self._catalog.all()), default_tokenizer=self._catalog.default)

    async def GetTokenizer(self, request: pb.GetTokenizerRequest, context: grpc.aio.ServicerContext) -> pb.GetTokenizerResponse:
        try:
            return pb.GetTokenizerResponse(tokenizer=describe(self._catalog.get(request.model, request.model_version)))
        except Fault as fault:
            await abort(context, fault)

    async def GetVocabulary(
        self, request: pb.GetVocabularyRequest, context: grpc.aio.ServicerContext
    ) -> AsyncIterator[pb.GetVocabularyResponse]:
        try:
            tokenizer = self._catalog.get(request.model, request.model_version)
        except Fault as fault:
            await abort(context, fault)
        for start in range(0, tokenizer.size, VOCABULARY_PART):
            part = pb.GetVocabularyResponse()
            for id in range(start, min(start + VOCABULARY_PART, tokenizer.size)):
                part.entries.add(id=id, bytes=tokenizer.detokenizer.bytes_of(id), special=id in tokenizer.specials)
            yield part

    async def _encode(self, request: pb.EncodeRequest, model: str = "") -> pb.EncodeResponse:
        tokenizer = self._catalog.get(request.model or model, request.model_version)
        encodings = await worked(request.ByteSize(), lambda: encoding.encode(tokenizer, request))
        response = pb.EncodeResponse(model=tokenizer.name, model_version=tokenizer.version, encodings=encodings)
        return fits("inputs", response)

    async def Encode(self, request: pb.EncodeRequest, context: grpc.aio.ServicerContext) -> pb.EncodeResponse:
        try:
            return await self._encode(request)
        except Fault as fault:
            await abort(context, fault)

    async def EncodeStream(
        self, requests: AsyncIterator[pb.EncodeStreamRequest], context: grpc.aio.ServicerContext
    ) -> AsyncIterator[pb.EncodeStreamResponse]:
        model = ""
        try:
            async for message in requests:
                if not message.HasField("request"):
                    raise invalid("request", "absent: each message must have one")
                model = message.request.model or model
                yield pb.EncodeStreamResponse(response=await self._encode(message.request, model))
        except Fault as fault:
            await abort(context, fault)

    async def CountTokens(self, request: pb.CountTokensRequest, context: grpc.aio.ServicerContext) -> pb.CountTokensResponse:
        try:
            tokenizer = self._catalog.get(request.model, request.model_version)
            add = request.add_special_tokens if request.HasField("add_special_tokens") else True
            inputs = encoding.texts(list(request.inputs))
            counts = await worked(request.ByteSize(), lambda: encoding.count(tokenizer, inputs, add))
            return pb.CountTokensResponse(model=tokenizer.name, model_version=tokenizer.version, counts=counts)
        except Fault as fault:
            await abort(context, fault)

    async def Decode(self, request: pb.DecodeRequest, context: grpc.aio.ServicerContext) -> pb.DecodeResponse:
        try:
            tokenizer = self._catalog.get(request.model, request.model_version)
            sequences = [list(sequence.ids) for sequence in request.sequences]
            total = sum(map(len, sequences))
            checks = Checks()
            checks.require(1 <= len(sequences) <= MAX_INPUTS, "sequences", f"{len(sequences)} sequences: must be 1 to {MAX_INPUTS}")
            checks.require(total <= MAX_IDS, "sequences", f"{total} ids: must be at most {MAX_IDS}")
            checks.finish()
            check_ids(sequences, tokenizer, lambda index: f"sequences[{index}].ids")
            skip = request.skip_special_tokens if request.HasField("skip_special_tokens") else True
            raw_texts = await worked(total, lambda: [Stream(tokenizer.detokenizer, skip).raw(ids) for ids in sequences])
            response = pb.DecodeResponse(model=tokenizer.name, model_version=tokenizer.version)
            if request.return_bytes:
                response.raw_texts.extend(raw_texts)
            else:
                response.texts.extend(raw.decode("utf-8", "replace") for raw in raw_texts)
            return fits("sequences", response)
        except Fault as fault:
            await abort(context, fault)

    async def DecodeStream(
        self, requests: AsyncIterator[pb.DecodeStreamRequest], context: grpc.aio.ServicerContext
    ) -> AsyncIterator[pb.DecodeStreamResponse]:
        stream, tokenizer = None, None
        try:
            async for message in requests:
                if stream is None or tokenizer is None:
                    tokenizer = self._catalog.get(message.model, message.model_version)
                    skip = message.skip_special_tokens if message.HasField("skip_special_tokens") else True
                    stream = Stream(tokenizer.detokenizer, skip)
                else:
                    for field in ["model", "model_version"]:
                        if getattr(message, field):
                            raise invalid(field, f"'{getattr(message, field)}': only the first message may name it")
                    if message.HasField("skip_special_tokens"):
                        raise invalid("skip_special_tokens", f"{message.skip_special_tokens}: only the first message may set it")
                if len(message.ids) > MAX_STREAMED_IDS:
                    raise invalid("ids", f"{len(message.ids)} ids: must be at most {MAX_STREAMED_IDS} in a message")
                check_ids([list(message.ids)], tokenizer, lambda _: "ids")
                yield pb.DecodeStreamResponse(text=stream.push(message.ids))
            yield pb.DecodeStreamResponse(text="" if stream is None else stream.finish(), finished=True)
        except Fault as fault:
            await abort(context, fault)

    async def ApplyChatTemplate(
        self, request: pb.ApplyChatTemplateRequest, context: grpc.aio.ServicerContext
    ) -> pb.ApplyChatTemplateResponse:
        try:
            tokenizer = self._catalog.get(request.model, request.model_version)
            # Whatever the conversation, a template may take long.
            return fits("messages", await asyncio.to_thread(conversation.apply, tokenizer, request))
        except Fault as fault:
            await abort(context, fault)

    async def Chunk(self, request: pb.ChunkRequest, context: grpc.aio.ServicerContext) -> pb.ChunkResponse:
        await abort(
            context, Fault(grpc.StatusCode.UNIMPLEMENTED, "UNIMPLEMENTED", "this tokenization service does not cut texts into chunks")
        )
