"""Single requests: every type, what is asked for of the outputs, what is refused, and how long a request may wait."""

from __future__ import annotations

import concurrent.futures
import json

import ml_dtypes
import numpy as np
import tritonclient.grpc as triton

from triton import graphs
from triton.calls import PATIENCE, Server, index, number, refused, tensor, texts

INTEGERS = {f"{sign}INT{bits}": np.dtype(f"{sign.lower()}int{bits}") for sign in ("", "U") for bits in (8, 16, 32, 64)}
FLOATS = {"FP16": np.float16, "BF16": ml_dtypes.bfloat16, "FP32": np.float32, "FP64": np.float64}

# One instance, whose run begins when 8 rows are there, or after 10 s: what runs together does not depend on the clock.
EIGHT_AT_ONCE = json.dumps(
    {"max_batch_size": 8, "instance_group": [{"count": 1}], "dynamic_batching": {"max_queue_delay_microseconds": 10_000_000}}
)
# Seconds: less than that delay, and much more than a run takes.
PROMPT = 5


def given_back(server: Server, values: np.ndarray) -> np.ndarray:
    """What the identity of the values' type answers."""
    given = tensor("x", values)
    name = f"identity-{given.datatype().lower()}"
    if not server.client.is_model_ready(name):
        server.load(name, graphs.identity(given.datatype()))
    result = server.infer(name, given)
    output = result.get_output("y")
    assert (output.datatype, list(output.shape)) == (given.datatype(), list(values.shape)), output
    return result.as_numpy("y")


def integers_keep_every_bit(server: Server) -> None:
    for datatype, kind in INTEGERS.items():
        limits = np.iinfo(kind)
        values = np.array([[limits.min, limits.max, 0], [1, limits.max - 1, limits.min + 1]], kind)
        answer = given_back(server, values)
        assert answer.dtype == kind and np.array_equal(answer, values), (datatype, answer)


def floats_keep_every_bit(server: Server) -> None:
    for datatype, kind in FLOATS.items():
        limits = ml_dtypes.finfo(kind)
        values = np.array([[1.5, -0.0, limits.max], [limits.smallest_subnormal, -np.inf, np.nan]], kind)
        answer = given_back(server, values)
        assert answer.dtype == kind and answer.tobytes() == values.tobytes(), (datatype, answer)


def truth_values_come_back(server: Server) -> None:
    values = np.array([[True, False, True], [False, False, True]])
    assert np.array_equal(given_back(server, values), values)


def texts_come_back_whatever_is_in_them(server: Server) -> None:
    values = texts([["", "plain", "天地 🌍"], ["a\nb", "é" * 70_000, " \t"]])
    answer = given_back(server, values)
    assert [text.decode() for text in answer.flatten()] == list(values.flatten())


def texts_with_zero_bytes_are_refused(server: Server) -> None:
    message = refused("INVALID_ARGUMENT", server.infer, "identity-bytes", tensor("x", texts([["a\0b"]])))
    assert "zero byte" in message, message


def bytes_that_are_no_text_are_refused(server: Server) -> None:
    given_back(server, texts([["ready"]]))
    message = refused("INVALID_ARGUMENT", server.infer, "identity-bytes", tensor("x", texts([[b"\xff\xfe"]])))
    assert "UTF-8" in message, message


def no_rows_are_an_answer_without_rows(server: Server) -> None:
    for values in (np.zeros((0, 3), np.float32), np.zeros((2, 0), np.float32), np.zeros((0, 2), np.int64)):
        assert given_back(server, values).shape == values.shape


def many_rows_come_back_in_order(server: Server) -> None:
    values = np.arange(3000, dtype=np.float32).reshape(1000, 3)
    assert np.array_equal(given_back(server, values), values), "more rows than one run takes"
    words = texts([[f"{row}.{column}" * (row % 7) for column in range(2)] for row in range(500)])
    assert [text.decode() for text in given_back(server, words).flatten()] == list(words.flatten())


def compressed_requests_are_read(server: Server) -> None:
    name, values = server.load("compressed", graphs.identity("FP32")), np.arange(64, dtype=np.float32).reshape(1, 64)
    for algorithm in ("gzip", "deflate"):
        answer = server.infer(name, tensor("x", values), compression_algorithm=algorithm).as_numpy("y")
        assert np.array_equal(answer, values), algorithm


def a_graph_without_a_batch_runs_each_request_by_itself(server: Server) -> None:
    name = server.load("vector", graphs.doubled_vector())
    vectors = [np.array([n, 0.5, -n, 4 * n], np.float32) for n in range(40)]
    calls = [server.later(name, tensor("x", vector)) for vector in vectors]
    for vector, call in zip(vectors, calls):
        assert np.array_equal(call.result(PATIENCE).as_numpy("y"), 2 * vector)
    refused("INVALID_ARGUMENT", server.infer, name, tensor("x", np.zeros(5, np.float32)))


def outputs_come_as_they_are_asked_for(server: Server) -> None:
    name = server.load("two-outputs", graphs.sum_and_difference())
    a, b = np.array([[1, 2, 3]], np.float32), np.array([[10, 20, 30]], np.float32)
    expected = {"sum": a + b, "difference": a - b}
    ask = lambda *names: [triton.InferRequestedOutput(name) for name in names]  # noqa: E731
    for wanted in (["sum", "difference"], ["difference", "sum"], ["difference"], ["sum"]):
        # Inputs are told apart by their names, too.
        result = server.infer(name, tensor("b", b), tensor("a", a), outputs=ask(*wanted))
        assert [output.name for output in result.get_response().outputs] == wanted
        for output in wanted:
            assert np.array_equal(result.as_numpy(output), expected[output]), (wanted, output)
    assert [output.name for output in server.infer(name, tensor("a", a), tensor("b", b)).get_response().outputs] == list(expected)
    message = refused("INVALID_ARGUMENT", server.infer, name, tensor("a", a), tensor("b", b), outputs=ask("product"))
    assert "product" in message and "difference" in message, message


def the_highest_values_are_ranked(server: Server) -> None:
    scores = np.array([[0.25, 4.0, -1.0, 2.5], [9.0, 0.0, 9.5, 1.0]], np.float32)
    name = server.load("ranked", graphs.identity("FP32"))
    result = server.infer(name, tensor("x", scores), outputs=[triton.InferRequestedOutput("y", class_count=2)])
    ranked = result.as_numpy("y")
    assert result.get_output("y").datatype == "BYTES" and ranked.shape == (2, 2), result.get_response()
    pairs = [[text.decode().split(":") for text in row] for row in ranked]
    assert [[(float(value), int(place)) for value, place in row] for row in pairs] == [[(4, 1), (2.5, 3)], [(9.5, 2), (9, 0)]]
    more = server.infer(name, tensor("x", scores), outputs=[triton.InferRequestedOutput("y", class_count=99)]).as_numpy("y")
    assert more.shape == (2, 4), "there are no more values than there are"


def ids_and_versions_are_given_back(server: Server) -> None:
    name = server.load("identified", graphs.adds(1))
    for sent in ("", "7", "天地", "x" * 5000):
        response = server.infer(name, number(1), request_id=sent, model_version="1").get_response()
        assert (response.id, response.model_name, response.model_version) == (sent, name, "1"), response


def what_does_not_fit_the_graph_is_refused(server: Server) -> None:
    name = server.load("strict", graphs.sum_and_difference())
    row, wide = np.zeros((1, 3), np.float32), np.zeros((1, 4), np.float32)
    for inputs, part in (
        ([tensor("a", row)], "'b'"),
        ([tensor("a", row), tensor("a", row)], "'a'"),
        ([tensor("a", row), tensor("c", row)], "'c'"),
        ([tensor("a", row), tensor("b", wide)], "inputs[1].shape"),
        ([tensor("a", row), tensor("b", row[0])], "inputs[1].shape"),
        ([tensor("a", row), tensor("b", row.astype(np.float64))], "inputs[1].datatype"),
        ([], "'a'"),
    ):
        message = refused("INVALID_ARGUMENT", server.infer, name, *inputs)
        assert part in message, f"{part!r} is not named: {message}"
    short = tensor("a", row)
    short.set_shape([2, 3])
    refused("INVALID_ARGUMENT", server.infer, name, short, tensor("b", np.zeros((2, 3), np.float32)))
    assert np.array_equal(server.infer(name, tensor("a", row), tensor("b", row)).as_numpy("sum"), row), "it goes on"


def inputs_of_different_batches_are_refused(server: Server) -> None:
    name = server.load("uneven", graphs.sum_and_difference())
    one, two = np.zeros((1, 3), np.float32), np.zeros((2, 3), np.float32)
    # The graph itself would repeat the one row: its inputs say that their first dimensions are the same.
    refused("INVALID_ARGUMENT", server.infer, name, tensor("a", one), tensor("b", two))
    refused("INVALID_ARGUMENT", server.infer, name, tensor("a", np.zeros((3, 3), np.float32)), tensor("b", two))


def sequences_are_refused(server: Server) -> None:
    name = server.load("stateless", graphs.adds(1))
    for sequence in (7, "seven"):
        message = refused("INVALID_ARGUMENT", server.infer, name, number(1), sequence_id=sequence, sequence_start=True, sequence_end=True)
        assert "sequence" in message, message


def priorities_and_own_parameters_are_taken(server: Server) -> None:
    name = server.load("prior", graphs.adds(1))
    for priority in (1, 5, 9):
        answer = server.infer(name, number(2), priority=priority, timeout=PATIENCE * 1_000_000, parameters={"mine": "x", "n": 3, "b": True, "f": 0.5})
        assert answer.as_numpy("y").item() == 3


def a_request_waits_no_longer_than_it_may(server: Server) -> None:
    name = server.load("waiting", graphs.adds(1), config=EIGHT_AT_ONCE)
    message = refused("DEADLINE_EXCEEDED", server.infer, name, number(1), timeout=20_000)
    assert "waited" in message, f"the server's own answer was due: {message}"
    refused("DEADLINE_EXCEEDED", server.infer, name, number(1), client_timeout=0.05)
    waiting = server.later(name, number(1))
    waiting.call.cancel()
    refused("CANCELLED", waiting.result, PATIENCE)
    # None of the three takes a place in the batch of those that stay.
    stay = [server.later(name, number(n)) for n in range(8)]
    assert [call.result(PATIENCE).as_numpy("y").item() for call in stay] == [n + 1 for n in range(8)]


def requests_share_a_run_and_keep_their_answers(server: Server) -> None:
    name = server.load("shared-run", graphs.adds(1), config=EIGHT_AT_ONCE)
    calls = [server.later(name, number(n), request_id=str(n)) for n in range(8)]
    for n, call in enumerate(calls):
        result = call.result(PATIENCE)
        assert (result.as_numpy("y").item(), result.get_response().id) == (n + 1, str(n))
    counted = server.client.get_inference_statistics(name).model_stats[0]
    assert (counted.inference_count, counted.execution_count) == (8, 1), counted


def a_full_batch_is_answered_at_once(server: Server) -> None:
    name = server.load("full-batch", graphs.adds(1), config=EIGHT_AT_ONCE)
    calls = [server.later(name, number(n)) for n in range(8)]
    done, late = concurrent.futures.wait(calls, PROMPT)
    assert not late, f"{len(late)} of 8 wait for the delay to pass, though their run is over"
    assert sorted(call.result().as_numpy("y").item() for call in done) == [n + 1 for n in range(8)]


def a_bad_request_of_a_batch_fails_alone(server: Server) -> None:
    name = server.load("table", graphs.table(), config=EIGHT_AT_ONCE)
    indices = [0, 1, 99, 2, 3, -77, 1, 0]
    calls = [server.later(name, index(n)) for n in indices]
    for n, call in zip(indices, calls):
        if n in range(4):
            assert call.result(PATIENCE).as_numpy("value").item() == 10 * (n + 1)
        else:
            assert str(n) in refused("INVALID_ARGUMENT", call.result, PATIENCE), "the message tells the value"
    totals = server.client.get_inference_statistics(name).model_stats[0].inference_stats
    assert (totals.success.count, totals.fail.count) == (6, 2), totals


def a_request_that_is_too_large_is_refused_and_the_connection_lives(server: Server) -> None:
    name = server.load("large", graphs.identity("UINT8"))
    big = np.zeros((1, 17 << 20), np.uint8)
    try:
        server.infer(name, tensor("x", big))
    except triton.InferenceServerException as error:
        assert error.status() in ("StatusCode.OUT_OF_RANGE", "StatusCode.RESOURCE_EXHAUSTED"), error
    else:
        raise AssertionError("17 MiB were taken where 16 may be")
    most = np.full((1, 15 << 20), 7, np.uint8)
    assert np.array_equal(server.infer(name, tensor("x", most)).as_numpy("y"), most)


CHECKS = [
    integers_keep_every_bit,
    floats_keep_every_bit,
    truth_values_come_back,
    texts_come_back_whatever_is_in_them,
    texts_with_zero_bytes_are_refused,
    bytes_that_are_no_text_are_refused,
    no_rows_are_an_answer_without_rows,
    many_rows_come_back_in_order,
    compressed_requests_are_read,
    a_graph_without_a_batch_runs_each_request_by_itself,
    outputs_come_as_they_are_asked_for,
    the_highest_values_are_ranked,
    ids_and_versions_are_given_back,
    what_does_not_fit_the_graph_is_refused,
    inputs_of_different_batches_are_refused,
    sequences_are_refused,
    priorities_and_own_parameters_are_taken,
    a_request_waits_no_longer_than_it_may,
    requests_share_a_run_and_keep_their_answers,
    a_full_batch_is_answered_at_once,
    a_bad_request_of_a_batch_fails_alone,
    a_request_that_is_too_large_is_refused_and_the_connection_lives,
]
