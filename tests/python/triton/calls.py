"""How the checks call the server: inputs, answers, refusals; and what is waited for, never for long without an end."""

from __future__ import annotations

import concurrent.futures
import dataclasses
import pathlib
import queue
import shutil

import numpy as np
import tritonclient.grpc as triton
from tritonclient.utils import InferenceServerException, np_to_triton_dtype

from triton import graphs

# Seconds: whatever takes longer hangs.
PATIENCE = 60


@dataclasses.dataclass
class Server:
    """The server, and the folder that it takes its models from."""

    address: str
    repository: pathlib.Path
    client: triton.InferenceServerClient

    def fresh(self, name: str) -> str:
        """A model's name that nothing stands behind: what an earlier run of the checks left is taken away."""
        shutil.rmtree(self.repository / name, ignore_errors=True)
        if self.client.is_model_ready(name):
            self.client.unload_model(name, client_timeout=PATIENCE)
        return name

    def load(self, name: str, model: bytes, **parameters) -> str:
        """Writes a model as its only version 1, and loads it."""
        graphs.write(self.repository, self.fresh(name), model)
        self.client.load_model(name, client_timeout=PATIENCE, **parameters)
        assert self.client.is_model_ready(name), f"{name} was loaded, and is not ready"
        return name

    def infer(self, model: str, *inputs: triton.InferInput, **more) -> triton.InferResult:
        return self.client.infer(model, list(inputs), **{"client_timeout": PATIENCE, **more})

    def later(self, model: str, *inputs: triton.InferInput, **more) -> concurrent.futures.Future:
        """An `async_infer`, whose callback's result or error a future holds."""
        future: concurrent.futures.Future = concurrent.futures.Future()
        end = lambda result, error: future.set_exception(error) if error else future.set_result(result)  # noqa: E731
        future.call = self.client.async_infer(model, list(inputs), end, **{"client_timeout": PATIENCE, **more})
        return future


def tensor(name: str, values: np.ndarray) -> triton.InferInput:
    return triton.InferInput(name, values.shape, np_to_triton_dtype(values.dtype)).set_data_from_numpy(values)


def number(value: float, name: str = "x") -> triton.InferInput:
    """One row with one number."""
    return tensor(name, np.array([[value]], np.float32))


def index(value: int) -> triton.InferInput:
    return tensor("index", np.array([[value]], np.int64))


def texts(values: list) -> np.ndarray:
    return np.array(values, dtype=np.object_)


def refused(code: str, call, *arguments, **more) -> str:
    """The message of a refusal, which must come with this code."""
    try:
        answer = call(*arguments, **more)
    except InferenceServerException as error:
        assert error.status() == f"StatusCode.{code}", f"{code} was due, not {error}"
        return error.message()
    raise AssertionError(f"{code} was due, not an answer: {answer}")


class Stream:
    """A stream of requests; its answers and errors are taken one by one, in the order in which they come."""

    def __init__(self, server: Server, **more) -> None:
        self.client = triton.InferenceServerClient(server.address)
        self.answers: queue.Queue = queue.Queue()
        self.client.start_stream(lambda result, error: self.answers.put((result, error)), **more)

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, *failure) -> None:
        self.client.stop_stream(cancel_requests=failure[0] is not None)
        self.client.close()

    def ask(self, model: str, *inputs: triton.InferInput, **more) -> None:
        self.client.async_stream_infer(model, list(inputs), **more)

    def take(self) -> tuple:
        return self.answers.get(timeout=PATIENCE)

    def answer(self) -> triton.InferResult:
        result, error = self.take()
        assert error is None, error
        return result

    def refusal(self) -> str:
        result, error = self.take()
        assert result is None, f"an error was due, not {result.get_response()}"
        return error.message()
