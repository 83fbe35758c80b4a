"""A client of Quintet in Python: streams text, draws letters, scores rows, runs an evaluation, reads what an error says.

    python client.py 127.0.0.1:50051 [--tls CA] [--key KEY]

The stubs are generated from the contracts:

    python -m grpc_tools.protoc -Iproto --python_out=STUBS --grpc_python_out=STUBS $(cd proto && find quintet -name '*.proto')
    PYTHONPATH=STUBS python client.py 127.0.0.1:50051
"""

from __future__ import annotations

import argparse
import pathlib
import sys
from collections.abc import Iterator

import grpc
from google.rpc import error_details_pb2
from grpc_status import rpc_status
from quintet.anomaly.v1 import anomaly_pb2, anomaly_pb2_grpc
from quintet.evaluation.v1 import evaluation_pb2, evaluation_pb2_grpc
from quintet.image.v1 import image_pb2, image_pb2_grpc
from quintet.text.v1 import text_pb2, text_pb2_grpc

# Seconds that a call may take. The server sets no limit of its own: clients should.
DEADLINE = 30.0


def connect(address: str, ca: str | None, key: str | None) -> grpc.Channel:
    """A channel: plain, or over TLS with the key in the metadata of each call."""
    if ca is None:
        return grpc.insecure_channel(address)
    credentials = grpc.ssl_channel_credentials(pathlib.Path(ca).read_bytes())
    if key is not None:
        credentials = grpc.composite_channel_credentials(credentials, grpc.access_token_call_credentials(key))
    return grpc.secure_channel(address, credentials)


def stream_text(text: text_pb2_grpc.TextServiceStub) -> str:
    request = text_pb2.GenerateRequest(
        prompt="And the king said", sampling=text_pb2.Sampling(seed=3), stopping=text_pb2.Stopping(max_new_tokens=32)
    )
    print(request.prompt, end="", flush=True)
    for piece in text.GenerateStream(text_pb2.GenerateStreamRequest(request=request), timeout=DEADLINE):
        print(piece.text, end="", flush=True)
        last = piece
    print()
    return f"{last.usage.completion_tokens} tokens streamed"


def cancel_text(text: text_pb2_grpc.TextServiceStub) -> str:
    request = text_pb2.GenerateRequest(prompt="And", stopping=text_pb2.Stopping(max_new_tokens=200, ignore_eos=True))
    call = text.GenerateStream(text_pb2.GenerateStreamRequest(request=request), timeout=DEADLINE)
    for _ in range(8):
        next(call)
    # Leaving the loop is not enough: the server generates until the call is cancelled or its deadline passes.
    call.cancel()
    try:
        for _ in call:
            pass
    except grpc.RpcError as error:
        if error.code() != grpc.StatusCode.CANCELLED:
            raise
        print("cancelled a stream after 8 pieces")
        return "1 stream cancelled"
    raise RuntimeError("a cancelled stream went on to its end")


def draw_letters(images: image_pb2_grpc.ImageServiceStub) -> str:
    request = image_pb2.GenerateRequest(count=8, classes=image_pb2.ClassSelection(names=["A", "B"]), seed=1, grid=image_pb2.Grid(columns=4))
    (picture,) = images.Generate(request, timeout=DEADLINE).images
    pathlib.Path("letters.png").write_bytes(picture.data)
    print(f"wrote letters.png, {picture.width} x {picture.height} pixels")
    return f"letters.png of {len(picture.data)} bytes"


def score_rows(anomaly: anomaly_pb2_grpc.AnomalyServiceStub) -> str:
    model = "vae-breast-cancer"
    drawn = anomaly.Sample(anomaly_pb2.SampleRequest(model=model, count=4, seed=1), timeout=DEADLINE).samples
    rows = [list(row.values) for row in drawn]
    rows.append([10 * value for value in rows[0]])

    def messages() -> Iterator[anomaly_pb2.ScoreStreamRequest]:
        # The first message settles the model for all.
        for index, row in enumerate(rows):
            sample = anomaly_pb2.SampleData(values=anomaly_pb2.Values(values=row))
            yield anomaly_pb2.ScoreStreamRequest(model=model if index == 0 else "", sample=sample)

    scored = anomalies = 0
    for answer in anomaly.ScoreStream(messages(), timeout=DEADLINE):
        score = answer.score
        print(f"row {answer.index}: score {score.score:.4f}, threshold {score.threshold:.4f}{', an anomaly' if score.is_anomaly else ''}")
        scored += 1
        anomalies += score.is_anomaly
    return f"{scored} rows scored, {anomalies} over the threshold"


def evaluate(evaluations: evaluation_pb2_grpc.EvaluationServiceStub) -> str:
    request = evaluation_pb2.CreateEvaluationRequest(anomaly=evaluation_pb2.AnomalyEvaluation(model="vae-digits"), bootstrap_resamples=100)
    job = evaluations.CreateEvaluation(request, timeout=DEADLINE).evaluation
    for state in evaluations.WatchEvaluation(evaluation_pb2.WatchEvaluationRequest(id=job.id), timeout=DEADLINE):
        job = state.evaluation
        print(f"{evaluation_pb2.EvaluationState.Name(job.state)} {job.stage} {job.progress_done}/{job.progress_total}")
    if job.state != evaluation_pb2.EVALUATION_STATE_SUCCEEDED:
        raise RuntimeError(f"the evaluation did not succeed: {job.error}")
    metric = job.metrics[0]
    print(f"{metric.name} {metric.value:.4f} [{metric.interval.lower:.4f}, {metric.interval.upper:.4f}], n = {metric.sample_size}")
    return f"{metric.name} {metric.value:.4f}"


def read_refusal(images: image_pb2_grpc.ImageServiceStub) -> str:
    try:
        images.Generate(image_pb2.GenerateRequest(count=5000, truncation_psi=2), timeout=DEADLINE)
    except grpc.RpcError as error:
        if error.code() != grpc.StatusCode.INVALID_ARGUMENT:
            raise
        reason, fields = "", []
        # The details are in the trailing metadata, as google.rpc.Status.
        for detail in rpc_status.from_call(error).details:
            info, bad = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
            if detail.Unpack(info):
                reason = info.reason
            elif detail.Unpack(bad):
                for violation in bad.field_violations:
                    print(f"{violation.field}: {violation.description}")
                    fields.append(violation.field)
        return f"refused with {reason}: {', '.join(fields)}"
    raise RuntimeError("5,000 images with a truncation of 2 were not refused")


def main() -> int:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("address", help="HOST:PORT")
    arguments.add_argument("--tls", metavar="CA", help="use TLS, with the server's certificate signed by this one (PEM)")
    arguments.add_argument("--key", help="the API key; it goes over TLS alone")
    options = arguments.parse_args()
    if options.key and not options.tls:
        arguments.exit(64, "--key needs --tls: whoever reads a key on the way can use it\n")

    try:
        with connect(options.address, options.tls, options.key) as channel:
            text = text_pb2_grpc.TextServiceStub(channel)
            images = image_pb2_grpc.ImageServiceStub(channel)
            done = [
                stream_text(text),
                cancel_text(text),
                draw_letters(images),
                score_rows(anomaly_pb2_grpc.AnomalyServiceStub(channel)),
                evaluate(evaluation_pb2_grpc.EvaluationServiceStub(channel)),
                read_refusal(images),
            ]
    except grpc.RpcError as error:
        print(f"failed: {error.code().name}: {error.details()}", file=sys.stderr)
        return 1
    except RuntimeError as error:
        print(f"failed: {error}", file=sys.stderr)
        return 1
    print(f"ok: {', '.join(done)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
