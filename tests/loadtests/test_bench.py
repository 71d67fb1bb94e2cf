"""The benchmark's own judgement: what it reads from generators, how it counts, what it calls a miss."""

import os
import struct
import subprocess
import sys
from pathlib import Path

import flame
import loadgen
import measure
import numpy as np
import payload
import procs
import pytest
import report
import run
import scenarios
import targets
from loadgen import Load
from measure import Row
from scenarios import Bar, Scenario

BENCH = Path(run.__file__).parent


def load(sent=100, wall_s=1.0, p50=0.2, errors=0, cpu_s=0.5):
    return Load(sent, wall_s, p50, 2 * p50, 3 * p50, errors, cpu_s)


def row(key, *cpu_seconds, rate=100):
    made = Row(key, f"row {key}", lambda seconds: load(rate))
    for cpu_s in cpu_seconds:
        made.drive = lambda seconds, cpu_s=cpu_s: load(rate, cpu_s=cpu_s)
        made.samples.append(made.take(1.0))
    return made


def test_wrk_figures_are_read_in_milliseconds():
    text = "Running\nRESULT requests=4000 duration_us=2000000 p50=690 p95=1500 p99=1960 errors=3\n"
    assert loadgen.read_wrk(text, 0.7) == Load(4000, 2.0, 0.69, 1.5, 1.96, 3, 0.7)


def test_wrk_without_a_result_is_an_error_with_its_words():
    with pytest.raises(RuntimeError, match="unable to connect"):
        loadgen.read_wrk("unable to connect to 127.0.0.1", 0.0)


def test_h2load_log_gives_rate_and_percentiles_and_counts_failures():
    lines = [f"{1000 + 10 * i}\t{200 if i < 99 else -1}\t{100 * (i + 1)}" for i in range(100)]
    got = loadgen.read_h2load("", "\n".join(lines), 0.1)
    assert (got.sent, got.errors) == (100, 1)
    assert (got.p50, got.p99) == (pytest.approx(5.0), pytest.approx(9.9))
    assert got.wall_s == pytest.approx((1000 + 990 + 10000 - 1000) / 1e6)


def test_h2load_without_answers_is_an_error():
    with pytest.raises(RuntimeError, match="no answer"):
        loadgen.read_h2load("connect refused", "5\t-1\t10", 0.1)


def test_cpu_of_a_tree_includes_children_and_stops_with_the_process(tmp_path, monkeypatch):
    monkeypatch.setattr(procs, "WORK", tmp_path)
    burn = "import time, sys\nwhile time.process_time() < 0.2: pass\nprint('done', flush=True); sys.stdin.read()"
    child = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {burn!r}])"
    process = procs.Process("burner", [sys.executable, "-c", child], stdin=subprocess.PIPE).start()
    try:
        process.wait_ready(lambda: "done" in process.log.read_text(), 30)
        assert process.cpu_seconds() > 0.2
        members = procs.tree(process.pid)
        assert len(members) == 2
    finally:
        process.stop()
    assert process.child.poll() is not None


def test_a_server_that_ends_is_reported_with_its_last_words(tmp_path, monkeypatch):
    monkeypatch.setattr(procs, "WORK", tmp_path)
    process = procs.Process("broken", [sys.executable, "-c", "raise SystemExit('port is taken')"]).start()
    with pytest.raises(RuntimeError, match="broken did not become ready: port is taken"):
        process.wait_ready(lambda: False, 30)


def test_sample_charges_the_servers_cpu_to_the_requests_answered():
    sample = row("raw", 0.5).samples[0]
    assert sample.cpu_us == pytest.approx(5000)
    assert sample.server_busy == pytest.approx(0.5)


def test_failed_requests_are_not_timed():
    broken = Row("x", "x", lambda seconds: load(errors=2))
    with pytest.raises(RuntimeError, match="2 of 100 requests failed"):
        broken.take(1.0)


@pytest.mark.parametrize(("counts", "fails"), [((0, 100), False), ((0, 132), False), ((0, 99), True), ((0, 300), True)])
def test_the_servers_own_count_must_cover_what_was_sent(counts, fails):
    values = iter(counts)
    counted = Row("x", "x", lambda seconds: load(100), counter=lambda: next(values))
    if fails:
        with pytest.raises(RuntimeError, match="the server counted"):
            counted.take(1.0)
    else:
        counted.take(1.0)
        assert counted.notes == ["counted"]


def test_rounds_rotate_the_order_leave_out_the_warm_up_and_drop_a_failing_row():
    calls = []
    good = [Row(key, key, lambda seconds, key=key: calls.append(key) or load()) for key in "ab"]
    bad = Row("bad", "bad", lambda seconds: load(errors=1))
    measure.interleave([*good, bad], 2, 1.0, lambda text: None)
    assert calls == ["a", "b", "b", "a", "a", "b"]
    assert [len(each.samples) for each in [*good, bad]] == [2, 2, 0]
    assert "failed" in bad.notes[0]


def test_best_is_the_least_time_and_the_highest_rate():
    both = row("x", 0.4, 0.2, 0.3)
    assert both.best("cpu_us") == pytest.approx(2000)
    assert both.median("cpu_us") == pytest.approx(3000)
    assert both.best("rate") == pytest.approx(100)


def ratio(of):
    return of("a", "cpu_us") / of("b", "cpu_us")


@pytest.mark.parametrize(
    ("limit", "at_least", "verdict"), [(2, False, "pass"), (1.9, False, "MISS"), (2, True, "pass")]
)
def test_a_bar_is_judged_by_the_best_rounds_with_the_medians_beside(limit, at_least, verdict):
    rows = [row("a", 0.2, 0.6, 0.6), row("b", 0.1, 0.1, 0.1)]
    judged = report.judge(Bar("a over b", ratio, limit, at_least), rows)
    assert judged["verdict"] == verdict
    assert judged["best"] == pytest.approx(2)
    assert judged["median"] == pytest.approx(6)


def test_the_block_says_what_was_skipped_missed_and_not_measured():
    bars = [Bar("a over b", ratio, 1), Bar("a over c", lambda of: of("a", "cpu_us") / of("c", "cpu_us"), 1)]
    scenario = Scenario("s", "the scenario", {}, bars)
    text = report.scenario_text(scenario, [row("a", 0.2), row("b", 0.1)], {"c": "wrk is not installed"})
    assert "row a" in text
    assert "skipped: wrk is not installed" in text
    assert "2.00x (medians 2.00x)   MISS" in text
    assert "not measured: no row c" in text
    assert report.as_data(scenario, [row("a", 0.2)], {})["bars"][0]["verdict"] == "not measured"


def test_rows_are_chosen_by_scenario_or_by_name():
    assert run.wanted("", "tiny") is None
    assert run.wanted("tiny,grpc/bridge", "tiny") is None
    assert run.wanted("tiny, grpc/bridge", "grpc") == {"bridge"}
    assert run.wanted("tiny", "grpc") == set()


def test_a_row_that_cannot_be_had_is_skipped_with_its_reason():
    def make():
        raise targets.Missing("envoy is not installed")

    rows, skipped = run.make_rows(Scenario("s", "s", {"bridge": make, "other": lambda: row("other")}), None)
    assert [each.key for each in rows] == ["other"]
    assert skipped == {"bridge": "envoy is not installed"}


def test_the_command_names_its_scenarios(capsys):
    assert run.main(["--list"]) == 0
    assert capsys.readouterr().out.split() == list(scenarios.ALL)


def test_every_wire_form_carries_the_same_numbers():
    inputs = {"x": np.array([[0.25, -1.5]], np.float32), "ids": np.array([[7, 8, 9]])}
    binary, head = payload.binary_body(inputs)
    assert binary[head:] == inputs["x"].tobytes() + inputs["ids"].tobytes()
    message = payload.proto_request("m", inputs)
    assert list(message.raw_input_contents) == [array.tobytes() for array in inputs.values()]
    frame = payload.grpc_frame(b"abc")
    assert struct.unpack(">BI", frame[:5]) == (0, 3)
    answer = payload.json_body(inputs).replace(b'"inputs"', b'"outputs"')
    for name, array in payload.read_json(answer).items():
        np.testing.assert_array_equal(array, inputs[name])


def test_the_profile_names_rooms_and_libraries():
    stacks = ["loop;infer (gateway/dataplane/service.py:12) 30", "loop;loads (msgspec/json.py:3) 10"]
    text = flame.summary("\n".join([*stacks, "Thread.run (threading.py:9) 5"]), cpu_us=20)
    assert "40 samples" in text
    assert "75.0%    15.00 us  gateway/dataplane" in text
    assert "25.0%     5.00 us  msgspec" in text
    assert "loop" not in text  # everything runs below it: it says nothing


def test_envoy_runs_the_shipped_configuration_on_other_ports():
    text = targets.envoy_config(11, 22, 33)
    assert all(f"port_value: {port}" in text for port in (11, 22, 33))
    assert not any(f"port_value: {port}}}" in text for port in (8000, 8001, 8003, 9901))


def test_the_set_up_script_is_valid_and_runnable():
    script = BENCH / "setup.sh"
    assert os.access(script, os.X_OK)
    subprocess.run(["bash", "-n", str(script)], check=True)
