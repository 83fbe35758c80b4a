"""CUDA shared memory of the Open Inference Protocol, by Triton's own Python client, unmodified, against the real process on a GPU.

    python tests/python/cuda_shared_memory.py --quintet target/release/quintet --library .runtime/onnxruntime-gpu
    python tests/python/cuda_shared_memory.py --quintet target/release/quintet --providers cpu          # graphs on the processor

It starts the process once for each provider, on two of the embedded models, and compares what lies in a GPU's memory with what the same
call sends: on the processor bit by bit; a GPU's kernels may add in another order from run to run. Needs a GPU with NVIDIA's driver,
tests/python/requirements.txt, and cuda-python. `--time` says what a batch of images costs.
"""

from __future__ import annotations

import argparse
import base64
import concurrent.futures
import contextlib
import dataclasses
import pathlib
import shutil
import statistics
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator

import cuda.bindings.runtime as runtime
import numpy as np
import tritonclient.grpc as triton
import tritonclient.utils.cuda_shared_memory as cuda
from tritonclient.utils import shared_memory as system

from process import ROOT, quintet
from triton.calls import Server, refused, tensor
from triton.sharing import key, region as system_region, shared_input, shared_output

MODELS = ("glyph-gan", "vae-digits")
GENERATOR, ENCODER = "glyph-gan/generator", "vae-digits/encoder"

# Bytes of an image of the generator.
IMAGE = 32 * 32 * 4

MIB = 1 << 20


@dataclasses.dataclass
class Compared(Server):
    """A server whose answers are compared with others of its own."""

    is_exact: bool = True
    others: int = 0

    def same(self, left: np.ndarray, right: np.ndarray) -> bool:
        """Whether these are the same answer: the same bits, or where a GPU computes them nearly so."""
        if left.tobytes() == right.tobytes():
            return True
        self.others += 1
        return not self.is_exact and left.shape == right.shape and np.allclose(left, right, atol=1e-4)


@contextlib.contextmanager
def region(server: Compared, name: str, size: int) -> Iterator:
    """Memory of GPU 0 that the server knows."""
    handle = cuda.create_shared_memory_region(name, size, 0)
    try:
        server.client.register_cuda_shared_memory(name, cuda.get_raw_handle(handle), 0, size)
        yield handle
    finally:
        server.client.unregister_cuda_shared_memory(name)
        cuda.destroy_shared_memory_region(handle)


def noise(count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """What the generator makes so many images of."""
    random = np.random.default_rng(seed)
    return random.standard_normal((count, 64)).astype(np.float32), random.integers(0, 36, count)


def images(server: Compared, z: np.ndarray, kinds: np.ndarray) -> np.ndarray:
    """What the plain call gives."""
    return server.infer(GENERATOR, tensor("z", z), tensor("class", kinds)).as_numpy("image")


def held(handle, shape: tuple, kind: type = np.float32) -> np.ndarray:
    """What a region holds from its beginning on."""
    return cuda.get_contents_as_numpy(handle, kind, shape)


def it_is_announced(server: Compared) -> None:
    assert "cuda_shared_memory" in server.client.get_server_metadata().extensions


def inputs_and_outputs_lie_on_the_gpu(server: Compared) -> None:
    z, kinds = noise(4)
    expected = images(server, z, kinds)
    with region(server, "in", z.nbytes + kinds.nbytes) as given, region(server, "out", 6 * IMAGE) as answered:
        cuda.set_shared_memory_region(given, [z, kinds])
        cuda.set_shared_memory_region(answered, [np.full((6, 32, 32), -7, np.float32)])
        inputs = [shared_input("z", z, "in"), shared_input("class", kinds, "in", z.nbytes)]
        result = server.infer(GENERATOR, *inputs, outputs=[shared_output("image", "out", 4 * IMAGE, IMAGE)])
        written = held(answered, (6, 1, 32, 32))
        assert server.same(written[1:5], expected), f"other by {np.abs(written[1:5] - expected).max()}"
        assert np.all(written[[0, 5]] == -7), "nothing beside the window is written"
        told = result.get_output("image").parameters
        assert (told["shared_memory_region"].string_param, told["shared_memory_byte_size"].int64_param) == ("out", 4 * IMAGE)
        assert told["shared_memory_offset"].int64_param == IMAGE and not any(result.get_response().raw_output_contents)
        # Some lie there, others are sent; and the region is read anew for each request.
        assert server.same(expected, server.infer(GENERATOR, inputs[0], tensor("class", kinds)).as_numpy("image"))
        other, _ = noise(4, seed=1)
        cuda.set_shared_memory_region(given, [other])
        server.infer(GENERATOR, *inputs, outputs=[shared_output("image", "out", 4 * IMAGE)])
        expected = images(server, other, kinds)
        assert server.same(held(answered, (4, 1, 32, 32)), expected)
        # One input lies in the system's shared memory, one in the GPU's.
        with system_region(server, "host", z.nbytes) as host:
            system.set_shared_memory_region(host, [other])
            wanted = shared_output("image", "out", 4 * IMAGE, 2 * IMAGE)
            server.infer(GENERATOR, shared_input("z", other, "host"), inputs[1], outputs=[wanted])
            assert server.same(held(answered, (6, 1, 32, 32))[2:], expected)


def several_outputs_lie_on_the_gpu(server: Compared) -> None:
    x = np.random.default_rng(2).random((3, 1, 8, 8), np.float32)
    plain = server.infer(ENCODER, tensor("x", x))
    with region(server, "vae", 4096) as handle:
        cuda.set_shared_memory_region(handle, [x])
        outputs = [shared_output("log_variance", "vae", 120, 2048), shared_output("mean", "vae", 200, 1024)]
        result = server.infer(ENCODER, shared_input("x", x, "vae"), outputs=outputs)
        floats = held(handle, (1024,))
        assert server.same(floats[256:286].reshape(3, 10), plain.as_numpy("mean"))
        assert server.same(floats[512:542].reshape(3, 10), plain.as_numpy("log_variance"))
        assert result.get_output("mean").parameters["shared_memory_byte_size"].int64_param == 120, "what it has, not what it might have had"


def a_window_that_does_not_fit_is_refused(server: Compared) -> None:
    z, kinds = noise(1)
    with region(server, "small", IMAGE) as handle:
        cuda.set_shared_memory_region(handle, [np.full(IMAGE // 4, 5, np.float32)])
        for size, offset in ((z.nbytes - 4, 0), (z.nbytes, IMAGE - 252), (z.nbytes, 1 << 40), (1 << 62, 0), (0, 0)):
            given = triton.InferInput("z", [1, 64], "FP32").set_shared_memory("small", size, offset)
            refused("INVALID_ARGUMENT", server.infer, GENERATOR, given, tensor("class", kinds))
        for size, offset in ((IMAGE - 4, 0), (IMAGE, 4), (2 * IMAGE, 0), (0, 0)):
            wanted = shared_output("image", "small", size, offset)
            refused("INVALID_ARGUMENT", server.infer, GENERATOR, tensor("z", z), tensor("class", kinds), outputs=[wanted])
        assert np.all(held(handle, (IMAGE // 4,)) == 5), "what is refused writes nothing"


def what_is_not_shared_memory_is_refused(server: Compared) -> None:
    client = server.client
    handle = cuda.create_shared_memory_region("wrong", 4 * MIB, 0)
    try:
        raw = cuda.get_raw_handle(handle)
        for size in (0, 8 * MIB, 1 << 40, (1 << 64) - 1):
            assert "byte_size" in refused("INVALID_ARGUMENT", client.register_cuda_shared_memory, "wrong", raw, 0, size)
        for device in (-1, 64, 1 << 40):
            assert "device_id" in refused("INVALID_ARGUMENT", client.register_cuda_shared_memory, "wrong", raw, device, 64)
        for garbage in (b"", b"123", bytes(63), bytes(65), bytes(64), bytes(range(64))):
            message = refused("INVALID_ARGUMENT", client.register_cuda_shared_memory, "wrong", base64.b64encode(garbage), 0, 64)
            assert "raw_handle" in message, message
        assert len(client.get_cuda_shared_memory_status().regions) == 0
        client.register_cuda_shared_memory("right", raw, 0, 4 * MIB)
        client.unregister_cuda_shared_memory("right")
    finally:
        cuda.destroy_shared_memory_region(handle)
    # The client's library frees memory with its last reference. What is freed has no handle that could be opened.
    del handle
    refused("INVALID_ARGUMENT", client.register_cuda_shared_memory, "wrong", raw, 0, 64)


def regions_are_told_and_forgotten(server: Compared) -> None:
    client = server.client
    known = lambda name="": client.get_cuda_shared_memory_status(name, as_json=True).get("regions", {})  # noqa: E731
    z, kinds = noise(1)
    assert known() == {}
    with region(server, "one", 256) as one, region(server, "two", 512), system_region(server, "three", 64):
        # The same memory under another name, in part.
        client.register_cuda_shared_memory("part", cuda.get_raw_handle(one), 0, 128)
        assert known("two") == {"two": {"name": "two", "byte_size": "512"}}, known("two")
        assert sorted(known()) == ["one", "part", "two"]
        for taken in ("one", "three"):
            message = refused("ALREADY_EXISTS", client.register_cuda_shared_memory, taken, cuda.get_raw_handle(one), 0, 64)
            assert taken in message, message
        refused("ALREADY_EXISTS", client.register_system_shared_memory, "one", key("three"), 64)
        refused("INVALID_ARGUMENT", known, "three")
        refused("INVALID_ARGUMENT", client.get_system_shared_memory_status, "one")
        cuda.set_shared_memory_region(one, [z])
        infer = lambda: server.infer(GENERATOR, shared_input("z", z, "one"), tensor("class", kinds))  # noqa: E731
        assert server.same(infer().as_numpy("image"), images(server, z, kinds))
        client.unregister_cuda_shared_memory("part")
        infer()
        client.unregister_system_shared_memory("one")
        infer()
        client.unregister_cuda_shared_memory("one")
        assert "one" in refused("INVALID_ARGUMENT", infer)
        assert sorted(known()) == ["two"]
        client.unregister_cuda_shared_memory()
        assert known() == {} and list(client.get_system_shared_memory_status().regions) == ["three"]
        client.unregister_cuda_shared_memory("one")


def requests_at_once_do_not_disturb_each_other(server: Compared) -> None:
    asked = [noise(3, seed) for seed in range(16)]
    expected = [images(server, *noise) for noise in asked]
    size = 3 * IMAGE

    def ask(index: int) -> bool:
        z, kinds = asked[index]
        with region(server, f"own {index}", z.nbytes + size) as handle:
            for _ in range(5):
                cuda.set_shared_memory_region(handle, [z, np.zeros(size // 4, np.float32)])
                wanted = shared_output("image", f"own {index}", size, z.nbytes)
                server.infer(GENERATOR, shared_input("z", z, f"own {index}"), tensor("class", kinds), outputs=[wanted])
                if not server.same(held(handle, (z.size + size // 4,))[z.size :].reshape(3, 1, 32, 32), expected[index]):
                    return False
        return True

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        assert all(pool.map(ask, range(len(asked))))


def memory_comes_back(server: Compared) -> None:
    def free() -> int:
        _, free, _ = runtime.cudaMemGetInfo()
        return free

    def come_and_go() -> None:
        handle = cuda.create_shared_memory_region("large", 256 * MIB, 0)
        raw = cuda.get_raw_handle(handle)
        for name in ("large", "again"):
            server.client.register_cuda_shared_memory(name, raw, 0, 256 * MIB)
        refused("INVALID_ARGUMENT", server.client.register_cuda_shared_memory, "larger", raw, 0, 1 << 40)
        server.client.unregister_cuda_shared_memory()
        cuda.destroy_shared_memory_region(handle)

    come_and_go()
    before = free()
    for _ in range(8):
        come_and_go()
    assert before - free() < 64 * MIB, f"{(before - free()) / MIB:.0f} MiB are gone"


CHECKS = [
    it_is_announced,
    inputs_and_outputs_lie_on_the_gpu,
    several_outputs_lie_on_the_gpu,
    a_window_that_does_not_fit_is_refused,
    what_is_not_shared_memory_is_refused,
    regions_are_told_and_forgotten,
    requests_at_once_do_not_disturb_each_other,
    memory_comes_back,
]


def milliseconds(call: Callable[[], object], most: int = 60, seconds: float = 1.5) -> str:
    """The median of calls, as many as there is time for, after three that do not count."""
    for _ in range(3):
        call()
    taken = []
    while len(taken) < 5 or (len(taken) < most and sum(taken) < 1e3 * seconds):
        begun = time.perf_counter()
        call()
        taken.append((time.perf_counter() - begun) * 1e3)
    return f"{statistics.median(taken):8.3f} ms ({min(taken):.3f} to {max(taken):.3f}, {len(taken)} calls)"


def timings(server: Compared, count: int) -> None:
    """What a batch of images costs, by where it is left."""
    z, kinds = noise(count)
    size = count * IMAGE
    inputs = [tensor("z", z), tensor("class", kinds)]
    ask = lambda **more: server.infer(GENERATOR, *inputs, **more)  # noqa: E731
    with region(server, "gpu", size), system_region(server, "host", size) as host:
        rows = {
            "sent with the answer": lambda: ask().as_numpy("image"),
            "in system shared memory": lambda: (
                ask(outputs=[shared_output("image", "host", size)]),
                system.get_contents_as_numpy(host, np.float32, (count, 1, 32, 32)),
            ),
            "in CUDA memory, left there": lambda: ask(outputs=[shared_output("image", "gpu", size)]),
        }
        for name, call in rows.items():
            print(f"  {count} images, {size / MIB:.2f} MiB, {name:28} {milliseconds(call)}", flush=True)


def check(server: Compared) -> list[str]:
    failed = []
    for one in CHECKS:
        begun = time.monotonic()
        try:
            one(server)
            print(f"  {one.__name__}: ok, {time.monotonic() - begun:.1f} s", flush=True)
        except Exception:  # noqa: BLE001
            failed.append(one.__name__)
            print(f"  {one.__name__}: FAILED\n{traceback.format_exc()}", flush=True)
            server.client.unregister_cuda_shared_memory()
    return failed


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--quintet", type=pathlib.Path, required=True, help="the program")
    arguments.add_argument("--models", type=pathlib.Path, default=ROOT / "deploy/models", help="the folder of the embedded models")
    arguments.add_argument("--library", type=pathlib.Path, help="ONNX Runtime's folder (runtime.library)")
    arguments.add_argument("--providers", nargs="+", default=["cpu", "cuda"])
    arguments.add_argument("--set", action="append", default=[], help="a setting of the process")
    arguments.add_argument("--time", action="store_true", help="time batches too")
    options = arguments.parse_args()
    more = [f"runtime.library={options.library.resolve()}"] if options.library else []
    failed = []
    with tempfile.TemporaryDirectory() as models:
        for name in MODELS:
            shutil.copytree(options.models / name, pathlib.Path(models) / name)
        for provider in options.providers:
            settings = [f"models.path={models}", f"runtime.provider={provider}", *more, *options.set]
            program = quintet(options.quintet.resolve(), "up", "--keep-going", *(f"--set={setting}" for setting in settings))
            print(f"graphs on {provider}", flush=True)
            with program, triton.InferenceServerClient(program.address) as client:
                server = Compared(program.address, pathlib.Path(models), client, is_exact=provider == "cpu")
                failed += [f"{name} ({provider})" for name in check(server)]
                print(f"  answers with other bits than the plain call's: {server.others}", flush=True)
                if options.time:
                    for count in (64, 1024):
                        timings(server, count)
            if failed:
                print(program.log[-4000:], file=sys.stderr)
    if failed:
        sys.exit(f"{len(failed)} failed: {', '.join(failed)}")
    print("all of it works")


if __name__ == "__main__":
    main()
