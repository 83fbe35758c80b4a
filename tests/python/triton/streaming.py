"""Streams, and hundreds of calls at once, whose answers must each be their own; with the client of asyncio, too."""

from __future__ import annotations

import asyncio

import numpy as np
import tritonclient.grpc.aio as aio

from triton import graphs
from triton.calls import PATIENCE, Server, Stream, index, number, refused, tensor


def a_stream_answers_each_request(server: Server) -> None:
    name = server.load("streamed", graphs.adds(1))
    with Stream(server) as stream:
        for n in range(300):
            stream.ask(name, number(n), request_id=str(n), enable_empty_final_response=n % 2 == 0)
        answers = {}
        for _ in range(300):
            result = stream.answer()
            response = result.get_response()
            assert response.parameters["triton_final_response"].bool_param is True, "each request has one answer"
            assert response.id not in answers, f"{response.id} is answered twice"
            answers[response.id] = result.as_numpy("y").item()
    assert answers == {str(n): n + 1 for n in range(300)}


def an_error_leaves_its_stream_alive(server: Server) -> None:
    name = server.load("streamed-table", graphs.table())
    with Stream(server) as stream:
        for bad, inputs, more in (
            ("nothing", [index(1)], {}),
            (name, [index(99)], {}),
            (name, [number(1)], {}),
            (name, [index(1)], {"model_version": "99"}),
            (name, [index(1)], {"sequence_id": 3, "sequence_start": True}),
        ):
            stream.ask(bad, *inputs, **more)
            assert stream.refusal(), "an error has words"
            stream.ask(name, index(2), request_id="good")
            result = stream.answer()
            assert (result.get_response().id, result.as_numpy("value").item()) == ("good", 30)


def a_stream_ends_at_its_timeout(server: Server) -> None:
    with Stream(server, stream_timeout=0.2) as stream:
        result, error = stream.take()
        assert result is None and error.status() == "StatusCode.DEADLINE_EXCEEDED", error


def hundreds_of_calls_get_their_own_answers(server: Server) -> None:
    name = server.load("own-answers", graphs.sum_and_difference())
    generator = np.random.default_rng(1)
    pairs = [generator.normal(size=(2, rows, 3)).astype(np.float32) for rows in generator.integers(1, 5, 400)]
    calls = [server.later(name, tensor("a", a), tensor("b", b), request_id=str(n)) for n, (a, b) in enumerate(pairs)]
    for n, ((a, b), call) in enumerate(zip(pairs, calls)):
        result = call.result(PATIENCE)
        assert result.get_response().id == str(n)
        assert np.array_equal(result.as_numpy("sum"), a + b) and np.array_equal(result.as_numpy("difference"), a - b), n


def asyncio_clients_get_their_own_answers(server: Server) -> None:
    name = server.load("asyncio", graphs.adds(5))

    async def ask() -> None:
        async with aio.InferenceServerClient(server.address) as client:
            assert await client.is_server_live() and await client.is_server_ready() and await client.is_model_ready(name)
            assert (await client.get_model_metadata(name)).inputs[0].name == "x"
            assert (await client.get_model_config(name)).config.name == name
            infer = lambda n: client.infer(name, [number(n)], request_id=str(n), client_timeout=PATIENCE)  # noqa: E731
            results = await asyncio.gather(*(infer(n) for n in range(300)))
            assert [(r.as_numpy("y").item(), r.get_response().id) for r in results] == [(n + 5, str(n)) for n in range(300)]
            error = (await asyncio.gather(client.infer("nothing", [number(1)]), return_exceptions=True))[0]
            assert error.status() == "StatusCode.NOT_FOUND", error
            assert (await client.get_inference_statistics(name)).model_stats[0].inference_stats.success.count == 300

    asyncio.run(asyncio.wait_for(ask(), 2 * PATIENCE))


def asyncio_streams_get_their_own_answers(server: Server) -> None:
    name = server.load("asyncio-stream", graphs.adds(5))

    async def requests():
        for n in range(100):
            yield {"model_name": "nothing" if n % 10 == 9 else name, "inputs": [number(n)], "request_id": str(n)}

    async def ask() -> None:
        answers, errors = {}, 0
        async with aio.InferenceServerClient(server.address) as client:
            async for result, error in client.stream_infer(requests()):
                if error is None:
                    answers[result.get_response().id] = result.as_numpy("y").item()
                else:
                    assert "nothing" in error.message(), error
                    errors += 1
        assert errors == 10 and answers == {str(n): n + 5 for n in range(100) if n % 10 != 9}

    asyncio.run(asyncio.wait_for(ask(), PATIENCE))


def bad_calls_among_hundreds_fail_alone(server: Server) -> None:
    name = server.load("mixed", graphs.table())
    calls = [(n % 5, server.later(name, index(n % 5))) for n in range(300)]
    for n, call in calls:
        if n == 4:
            refused("INVALID_ARGUMENT", call.result, PATIENCE)
        else:
            assert call.result(PATIENCE).as_numpy("value").item() == 10 * (n + 1)


CHECKS = [
    a_stream_answers_each_request,
    an_error_leaves_its_stream_alive,
    a_stream_ends_at_its_timeout,
    hundreds_of_calls_get_their_own_answers,
    asyncio_clients_get_their_own_answers,
    asyncio_streams_get_their_own_answers,
    bad_calls_among_hundreds_fail_alone,
]
