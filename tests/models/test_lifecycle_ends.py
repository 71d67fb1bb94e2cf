"""The end of a version's life, and many lives at once: unload, failures, drain, close, limits."""

import asyncio
from random import Random

import pytest

from gateway.core.errors import Code, GatewayError


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
