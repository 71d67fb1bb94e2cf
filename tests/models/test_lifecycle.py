"""The manager over a real folder with real ONNX files and the echo runtime."""

import asyncio
import hashlib
from random import Random

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


async def test_unload_drains_closes_and_is_idempotent(folder, manager, index, reason, events):
    folder.echo("m")
    await manager.load("m")
    states = []
    manager.on_change = lambda: states.append(index()["m", "1"])
    await manager.unload("m")
    await manager.unload("m", "1")
    assert states == ["UNLOADING", "UNAVAILABLE"]
    assert events == [("built", "m", "1"), ("drained", "m", "1"), ("closed", "m", "1")]
    assert reason("m") == "unloaded"
    assert manager.ready() == []
    await manager.load("m")
    assert index() == {("m", "1"): "READY"}


@pytest.mark.parametrize(("name", "version"), [("nobody", ""), ("m", "9")])
async def test_unload_unknown_is_not_found(folder, manager, name, version):
    folder.echo("m")
    await manager.load("m")
    with pytest.raises(GatewayError, match="failed to unload model") as raised:
        await manager.unload(name, version)
    assert raised.value.code is Code.NOT_FOUND


@pytest.mark.parametrize("settings", [{"load_threads": 1}])
async def test_unload_of_a_waiting_model_wins_over_load_all(folder, manager, watched, until):
    folder.echo("a")
    folder.echo("b")
    await manager.load("a")
    watched.opened["echo"].gate.clear()
    watched.opened["echo"].at_gate.clear()
    folder.configure("a", 'backend: "echo" max_batch_size: 1')
    changing = asyncio.create_task(manager.load("a"))  # holds the only thread
    await asyncio.to_thread(watched.opened["echo"].at_gate.wait, 30)
    loading = asyncio.create_task(manager.load_all({"b", "a"}))
    await until(lambda: manager.versions("b").get("1") == "LOADING")
    unloading = asyncio.create_task(manager.unload("b"))
    watched.opened["echo"].gate.set()
    await asyncio.gather(changing, loading, unloading)
    assert manager.versions("b")["1"] == "UNAVAILABLE"


async def test_warm_up_failure_makes_the_version_unavailable_and_closes_it(folder, manager, index, reason, events):
    folder.echo("m", fail_every=3)
    await manager.load_all()
    assert index() == {("m", "1"): "UNAVAILABLE"}
    assert "warm-up failed for a batch of 1: scripted failure" in reason("m")
    assert events == [("closed", "m", "1")]


async def test_warm_up_can_be_switched_off(folder, manager, index):
    folder.echo("m", fail_every=1, toml="warm_up = false")
    await manager.load_all()
    assert index() == {("m", "1"): "READY"}
    assert manager.metadata("m").parameters["warm_up"] == "switched off in model.toml"


async def test_build_failure_makes_the_version_unavailable_and_closes_it(folder, make_manager, events):
    def build(loaded):
        raise RuntimeError("/secret/path")

    manager = make_manager(build)
    folder.echo("m")
    await manager.load_all()
    entry = manager.index()[0]
    assert entry.state == "UNAVAILABLE"
    assert entry.reason == "model 'm' version 1: loading failed with RuntimeError"
    assert events == [("closed", "m", "1")]


async def test_drain_failure_does_not_keep_a_version_in_memory(folder, make_manager):
    class Stuck:
        servable = None

        def __init__(self, loaded):
            pass

        async def drain(self, timeout_s):
            raise OSError

    manager = make_manager(Stuck)
    folder.echo("m")
    await manager.load("m")
    await manager.unload("m")
    assert manager.index()[0].state == "UNAVAILABLE"


async def test_change_goes_on_where_its_caller_stops_waiting(folder, manager, index, watched):
    folder.echo("m")
    folder.echo("first")
    await manager.load("first")
    watched.opened["echo"].gate.clear()
    watched.opened["echo"].at_gate.clear()
    waiting = asyncio.create_task(manager.load("m"))
    await asyncio.to_thread(watched.opened["echo"].at_gate.wait, 30)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    watched.opened["echo"].gate.set()
    await manager.load("m")
    assert index()["m", "1"] == "READY"
    assert watched.opened["echo"].loads == [("first", "1"), ("m", "1")]


async def test_close_unloads_everything_and_stops_runtimes_last(folder, manager, index, events):
    folder.echo("a")
    folder.onnx("b")
    await manager.load_all()
    await manager.close()
    await manager.close()
    assert set(index().values()) == {"UNAVAILABLE"}
    assert events[-2:] == [("runtime closed",), ("runtime closed",)]
    assert {event for event in events if event[0] == "closed"} == {("closed", "a", "1"), ("closed", "b", "1")}
    with pytest.raises(GatewayError, match="shutting down") as raised:
        await manager.load("a")
    assert raised.value.code is Code.NOT_READY


async def test_close_during_load_all_leaves_nothing_loaded(folder, manager, watched, events, until):
    folder.echo("first")
    await manager.load("first")
    for number in range(10):
        folder.echo(f"m{number}")
    watched.opened["echo"].gate.clear()
    loading = asyncio.create_task(manager.load_all())
    await until(lambda: manager.versions("m9") == {"1": "LOADING"})
    closing = asyncio.create_task(manager.close())
    await asyncio.sleep(0)  # it begins
    watched.opened["echo"].gate.set()
    await asyncio.gather(loading, closing)
    assert manager.ready() == []
    loads = watched.opened["echo"].loads
    assert len(loads) < 4  # those that waited for a thread were not begun
    assert {event[1:] for event in events if event[0] == "closed"} == set(loads)


async def test_loads_are_bounded_and_one_failure_stops_no_other(folder, make_manager, watched):
    manager = make_manager(load_threads=2)
    for number in range(12):
        folder.echo(f"m{number}", pbtxt='backend: "echo"' if number % 3 else "nope: 1")
    await manager.load_all()
    assert len(manager.ready()) == 8
    assert watched.opened["echo"].busiest <= 2
    assert len(watched.opened) == 1


async def test_many_callers_changing_few_models_leave_no_leak(folder, manager, index, events, watched):
    random = Random(7)
    for name in "abc":
        folder.echo(name, [1, 2], pbtxt='backend: "echo" version_policy { all {} }')
    seen = []
    manager.on_change = lambda: seen.append([loaded.model for loaded in manager.ready()])

    async def caller():
        for _ in range(15):
            name, version = random.choice("abc"), random.choice(["", "1", "2"])
            if random.random() < 0.3:
                folder.configure(
                    name, f'backend: "echo" max_batch_size: {random.randint(1, 4)} version_policy {{ all {{}} }}'
                )
            await (manager.load if random.random() < 0.6 else manager.unload)(name, version)

    await manager.load_all()
    await asyncio.gather(*(caller() for _ in range(16)))
    assert set(index().values()) <= {"READY", "UNAVAILABLE"}
    for name in "abc":
        await manager.load(name)
    assert set(index().values()) == {"READY"}
    await manager.close()
    closed = [event[1:] for event in events if event[0] == "closed"]
    assert sorted(closed) == sorted(watched.opened["echo"].loads)
    assert len(closed) > 20


async def test_three_hundred_models_load_with_one_runtime(folder, manager, index, watched):
    for number in range(300):
        folder.echo(f"model_{number:03}")
    changes = []
    manager.on_change = lambda: changes.append(len(manager.ready()))
    await manager.load_all()
    assert list(index().values()) == ["READY"] * 300
    assert len(watched.opened["echo"].loads) == 300
    assert changes[0] == 0
    assert sorted(changes) == changes
    assert len(changes) == 301


async def test_model_file_that_links_out_of_the_repository_is_refused(folder, manager, reason, tmp_path):
    folder.echo("m")
    (tmp_path / "secret").write_text('{"inputs": ["INPUT0:FP32:-1"]}')
    (folder.root / "m" / "1" / "model.json").unlink()
    (folder.root / "m" / "1" / "model.json").symlink_to(tmp_path / "secret")
    folder.echo("n", pbtxt='backend: "echo" default_model_filename: "../../m/1/model.json"')
    await manager.load_all()
    assert reason("m") == "model 'm' version 1: 'model.json' links to outside the model repository"
    assert reason("n") == "model 'n' version 1: default_model_filename must be a plain file name"
    assert manager.ready() == []
