"""A client of every service in Python: generates its stubs from the contracts, calls the real process, checks the answers.

    python tests/python/client.py --address 127.0.0.1:50051 --stubs FOLDER
"""

from __future__ import annotations

import argparse
import io
import pathlib
import sys
import threading

import grpc
from grpc_tools import protoc
from PIL import Image

ROOT = pathlib.Path(__file__).resolve().parents[2]


def generate(folder: pathlib.Path) -> None:
    """Writes the stubs of all contracts under `folder`, and makes them importable."""
    root = ROOT / "proto"
    files = sorted(str(path.relative_to(root)) for path in root.rglob("*.proto"))
    well_known = pathlib.Path(protoc.__file__).parent / "_proto"
    arguments = ["protoc", f"-I{root}", f"-I{well_known}", f"--python_out={folder}", f"--grpc_python_out={folder}", *files]
    if protoc.main(arguments) != 0:
        raise SystemExit("the contracts do not compile")
    sys.path.insert(0, str(folder))


def violations(error: grpc.RpcError) -> list[str]:
    """The fields that an INVALID_ARGUMENT names."""
    from google.rpc import error_details_pb2
    from grpc_status import rpc_status

    assert error.code() == grpc.StatusCode.INVALID_ARGUMENT, error
    for detail in rpc_status.from_call(error).details:
        if detail.Is(error_details_pb2.BadRequest.DESCRIPTOR):
            bad = error_details_pb2.BadRequest()
            detail.Unpack(bad)
            return [violation.field for violation in bad.field_violations]
    raise AssertionError("no details")


def refused(call, request) -> list[str]:
    try:
        call(request)
    except grpc.RpcError as error:
        return violations(error)
    raise AssertionError(f"not refused: {request}")


def check_tokenization(channel: grpc.Channel) -> None:
    from quintet.tokenization.v1 import tokenization_pb2 as pb
    from quintet.tokenization.v1.tokenization_pb2_grpc import TokenizationServiceStub

    stub = TokenizationServiceStub(channel)
    text = "In the beginning — 天地 🌍"
    encoded = stub.Encode(pb.EncodeRequest(model="gpt-english", inputs=[pb.EncodeInput(text=text)])).encodings[0]
    decoded = stub.Decode(pb.DecodeRequest(model="gpt-english", sequences=[pb.TokenIds(ids=encoded.ids)]))
    assert list(decoded.texts) == [text]
    pieces = stub.DecodeStream(iter([pb.DecodeStreamRequest(model="gpt-english"), *(pb.DecodeStreamRequest(ids=[i]) for i in encoded.ids)]))
    assert "".join(piece.text for piece in pieces) == text
    special = stub.Encode(pb.EncodeRequest(model="gpt-english", inputs=[pb.EncodeInput(text="<|endoftext|>")])).encodings[0]
    assert len(special.ids) > 1, "a user's text must not become a special token"


def check_text(channel: grpc.Channel) -> None:
    from quintet.text.v1 import text_pb2 as pb
    from quintet.text.v1.text_pb2_grpc import TextServiceStub

    stub = TextServiceStub(channel)
    request = pb.GenerateRequest(prompt="And the king said", sampling=pb.Sampling(seed=3), stopping=pb.Stopping(max_new_tokens=32))
    whole = stub.Generate(request)
    pieces = list(stub.GenerateStream(pb.GenerateStreamRequest(request=request)))
    assert "".join(piece.text for piece in pieces) == whole.text
    assert pieces[-1].finish_reason == whole.finish_reason and pieces[-1].usage.completion_tokens == whole.usage.completion_tokens

    # A cancelled call ends at once, and the service goes on.
    long = pb.GenerateRequest(prompt="And", stopping=pb.Stopping(max_new_tokens=400, ignore_eos=True))
    call = stub.GenerateStream(pb.GenerateStreamRequest(request=long))
    next(call)
    call.cancel()
    try:
        list(call)
        raise AssertionError("a cancelled call went on")
    except grpc.RpcError as error:
        assert error.code() == grpc.StatusCode.CANCELLED, error
    # A deadline ends a call with its own code.
    try:
        list(stub.GenerateStream(pb.GenerateStreamRequest(request=long), timeout=0.02))
        raise AssertionError("the deadline was passed over")
    except grpc.RpcError as error:
        assert error.code() in (grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.CANCELLED), error

    restored = stub.Generate(pb.GenerateRequest(model="restore-case", prompt="the lord is my shepherd"))
    assert restored.text[0].isupper() and restored.finish_reason == pb.FINISH_REASON_EOS, restored
    embeddings = stub.Embed(pb.EmbedRequest(inputs=["A man is eating food.", "A man eats bread.", "The sky is blue."])).embeddings
    dot = lambda a, b: sum(x * y for x, y in zip(a.values, b.values))  # noqa: E731
    assert dot(embeddings[0], embeddings[1]) > dot(embeddings[0], embeddings[2]) and abs(dot(embeddings[0], embeddings[0]) - 1) < 1e-5
    assert refused(stub.Generate, pb.GenerateRequest()) == ["prompt"]

    answers: list[str] = []
    threads = [threading.Thread(target=lambda: answers.append(stub.Generate(request).text)) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [whole.text] * 12


def check_image(channel: grpc.Channel) -> None:
    from quintet.image.v1 import image_pb2 as pb
    from quintet.image.v1.image_pb2_grpc import ImageServiceStub

    stub = ImageServiceStub(channel)
    request = pb.GenerateRequest(count=8, seed=1, classes=pb.ClassSelection(names=["A", "B"]), grid=pb.Grid(columns=4))
    answer = stub.Generate(request)
    picture = Image.open(io.BytesIO(answer.images[0].data))
    assert picture.size == (4 * 34 + 2, 2 * 34 + 2) and picture.mode == "L"
    streamed = list(stub.GenerateStream(pb.GenerateStreamRequest(request=pb.GenerateRequest(count=5, seed=1))))
    assert [item.image.index for item in streamed] == [0, 1, 2, 3, 4]
    assert refused(stub.Generate, pb.GenerateRequest(count=5000, truncation_psi=2)) == ["count", "truncation_psi"]


def check_anomaly(channel: grpc.Channel) -> None:
    from quintet.anomaly.v1 import anomaly_pb2 as pb
    from quintet.anomaly.v1.anomaly_pb2_grpc import AnomalyServiceStub

    stub = AnomalyServiceStub(channel)
    drawn = stub.Sample(pb.SampleRequest(model="vae-breast-cancer", count=3, seed=1)).samples
    samples = [pb.SampleData(values=row) for row in drawn]
    scores = stub.Score(pb.ScoreRequest(model="vae-breast-cancer", samples=samples)).scores
    messages = [pb.ScoreStreamRequest(model="vae-breast-cancer" if i == 0 else "", sample=sample) for i, sample in enumerate(samples)]
    assert [item.score for item in stub.ScoreStream(iter(messages))] == list(scores)
    bad = pb.SampleData(values=pb.Values(values=[float("nan")] * 30))
    assert refused(stub.Score, pb.ScoreRequest(model="vae-breast-cancer", samples=[bad])) == ["samples[0].values[0]"]


def check_evaluation(channel: grpc.Channel) -> None:
    from quintet.evaluation.v1 import evaluation_pb2 as pb
    from quintet.evaluation.v1.evaluation_pb2_grpc import EvaluationServiceStub

    stub = EvaluationServiceStub(channel)
    request = pb.CreateEvaluationRequest(anomaly=pb.AnomalyEvaluation(model="vae-digits"), bootstrap_resamples=100)
    started = stub.CreateEvaluation(request).evaluation
    *_, last = (state.evaluation for state in stub.WatchEvaluation(pb.WatchEvaluationRequest(id=started.id)))
    assert last.state == pb.EVALUATION_STATE_SUCCEEDED and last.metrics[0].value > 0.9, last


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--address", required=True)
    arguments.add_argument("--stubs", type=pathlib.Path, required=True)
    arguments.add_argument("--process", type=int, help="the server's process, for whoever reads a failure")
    options = arguments.parse_args()
    generate(options.stubs)
    with grpc.insecure_channel(options.address) as channel:
        for check in (check_tokenization, check_text, check_image, check_anomaly, check_evaluation):
            check(channel)
            print(f"{check.__name__}: ok")
    print("all of it works")


if __name__ == "__main__":
    main()
