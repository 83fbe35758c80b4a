"""The service, over the wire. Every call answers with a function that waits, so that the reference works meanwhile."""

from __future__ import annotations

import pathlib
import sys
from collections.abc import Callable, Sequence
from typing import Any

import grpc
from grpc_tools import protoc

Answers = Callable[[], list[Any]]
_LIMITS = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]


def generate(protos: pathlib.Path, folder: pathlib.Path) -> None:
    """Writes the stubs of the tokenization service's contract, and makes them importable."""
    well_known = pathlib.Path(protoc.__file__).parent / "_proto"
    contract = "quintet/tokenization/v1/tokenization.proto"
    if protoc.main(["protoc", f"-I{protos}", f"-I{well_known}", f"--python_out={folder}", f"--grpc_python_out={folder}", contract]) != 0:
        raise SystemExit("the contract does not compile")
    sys.path.insert(0, str(folder))


class Service:
    """One tokenizer of a running service."""

    def __init__(self, address: str, model: str, *, add_special_tokens: bool) -> None:
        from quintet.tokenization.v1 import tokenization_pb2, tokenization_pb2_grpc

        self._pb = tokenization_pb2
        self._stub = tokenization_pb2_grpc.TokenizationServiceStub(grpc.insecure_channel(address, options=_LIMITS))
        self._model = model
        self._add = add_special_tokens

    def _encode(self, inputs: list[Any], policy: int, *, offsets: bool = False) -> Any:
        request = self._pb.EncodeRequest(model=self._model, inputs=inputs, special_tokens=policy, add_special_tokens=self._add, return_offsets=offsets)
        return self._stub.Encode.future(request)

    def _ids(self, texts: Sequence[str], policy: int) -> Answers:
        call = self._encode([self._pb.EncodeInput(text=text) for text in texts], policy)
        return lambda: [list(encoding.ids) for encoding in call.result().encodings]

    def allow(self, texts: Sequence[str]) -> Answers:
        return self._ids(texts, self._pb.SPECIAL_TOKEN_POLICY_ALLOW)

    def as_text(self, texts: Sequence[str]) -> Answers:
        return self._ids(texts, self._pb.SPECIAL_TOKEN_POLICY_UNSPECIFIED)

    def offsets(self, texts: Sequence[str]) -> Answers:
        call = self._encode([self._pb.EncodeInput(text=text) for text in texts], self._pb.SPECIAL_TOKEN_POLICY_ALLOW, offsets=True)
        return lambda: [[(i, span.start, span.end) for i, span in zip(e.ids, e.char_offsets, strict=True)] for e in call.result().encodings]

    def pairs(self, pairs: Sequence[tuple[str, str]]) -> Answers:
        inputs = [self._pb.EncodeInput(text=text, pair=pair) for text, pair in pairs]
        call = self._encode(inputs, self._pb.SPECIAL_TOKEN_POLICY_ALLOW, offsets=True)
        row = lambda e: [(i, kind, s.start, s.end) for i, kind, s in zip(e.ids, e.type_ids, e.char_offsets, strict=True)]  # noqa: E731
        return lambda: [row(encoding) for encoding in call.result().encodings]

    def decode(self, sequences: Sequence[Sequence[int]], *, skip: bool) -> Answers:
        messages = [self._pb.TokenIds(ids=ids) for ids in sequences]
        call = self._stub.Decode.future(self._pb.DecodeRequest(model=self._model, sequences=messages, skip_special_tokens=skip))
        return lambda: list(call.result().texts)

    def streamed(self, ids: Sequence[int], *, skip: bool) -> str:
        """The text of a stream of which each message has 0, 1 or 2 ids."""
        parts = [ids[start : start + 2] for start in range(0, len(ids), 2)]
        messages = [self._pb.DecodeStreamRequest(model=self._model, skip_special_tokens=skip)]
        messages += [self._pb.DecodeStreamRequest(ids=part) for pair in parts for part in (pair[:1], pair[1:])] if len(ids) % 3 else [
            self._pb.DecodeStreamRequest(ids=part) for part in parts
        ]
        return "".join(answer.text for answer in self._stub.DecodeStream(iter(messages)))
