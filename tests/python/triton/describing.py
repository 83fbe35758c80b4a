"""What the server says of itself and its models, and what can be set."""

from __future__ import annotations

import numpy as np

from triton import graphs
from triton.calls import PATIENCE, Server, number, refused, tensor


def server_is_live_and_ready_and_names_its_extensions(server: Server) -> None:
    assert server.client.is_server_live() is True and server.client.is_server_ready() is True
    metadata = server.client.get_server_metadata()
    assert metadata.name == "quintet" and metadata.version, metadata
    assert {"classification", "model_repository", "system_shared_memory", "binary_tensor_data", "statistics"} <= set(metadata.extensions), metadata


def metadata_tells_names_types_and_shapes(server: Server) -> None:
    name = server.load("described", graphs.sum_and_difference())
    metadata = server.client.get_model_metadata(name, as_json=True)
    same = lambda name: {"name": name, "datatype": "FP32", "shape": ["-1", "3"]}  # noqa: E731
    assert metadata["inputs"] == [same("a"), same("b")] and metadata["outputs"] == [same("sum"), same("difference")], metadata
    assert (metadata["name"], metadata["versions"], metadata["platform"]) == (name, ["1"], "onnxruntime_onnx"), metadata
    assert server.client.get_model_metadata(name, "1").versions == ["1"]
    vector = server.client.get_model_metadata(server.load("described-vector", graphs.doubled_vector()))
    assert list(vector.inputs[0].shape) == [4], vector


def configuration_is_derived_from_the_graph(server: Server) -> None:
    name = server.load("configured", graphs.sum_and_difference())
    config = server.client.get_model_config(name, as_json=True)["config"]
    assert (config["name"], config["backend"], config["platform"]) == (name, "onnxruntime", "onnxruntime_onnx"), config
    assert [(item["name"], item["data_type"], item["dims"]) for item in config["input"]] == [("a", "TYPE_FP32", ["3"]), ("b", "TYPE_FP32", ["3"])]
    assert config["max_batch_size"] > 1 and "dynamic_batching" in config and config["version_policy"]["specific"] == {"versions": ["1"]}, config
    config = server.client.get_model_config(server.load("configured-vector", graphs.doubled_vector())).config
    assert config.max_batch_size == 0 and list(config.input[0].dims) == [4] and not config.HasField("dynamic_batching"), config


def what_does_not_exist_is_not_found(server: Server) -> None:
    name, client = server.load("exists", graphs.adds(0)), server.client
    assert client.is_model_ready(name, "1") is True
    assert client.is_model_ready("nothing") is False and client.is_model_ready(name, "99") is False
    for unknown in (("nothing", ""), (name, "99"), (name, "x"), (f"{name}/other", "")):
        for call in (client.get_model_metadata, client.get_model_config, client.get_inference_statistics):
            refused("NOT_FOUND", call, *unknown)
        refused("NOT_FOUND", client.infer, unknown[0], [number(1)], model_version=unknown[1])
    assert "nothing" in refused("NOT_FOUND", client.infer, "nothing", [number(1)]), "the message names the model"


def statistics_count_requests_rows_and_runs(server: Server) -> None:
    name = server.load("counted", graphs.adds(1))
    before = server.client.get_inference_statistics(name).model_stats[0]
    assert (before.inference_count, before.execution_count, before.inference_stats.success.count) == (0, 0, 0), before
    for rows in (1, 1, 3):
        server.infer(name, tensor("x", np.zeros((rows, 1), np.float32)))
    refused("INVALID_ARGUMENT", server.infer, name, tensor("x", np.zeros((1, 2), np.float32)))
    after = server.client.get_inference_statistics(name, "1").model_stats[0]
    assert (after.name, after.version, after.inference_count, after.execution_count) == (name, "1", 5, 3), after
    totals = after.inference_stats
    counts = [total.count for total in (totals.success, totals.fail, totals.queue, totals.compute_infer)]
    assert counts == [3, 1, 3, 3] and totals.success.ns >= totals.compute_infer.ns > 0, after
    assert {batch.batch_size: batch.compute_infer.count for batch in after.batch_stats} == {1: 2, 3: 1}, after
    assert after.last_inference > 1_600_000_000_000, "milliseconds since 1970"
    everything = server.client.get_inference_statistics().model_stats
    assert [model.inference_count for model in everything if model.name.split("/")[0] == name] == [5], everything


def index_tells_where_models_stand(server: Server) -> None:
    name = server.fresh("indexed")

    def stand() -> tuple[str, str]:
        models = [model for model in server.client.get_model_repository_index().models if model.name == name]
        assert [model.version for model in models] == ["1"], models
        return models[0].state, models[0].reason

    graphs.write(server.repository, name, graphs.adds(0))
    assert stand()[0] == "UNAVAILABLE" and stand()[1], "why it is not there must be told"
    server.client.load_model(name, client_timeout=PATIENCE)
    assert stand() == ("READY", "")
    server.client.unload_model(name, client_timeout=PATIENCE)
    state, reason = stand()
    assert state == "UNAVAILABLE" and reason, "why it is not there must be told"


def traces_are_told_and_cannot_be_changed(server: Server) -> None:
    for model in (None, "any"):
        settings = server.client.get_trace_settings(model).settings
        assert list(settings["trace_mode"].value) == ["opentelemetry"] and settings["trace_level"].value[0] in ("OFF", "TIMESTAMPS"), settings
        message = refused("INVALID_ARGUMENT", server.client.update_trace_settings, model, {"trace_level": ["TIMESTAMPS"]})
        assert "trace_level" in message and "server.traces" in message, message
    assert server.client.update_trace_settings(settings={"trace_level": None}).settings["trace_mode"].value, "a setting without a value asks"


def logging_can_be_changed_and_changed_back(server: Server) -> None:
    client = server.client
    told = lambda answer: (answer.settings["log_info"].bool_param, answer.settings["log_verbose_level"].uint32_param)  # noqa: E731
    before = client.get_log_settings()
    try:
        assert told(client.update_log_settings({"log_verbose_level": 1, "log_info": True})) == (True, 1)
        assert told(client.get_log_settings()) == (True, 1), "it is kept"
        assert told(client.update_log_settings({"log_verbose_level": 0, "log_info": False})) == (False, 0)
        assert client.get_log_settings(as_json=True)["settings"]["log_warning"]["bool_param"] is True, "only what was asked for changes"
        message = refused("INVALID_ARGUMENT", client.update_log_settings, {"log_file": "/tmp/triton.log"})
        assert "log_file" in message, message
    finally:
        restored = client.update_log_settings({"log_verbose_level": told(before)[1], "log_info": told(before)[0]})
    assert restored.settings["log_directives"] == before.settings["log_directives"]


CHECKS = [
    server_is_live_and_ready_and_names_its_extensions,
    metadata_tells_names_types_and_shapes,
    configuration_is_derived_from_the_graph,
    what_does_not_exist_is_not_found,
    statistics_count_requests_rows_and_runs,
    index_tells_where_models_stand,
    traces_are_told_and_cannot_be_changed,
    logging_can_be_changed_and_changed_back,
]
