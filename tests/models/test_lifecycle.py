"""The manager over a real folder with real ONNX files and the echo runtime."""

import asyncio
import hashlib

import numpy as np
import pytest
from onnx import TensorProto, helper

from gateway.core.errors import Code, GatewayError
from gateway.models.config import ModelConfigError
from runtimes.base import ExecuteCall


async def execute(loaded, **inputs):
    answer = asyncio.get_running_loop().create_future()
    loaded.instance.submit(ExecuteCall(inputs), answer.set_result)
    return await answer


async def test_load_all_serves_the_good_and_explains_the_bad(folder, manager, index, reason):
    folder.onnx("good", [1, 2])
    folder.onnx("both", [1, 2], pbtxt="version_policy { all {} }")
    folder.echo("echo")
    folder.onnx("typo", pbtxt="max_batch: 3")
    folder.onnx("types", pbtxt='input { name: "x" data_type: TYPE_INT64 dims: [4] }')
    folder.onnx("sequence", pbtxt="sequence_batching { }")
    folder.write("broken/1/model.onnx", b"no model")
    folder.write("file/1/other.onnx", b"")
    folder.onnx("backend", pbtxt='backend: "python"')
    folder.onnx("cuda", toml='device = "cuda"')
    folder.onnx("gap", pbtxt="version_policy { specific { versions: [1, 9] } }")
    (folder.root / "empty").mkdir()
    await manager.load_all()
    assert index() == {
        ("good", "1"): "",
        ("good", "2"): "READY",
        ("both", "1"): "READY",
        ("both", "2"): "READY",
        ("echo", "1"): "READY",
        ("typo", "1"): "UNAVAILABLE",
        ("types", "1"): "UNAVAILABLE",
        ("sequence", "1"): "UNAVAILABLE",
        ("broken", "1"): "UNAVAILABLE",
        ("file", "1"): "UNAVAILABLE",
        ("backend", "1"): "UNAVAILABLE",
        ("cuda", "1"): "UNAVAILABLE",
        ("gap", "1"): "READY",
        ("gap", "9"): "UNAVAILABLE",
        ("empty", ""): "UNAVAILABLE",
    }
    assert reason("good") == ""
    assert "max_batch" in reason("typo")
    assert (
        reason("types") == "model 'types': input 'x': config.pbtxt says TYPE_INT64 [4] after the batch dimension, "
        "the model has FP32 [-1,4]"
    )
    assert "sequence_batching is not supported" in reason("sequence")
    assert reason("broken").startswith("model 'broken' version 1: model.onnx: is not an ONNX model")
    assert reason("file") == "model 'file' version 1: there is no file 'model.onnx' in the version's folder"
    assert "backend 'python' is not supported" in reason("backend")
    assert reason("cuda").startswith("model 'cuda' version 1: device 'cuda'")
    assert all(str(folder.root) not in entry.reason for entry in manager.index())


async def test_load_all_of_some_models_leaves_the_others_known(folder, manager, index):
    folder.echo("a")
    folder.echo("b")
    await manager.load_all({"b", "nowhere"})
    assert index() == {("a", "1"): "", ("b", "1"): "READY"}
    assert manager.knows("a")
    assert not manager.knows("nowhere")


async def test_load_all_of_an_absent_root_is_an_error(folder, manager):
    folder.root.rmdir()
    with pytest.raises(ModelConfigError, match="cannot be read"):
        await manager.load_all()


async def test_load_all_shows_loading_until_warm(folder, manager, index, watched, until):
    folder.echo("a")
    folder.echo("b")
    await manager.load("a")
    watched.opened["echo"].gate.clear()
    loading = asyncio.create_task(manager.load_all())
    await until(lambda: index().get(("b", "1")) == "LOADING")
    assert manager.get("b") is None
    with pytest.raises(GatewayError, match="no version at ready state") as raised:
        manager.metadata("b")
    assert raised.value.code is Code.NOT_READY
    watched.opened["echo"].gate.set()
    await loading
    assert index() == {("a", "1"): "READY", ("b", "1"): "READY"}


async def test_load_onnx_without_config_executes_and_is_described(folder, manager, make_relu):
    folder.onnx("m", [3], model=make_relu(metadata={"labels": "a,b,c,d"}))
    await manager.load("m")
    loaded = manager.get("m")
    result = await execute(loaded, x=np.array([[-1, 2, -3, 4]], np.float32))
    assert result["y"].tolist() == [[0, 2, 0, 4]]
    content = (folder.root / "m" / "3" / "model.onnx").read_bytes()
    assert loaded.sha256 == hashlib.sha256(content).hexdigest()
    assert loaded.size_bytes == len(content)
    assert [rows for rows, _ in loaded.costs] == [1, 2, 4]
    assert all(ns > 0 for _, ns in loaded.costs)
    assert loaded.config.dynamic_batching
    assert loaded.config.version_policy.latest.num_versions == 1
    assert loaded.config.labels == {"y": ("a", "b", "c", "d")}
    metadata = manager.metadata("m")
    assert (metadata.name, metadata.versions, metadata.platform) == ("m", ("3",), "onnxruntime_onnx")
    assert [spec.shape for spec in metadata.signature.inputs] == [(-1, 4)]
    assert metadata.parameters["sha256"] == loaded.sha256
    assert metadata.parameters["row_independent"] == "true"
    assert metadata.parameters["batching"] == "requests are merged up to 4 rows"
    assert metadata.parameters["warm_up_batch_sizes"] == "1,2,4"
    assert metadata.parameters["onnx.producer"] == "tests"
    assert metadata.parameters["onnx.opset"] == "ai.onnx=17"
    assert "labels" not in metadata.parameters
    assert manager.config("m").max_batch_size == 4
    assert manager.config("m", "3").HasField("dynamic_batching")


async def test_config_is_a_copy(folder, manager):
    folder.echo("m")
    await manager.load("m")
    manager.config("m").max_batch_size = 99
    assert manager.config("m").max_batch_size == 4


async def test_row_dependent_model_is_not_merged_unless_told(folder, manager, make_graph):
    quantised = make_graph(
        [
            helper.make_node("DynamicQuantizeLinear", ["x"], ["q", "scale", "zero"]),
            helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["y"]),
        ],
        {"x": (TensorProto.FLOAT, ["N", 4])},
        {"y": (TensorProto.FLOAT, ["N", 4])},
    )
    folder.onnx("apart", model=quantised)
    folder.onnx("told", model=quantised, toml="batch_dependent_rows = true")
    folder.onnx("plain", model=quantised, pbtxt="max_batch_size: 1")
    await manager.load_all()
    apart, told = manager.get("apart"), manager.get("told")
    assert not apart.config.dynamic_batching
    assert told.config.dynamic_batching
    parameters = manager.metadata("apart").parameters
    assert parameters["row_independent"] == "false"
    assert "DynamicQuantizeLinear" in parameters["row_dependence"]
    assert parameters["batching"].startswith("requests are not merged: rows influence each other")
    assert "although rows influence each other" in manager.metadata("told").parameters["batching"]
    assert manager.metadata("plain").parameters["batching"] == "requests are not merged"


async def test_model_without_batch_dimension_says_so(folder, manager):
    folder.echo("m", inputs=["INPUT0:FP32:2,2"])
    await manager.load("m")
    assert manager.metadata("m").parameters["batching"] == "none: the model has no batch dimension"


async def test_reshaped_model_is_seen_in_the_configs_shape(folder, manager, make_graph):
    total = make_graph(
        [helper.make_node("ReduceSum", ["x", "axes"], ["y"], keepdims=0)],
        {"x": (TensorProto.FLOAT, ["N", 4])},
        {"y": (TensorProto.FLOAT, ["N"])},
        initializers=[helper.make_tensor("axes", TensorProto.INT64, [1], [1])],
    )
    folder.onnx("m", model=total)
    await manager.load("m")
    loaded = manager.get("m")
    assert loaded.facts.signature.outputs[0].shape == (-1, 1)
    result = await execute(loaded, x=np.ones((2, 4), np.float32))
    assert result["y"].tolist() == [[4], [4]]


async def test_get_without_version_is_the_highest_ready(folder, manager):
    folder.echo("m", [2, 10, 9], pbtxt='backend: "echo" version_policy { all {} }')
    await manager.load_all()
    assert manager.get("m").version == "10"
    assert manager.metadata("m", "2").versions == ("2", "9", "10")
    assert sorted(loaded.version for loaded in manager.ready()) == ["10", "2", "9"]
    await manager.unload("m", "10")
    assert manager.get("m").version == "9"
    assert manager.get("m", "10") is None
    assert manager.versions("m") == {"2": "READY", "9": "READY", "10": "UNAVAILABLE"}
    assert manager.versions("nobody") == {}
    assert manager.get("nobody") is None


@pytest.mark.parametrize(
    ("name", "version", "code", "words"),
    [
        ("nobody", "", Code.NOT_FOUND, "Request for unknown model: 'nobody' is not found"),
        ("m", "7", Code.NOT_FOUND, "Request for unknown model: 'm' version 7 is not found"),
        ("m", "1", Code.NOT_READY, "Request for unknown model: 'm' version 1 is not at ready state"),
        ("broken", "", Code.NOT_READY, "Request for unknown model: 'broken' has no version at ready state"),
        ("empty", "", Code.NOT_FOUND, "Request for unknown model: 'empty' has no available versions"),
    ],
)
async def test_metadata_and_config_of_what_does_not_serve(folder, manager, name, version, code, words):
    folder.echo("m", [1, 2])
    folder.echo("broken", pbtxt="nope: 1")
    (folder.root / "empty").mkdir()
    await manager.load_all()
    for view in (manager.metadata, manager.config):
        with pytest.raises(GatewayError) as raised:
            view(name, version)
        assert (raised.value.code, raised.value.message) == (code, words)


async def test_load_unchanged_does_nothing(folder, manager, watched, events):
    folder.echo("m")
    await asyncio.gather(*(manager.load("m") for _ in range(5)))
    await manager.load_all()
    await manager.load("m", "1")
    assert watched.opened["echo"].loads == [("m", "1")]
    assert events == [("built", "m", "1")]


async def test_reload_swaps_then_drains_then_closes(folder, manager, events):
    folder.echo("m")
    await manager.load("m")
    old = manager.get("m")
    served = []
    manager.on_change = lambda: served.append((manager.get("m"), list(events)))
    folder.configure("m", 'backend: "echo" max_batch_size: 2')
    await manager.load("m")
    new = manager.get("m")
    assert new is not old
    assert new.config.max_batch_size == 2
    assert events == [("built", "m", "1"), ("built", "m", "1"), ("drained", "m", "1"), ("closed", "m", "1")]
    assert {loaded for loaded, _ in served} == {old, new}  # at no moment nothing
    assert ("drained", "m", "1") not in served[-1][1]  # off the table before it is drained


async def test_reload_that_fails_keeps_the_old_one(folder, manager, index, reason, events):
    folder.echo("m")
    await manager.load("m")
    old = manager.get("m")
    folder.configure("m", "max_batch: 2")
    with pytest.raises(GatewayError, match=r"failed to load model 'm': config\.pbtxt line 1") as raised:
        await manager.load("m")
    assert raised.value.code is Code.INVALID_ARGUMENT
    assert manager.get("m") is old
    assert index() == {("m", "1"): "READY"}
    assert reason("m").startswith("reload failed, the version loaded before serves on: model 'm'")
    assert (await execute(old, INPUT0=np.ones((1, 4), np.float32)))["OUTPUT0"].tolist() == [[1, 1, 1, 1]]
    assert events == [("built", "m", "1")]
    folder.configure("m", 'backend: "echo" max_batch_size: 3')
    await manager.load("m")
    assert reason("m") == ""
    assert manager.get("m") is not old


async def test_load_after_a_new_version_appears_replaces_the_latest(folder, manager, index, events):
    folder.echo("m", [1])
    await manager.load("m")
    folder.echo("m", [2])
    await manager.load("m")
    assert index() == {("m", "1"): "UNAVAILABLE", ("m", "2"): "READY"}
    assert events.index(("built", "m", "2")) < events.index(("drained", "m", "1"))


async def test_load_new_version_that_fails_keeps_the_previous_one(folder, manager, index):
    folder.echo("m", [1])
    await manager.load("m")
    folder.write("m/2/model.json", "no json")
    with pytest.raises(GatewayError, match="version 2"):
        await manager.load("m")
    assert index() == {("m", "1"): "READY", ("m", "2"): "UNAVAILABLE"}


async def test_folder_that_gets_its_first_version_is_served(folder, manager, index):
    (folder.root / "m").mkdir()
    await manager.load_all()
    with pytest.raises(GatewayError, match="has no version folder"):
        await manager.load("m")
    await manager.unload("m")
    assert index() == {("m", ""): "UNAVAILABLE"}
    folder.echo("m")
    await manager.load("m")
    assert index() == {("m", "1"): "READY"}


async def test_load_one_version_outside_the_policy(folder, manager, index):
    folder.echo("m", [1, 2])
    await manager.load_all()
    await manager.load("m", "1")
    assert index() == {("m", "1"): "READY", ("m", "2"): "READY"}
    await manager.load("m")
    assert index() == {("m", "1"): "UNAVAILABLE", ("m", "2"): "READY"}


@pytest.mark.parametrize(("name", "version"), [("nobody", ""), ("m", "7"), ("../m", ""), ("m", "x"), ("", "")])
async def test_load_what_is_not_there_is_not_found(folder, manager, index, name, version):
    folder.echo("m")
    await manager.load_all()
    with pytest.raises(GatewayError, match="not in the model repository") as raised:
        await manager.load(name, version)
    assert raised.value.code is Code.NOT_FOUND
    assert index() == {("m", "1"): "READY"}


async def test_load_of_a_folder_that_vanished_keeps_what_serves(folder, manager, index):
    folder.echo("m")
    await manager.load("m")
    (folder.root / "m").rename(folder.root.parent / "away")
    with pytest.raises(GatewayError, match="not in the model repository"):
        await manager.load("m")
    assert index() == {("m", "1"): "READY"}


async def test_version_folders_that_vanished_leave_the_index(folder, manager, index):
    folder.echo("m", [1, 2])
    await manager.load("m")
    (folder.root / "m" / "1").rename(folder.root.parent / "away")
    folder.echo("m", [3])
    await manager.load("m")
    assert index() == {("m", "2"): "UNAVAILABLE", ("m", "3"): "READY"}
