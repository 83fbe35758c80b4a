"""The repository: models that are loaded, configured, handed over, replaced while they are used, broken and unloaded."""

from __future__ import annotations

import json
import os
import pathlib
import shutil
import tempfile
import threading

import numpy as np
from tritonclient.utils import InferenceServerException

from triton import graphs
from triton.calls import PATIENCE, Server, number, refused, tensor


def answer(server: Server, name: str, **more) -> float:
    """What a graph adds to nothing."""
    return server.infer(name, number(0), **more).as_numpy("y").item()


def an_unloaded_model_is_gone_until_it_is_loaded_again(server: Server) -> None:
    name = server.load("comes-and-goes", graphs.adds(1))
    assert answer(server, name) == 1
    server.client.unload_model(name, client_timeout=PATIENCE)
    assert server.client.is_model_ready(name) is False
    refused("NOT_FOUND", server.infer, name, number(0))
    refused("NOT_FOUND", server.client.unload_model, name)
    server.client.load_model(name, client_timeout=PATIENCE)
    assert answer(server, name) == 1
    server.client.unload_model(name, unload_dependents=True, client_timeout=PATIENCE)
    assert server.client.is_model_ready(name) is False


def only_a_model_of_the_repository_can_be_loaded(server: Server) -> None:
    refused("NOT_FOUND", server.client.load_model, "never-written")
    outside = server.repository.parent / f"outside-{os.getpid()}"
    graphs.write(outside.parent, outside.name, graphs.adds(1))
    try:
        for name in (f"../{outside.name}", f"a/../../{outside.name}", str(outside), "..", ".", "", "x" * 300):
            try:
                server.client.load_model(name)
            except InferenceServerException as error:
                assert error.status() in ("StatusCode.NOT_FOUND", "StatusCode.INVALID_ARGUMENT"), (name, error)
            else:
                raise AssertionError(f"{name} was loaded")
    finally:
        shutil.rmtree(outside)


def a_configuration_takes_the_place_of_the_models_own(server: Server) -> None:
    name = server.load("reconfigured", graphs.adds(1), config=json.dumps({"max_batch_size": 4, "instance_group": [{"count": 3}]}))
    config = server.client.get_model_config(name).config
    assert (config.max_batch_size, config.instance_group[0].count) == (4, 3), config
    rows = np.arange(11, dtype=np.float32).reshape(11, 1)
    assert np.array_equal(server.infer(name, tensor("x", rows)).as_numpy("y"), rows + 1), "more rows than a batch has"
    sizes = server.client.get_inference_statistics(name).model_stats[0].batch_stats
    assert sizes and max(batch.batch_size for batch in sizes) <= 4, sizes
    # What get_model_config says can be given back.
    again = server.client.get_model_config(name, as_json=True)["config"]
    server.client.load_model(name, config=json.dumps(again), client_timeout=PATIENCE)
    assert server.client.get_model_config(name, as_json=True)["config"] == again
    for wrong in ("{", "[]", '{"max_batch_size": -1}', '{"sequence_batching": {}}', '{"backend": "pytorch"}', '{"instance_group": [{"count": 65}]}'):
        refused("INVALID_ARGUMENT", server.client.load_model, name, config=wrong)
    assert server.client.get_model_config(name).config.max_batch_size == 4, "what is refused changes nothing"
    server.client.load_model(name, client_timeout=PATIENCE)
    assert server.client.get_model_config(name).config.max_batch_size != 4, "a plain load takes the model's own"


def a_policy_serves_several_versions(server: Server) -> None:
    name = server.fresh("versions")
    for version in (1, 2, 3, 10):
        graphs.write(server.repository, name, graphs.adds(version), version)
    load = lambda policy: server.client.load_model(name, config=json.dumps({"version_policy": policy}), client_timeout=PATIENCE)  # noqa: E731
    for policy, versions in (
        ({"all": {}}, [1, 2, 3, 10]),
        ({"latest": {"num_versions": 2}}, [3, 10]),
        ({"specific": {"versions": ["1", "3"]}}, [1, 3]),
    ):
        load(policy)
        assert server.client.get_model_metadata(name).versions == [str(version) for version in versions], policy
        assert [answer(server, name, model_version=str(version)) for version in versions] == versions, policy
        assert answer(server, name) == versions[-1], "the highest is meant where none is said"
        refused("NOT_FOUND", server.infer, name, number(0), model_version="4")
    message = refused("NOT_FOUND", load, {"specific": {"versions": ["77"]}})
    assert server.client.get_model_metadata(name).versions == ["1", "3"], "what is refused changes nothing"
    assert "no version of 'versions'" in message, message


def files_handed_over_take_the_place_of_the_repositorys(server: Server) -> None:
    name = server.fresh("handed")
    load = lambda files, config="{}": server.client.load_model(name, config=config, files=files, client_timeout=PATIENCE)  # noqa: E731
    load({"file:1/model.onnx": graphs.adds(100)})
    assert answer(server, name) == 100 and not (server.repository / name).exists()
    load({"file:1/model.onnx": graphs.adds(200), "file:7/model.onnx": graphs.adds(700)})
    assert answer(server, name) == 700 and server.client.get_model_metadata(name).versions == ["7"]
    refused("FAILED_PRECONDITION", load, {"file:8/model.onnx": b"garbage"})
    assert answer(server, name) == 700, "what served before goes on"
    message = refused("INVALID_ARGUMENT", server.client.load_model, name, files={"file:1/model.onnx": graphs.adds(1)})
    assert "config" in message, message
    graphs.write(server.repository, name, graphs.adds(3))
    server.client.load_model(name, client_timeout=PATIENCE)
    assert answer(server, name) == 3, "a plain load takes the repository's"
    load({"file:1/model.onnx": graphs.adds(5)})
    server.client.unload_model(name, client_timeout=PATIENCE)
    server.client.load_model(name, client_timeout=PATIENCE)
    assert answer(server, name) == 3, "what was handed over goes with its model"


def file_names_lead_nowhere_else(server: Server) -> None:
    name, file = server.fresh("escaping"), f"escaped-{os.getpid()}"
    leading = ("../", "1/../", "1/../../", "/tmp/", "1//", "1/.", "x/", "1/a/", "1/a\\", "-1/", "")
    for path in (*(start + file for start in leading), "", "1/", "..", "1/..", "1/\0"):
        files = {f"file:{path}": b"x", "file:1/model.onnx": graphs.adds(1)}
        message = refused("INVALID_ARGUMENT", server.client.load_model, name, config="{}", files=files)
        assert "file:" in message, message
    refused("INVALID_ARGUMENT", server.client.load_model, name, config="{}", files={"1/model.onnx": b"x"})
    assert server.client.is_model_ready(name) is False
    temporary = pathlib.Path(tempfile.gettempdir())
    own = (server.repository, server.repository.parent, server.repository / name)
    for folder in (*own, temporary, *temporary.glob("upload-*"), pathlib.Path("/tmp")):
        assert not (folder / file).exists(), f"{file} was written to {folder}"


def a_broken_version_leaves_the_old_one_serving(server: Server) -> None:
    name = server.load("breaks", graphs.adds(1))
    for broken in (b"garbage", b"", graphs.adds(2)[:-7]):
        graphs.write(server.repository, name, broken, 2)
        message = refused("FAILED_PRECONDITION", server.client.load_model, name)
        assert "model.onnx" in message or name in message, message
        assert server.client.is_model_ready(name) is True and answer(server, name) == 1
        stand = {model.version: model for model in server.client.get_model_repository_index().models if model.name == name}
        assert stand["1"].state == "READY" and stand["2"].state == "UNAVAILABLE" and stand["2"].reason, stand
    graphs.write(server.repository, name, graphs.adds(2), 2)
    server.client.load_model(name, client_timeout=PATIENCE)
    assert answer(server, name) == 2, "it loads once it is mended"


class Callers:
    """Calls one after another from several threads, until it is left: each answer must be that of the version it names."""

    def __init__(self, server: Server, name: str, may_be_gone: bool = False) -> None:
        self.server, self.name, self.may_be_gone = server, name, may_be_gone
        self.over, self.seen, self.failures = threading.Event(), set(), []
        # Each thread has 8 calls in flight.
        self.begun = threading.Semaphore(0)
        self.threads = [threading.Thread(target=self.call) for _ in range(4)]

    def call(self) -> None:
        n = 0
        while not self.over.is_set():
            calls = [(n + k, self.server.later(self.name, number(n + k))) for k in range(8)]
            n += 8
            for sent, call in calls:
                try:
                    result = call.result(PATIENCE)
                    version = int(result.get_response().model_version)
                    assert result.as_numpy("y").item() == sent + version, (sent, version, result.as_numpy("y"))
                    self.seen.add(version)
                except Exception as error:  # noqa: BLE001
                    gone = self.may_be_gone and getattr(error, "status", str)() == "StatusCode.NOT_FOUND"
                    if not gone:
                        self.failures.append(error)
                        self.over.set()
            self.begun.release()

    def rounds(self, count: int = 8) -> None:
        """Waits for so many rounds that end from now on."""
        while self.begun.acquire(blocking=False):
            pass
        for _ in range(count):
            assert self.begun.acquire(timeout=PATIENCE), "the calls hang"

    def __enter__(self) -> Callers:
        for thread in self.threads:
            thread.start()
        self.rounds()
        return self

    def __exit__(self, *_) -> None:
        self.over.set()
        for thread in self.threads:
            thread.join(PATIENCE)
        assert not self.failures, self.failures[0]


def no_call_fails_while_a_model_is_replaced(server: Server) -> None:
    name = server.load("replaced", graphs.adds(1))
    with Callers(server, name) as callers:
        for version in (2, 3, 4):
            graphs.write(server.repository, name, graphs.adds(version), version)
            server.client.load_model(name, client_timeout=PATIENCE)
            assert answer(server, name) == version, "whoever asks after the load is answered by the new version"
            callers.rounds()
        graphs.write(server.repository, name, b"garbage", 5)
        refused("FAILED_PRECONDITION", server.client.load_model, name)
        callers.rounds()
        graphs.write(server.repository, name, graphs.adds(5), 5)
        server.client.load_model(name, config='{"max_batch_size": 2}', client_timeout=PATIENCE)
        callers.rounds()
    assert callers.seen == {1, 2, 3, 4, 5}, callers.seen


def a_call_is_answered_or_not_found_while_its_model_comes_and_goes(server: Server) -> None:
    name = server.load("in-and-out", graphs.adds(1))
    with Callers(server, name, may_be_gone=True) as callers:
        for _ in range(5):
            server.client.unload_model(name, client_timeout=PATIENCE)
            server.client.load_model(name, client_timeout=PATIENCE)
            assert answer(server, name) == 1
            callers.rounds()
    assert callers.seen == {1}


def loads_at_the_same_time_follow_one_another(server: Server) -> None:
    names = [f"together-{n % 3}" for n in range(12)]
    for name in set(names):
        graphs.write(server.repository, name, graphs.adds(1))
    failures: list = []

    def load(name: str) -> None:
        try:
            server.client.load_model(name, client_timeout=PATIENCE)
        except Exception as error:  # noqa: BLE001
            failures.append(error)

    threads = [threading.Thread(target=load, args=[name]) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(2 * PATIENCE)
    assert not failures, failures
    assert [answer(server, name) for name in sorted(set(names))] == [1, 1, 1]


CHECKS = [
    an_unloaded_model_is_gone_until_it_is_loaded_again,
    only_a_model_of_the_repository_can_be_loaded,
    a_configuration_takes_the_place_of_the_models_own,
    a_policy_serves_several_versions,
    files_handed_over_take_the_place_of_the_repositorys,
    file_names_lead_nowhere_else,
    a_broken_version_leaves_the_old_one_serving,
    no_call_fails_while_a_model_is_replaced,
    a_call_is_answered_or_not_found_while_its_model_comes_and_goes,
    loads_at_the_same_time_follow_one_another,
]
