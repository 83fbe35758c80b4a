"""System shared memory for inputs and outputs; CUDA memory as far as it goes without a GPU (`cuda_shared_memory.py` needs one)."""

from __future__ import annotations

import base64
import contextlib
import ctypes
import os
import pathlib
from collections.abc import Iterator

import numpy as np
import tritonclient.grpc as triton
from tritonclient.utils import serialize_byte_tensor
from tritonclient.utils import shared_memory as memory

from triton import graphs
from triton.calls import Server, refused, tensor, texts


def key(name: str) -> str:
    """A name that no other process has."""
    return f"/quintet-{os.getpid()}-{name}"


@contextlib.contextmanager
def region(server: Server, name: str, size: int) -> Iterator:
    """A region of shared memory that the server knows."""
    handle = memory.create_shared_memory_region(name, key(name), size, create_only=True)
    try:
        server.client.register_system_shared_memory(name, key(name), size)
        yield handle
    finally:
        server.client.unregister_system_shared_memory(name)
        memory.destroy_shared_memory_region(handle)


def shared_input(name: str, values: np.ndarray, where: str, offset: int = 0) -> triton.InferInput:
    given = triton.InferInput(name, values.shape, tensor(name, values).datatype())
    return given.set_shared_memory(where, values.nbytes, offset)


def shared_output(name: str, where: str, size: int, offset: int = 0) -> triton.InferRequestedOutput:
    output = triton.InferRequestedOutput(name)
    output.set_shared_memory(where, size, offset)
    return output


def inputs_and_outputs_lie_in_shared_memory(server: Server) -> None:
    model = server.load("shared", graphs.sum_and_difference())
    a, b = np.arange(6, dtype=np.float32).reshape(2, 3), np.full((2, 3), 10, np.float32)
    size = a.nbytes
    with region(server, "in", 2 * size) as given, region(server, "out", 3 * size) as answered:
        memory.set_shared_memory_region(given, [a, b])
        inputs = [shared_input("a", a, "in"), shared_input("b", b, "in", size)]
        outputs = [shared_output("difference", "out", size, size), shared_output("sum", "out", size)]
        memory.set_shared_memory_region(answered, [np.full((3, 6), -1, np.float32)])
        result = server.infer(model, *inputs, outputs=outputs)
        read = lambda offset: memory.get_contents_as_numpy(answered, np.float32, (2, 3), offset).copy()  # noqa: E731
        assert np.array_equal(read(0), a + b) and np.array_equal(read(size), a - b)
        assert np.all(read(2 * size) == -1), "nothing beyond an output is written"
        for output, offset in (("difference", size), ("sum", 0)):
            parameters = result.get_output(output).parameters
            assert parameters["shared_memory_region"].string_param == "out" and parameters["shared_memory_byte_size"].int64_param == size
            assert parameters["shared_memory_offset"].int64_param == offset
        assert not any(result.get_response().raw_output_contents), "they are not sent as well"
        # Some lie there, others are sent.
        outputs = [shared_output("sum", "out", size), triton.InferRequestedOutput("difference")]
        result = server.infer(model, shared_input("a", b, "in", size), tensor("b", a), outputs=outputs)
        assert np.array_equal(read(0), a + b) and np.array_equal(result.as_numpy("difference"), b - a)
        result = server.infer(model, tensor("a", a), shared_input("b", b, "in", size))
        assert np.array_equal(result.as_numpy("sum"), a + b)
        # The region is read anew for each request.
        memory.set_shared_memory_region(given, [a + 1, b])
        assert np.array_equal(server.infer(model, *inputs).as_numpy("sum"), a + b + 1)
        del read


def texts_lie_in_shared_memory(server: Server) -> None:
    model = server.load("shared-texts", graphs.identity("BYTES"))
    words = serialize_byte_tensor(texts([["one", "天地", ""]]))
    size = len(words.item())
    with region(server, "texts", size + 100) as handle:
        memory.set_shared_memory_region(handle, [words])
        given = triton.InferInput("x", [1, 3], "BYTES").set_shared_memory("texts", size)
        result = server.infer(model, given, outputs=[shared_output("y", "texts", 100, size)])
        assert result.get_output("y").parameters["shared_memory_byte_size"].int64_param == size
        answer = memory.get_contents_as_numpy(handle, np.object_, [1, 3], size)
        assert [text.decode() for text in answer.flatten()] == ["one", "天地", ""]


def a_window_that_does_not_fit_is_refused(server: Server) -> None:
    model = server.load("shared-small", graphs.identity("FP32"))
    values = np.array([[1, 2, 3]], np.float32)
    with region(server, "small", 16) as handle:
        memory.set_shared_memory_region(handle, [np.array([1, 2, 3, 4], np.float32)])
        given = lambda size, offset: triton.InferInput("x", [1, 3], "FP32").set_shared_memory("small", size, offset)  # noqa: E731
        for size, offset in ((8, 0), (16, 0), (12, 8), (12, 1 << 40), (1 << 62, 0), (0, 0)):
            refused("INVALID_ARGUMENT", server.infer, model, given(size, offset))
        for size, offset in ((8, 0), (12, 8), (100, 0), (0, 0)):
            refused("INVALID_ARGUMENT", server.infer, model, tensor("x", values), outputs=[shared_output("y", "small", size, offset)])
        for refusal in (shared_input("x", values, "unknown"), tensor("x", values)):
            message = refused("INVALID_ARGUMENT", server.infer, model, refusal, outputs=[shared_output("y", "unknown", 12)])
            assert "unknown" in message, message
        assert list(memory.get_contents_as_numpy(handle, np.float32, [4])) == [1, 2, 3, 4], "what is refused writes nothing"
        assert np.array_equal(server.infer(model, given(12, 4)).as_numpy("y"), [[2, 3, 4]])


def regions_are_told_and_forgotten(server: Server) -> None:
    client = server.client
    known = lambda name="": client.get_system_shared_memory_status(name, as_json=True).get("regions", {})  # noqa: E731
    assert known() == {}
    with region(server, "one", 64), region(server, "two", 128):
        client.register_system_shared_memory("part", key("two"), 32, offset=96)
        assert known("part") == {"part": {"name": "part", "key": key("two"), "offset": "96", "byte_size": "32"}}
        assert sorted(known()) == ["one", "part", "two"]
        message = refused("ALREADY_EXISTS", client.register_system_shared_memory, "one", key("two"), 64)
        assert "one" in message and known("one")["one"]["key"] == key("one"), message
        client.unregister_system_shared_memory("part")
        assert sorted(known()) == ["one", "two"]
        refused("INVALID_ARGUMENT", known, "part")
        client.unregister_system_shared_memory()
        assert known() == {}
        client.unregister_system_shared_memory("part")


def keys_name_nothing_but_shared_memory(server: Server) -> None:
    secret = pathlib.Path("/dev/shm") / f"quintet-{os.getpid()}-link"
    secret.symlink_to("/etc/hostname")
    try:
        with region(server, "real", 64):
            for wrong in ("../../etc/hostname", "/../etc/hostname", "/a/b", "", "/", f"/{secret.name}", key("none")):
                refused("INVALID_ARGUMENT", server.client.register_system_shared_memory, "wrong", wrong, 1)
            for size, offset in ((1 << 20, 0), (64, 1), (1, (1 << 64) - 1), (0, 0)):
                refused("INVALID_ARGUMENT", server.client.register_system_shared_memory, "wrong", key("real"), size, offset=offset)
            assert list(server.client.get_system_shared_memory_status().regions) == ["real"]
    finally:
        secret.unlink()


def memory_that_shrinks_harms_nobody(server: Server) -> None:
    model = server.load("shrinking", graphs.identity("FP32"))
    values = np.zeros((1, 2048), np.float32)
    with region(server, "shrinking", values.nbytes):
        os.truncate(f"/dev/shm{key('shrinking')}", 16)
        refused("INVALID_ARGUMENT", server.infer, model, shared_input("x", values, "shrinking"))
        assert np.array_equal(server.infer(model, tensor("x", values)).as_numpy("y"), values), "the server lives"


def gpus() -> int:
    """How many this machine has, by its driver's own word."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return 0
    count = ctypes.c_int()
    return count.value if driver.cuInit(0) == 0 and driver.cuDeviceGetCount(ctypes.byref(count)) == 0 else 0


def cuda_memory_is_refused_with_a_way_out_where_there_is_no_gpu(server: Server) -> None:
    client = server.client
    assert ("cuda_shared_memory" in client.get_server_metadata().extensions) == (gpus() > 0), "announced is what is taken"
    assert len(client.get_cuda_shared_memory_status().regions) == 0
    handle = base64.b64encode(b"x" * 64)
    if gpus() == 0:
        message = refused("UNIMPLEMENTED", client.register_cuda_shared_memory, "gpu", handle, 0, 64)
        assert "CUDA" in message and "system shared memory" in message, message
    else:
        message = refused("INVALID_ARGUMENT", client.register_cuda_shared_memory, "gpu", handle, 0, 64)
        assert "raw_handle" in message, message
    refused("INVALID_ARGUMENT", client.register_cuda_shared_memory, "", handle, 0, 64)
    assert len(client.get_cuda_shared_memory_status().regions) == 0
    refused("INVALID_ARGUMENT", client.get_cuda_shared_memory_status, "gpu")
    client.unregister_cuda_shared_memory("gpu")
    client.unregister_cuda_shared_memory()


def the_kinds_of_memory_share_their_names(server: Server) -> None:
    client = server.client
    with region(server, "named", 64):
        refused("ALREADY_EXISTS", client.register_cuda_shared_memory, "named", base64.b64encode(b"x" * 64), 0, 64)
        assert "named" in refused("INVALID_ARGUMENT", client.get_cuda_shared_memory_status, "named")
        client.unregister_cuda_shared_memory("named")
        client.unregister_cuda_shared_memory()
        assert list(client.get_system_shared_memory_status().regions) == ["named"], "it is of the other kind"


CHECKS = [
    inputs_and_outputs_lie_in_shared_memory,
    texts_lie_in_shared_memory,
    a_window_that_does_not_fit_is_refused,
    regions_are_told_and_forgotten,
    keys_name_nothing_but_shared_memory,
    memory_that_shrinks_harms_nobody,
    cuda_memory_is_refused_with_a_way_out_where_there_is_no_gpu,
    the_kinds_of_memory_share_their_names,
]
