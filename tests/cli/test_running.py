import io
import json
import socket
import sys
import threading

import numpy as np
import pytest


def test_the_start_says_what_is_served_where(running):
    assert "scores" in running.banner
    assert running.banner.count("READY") == 3


def test_models_list_shows_states(client):
    result = client("models", "list")
    assert result.code == 0
    assert ["scores", "1", "READY"] in [line.split() for line in result.out.splitlines()]
    document = json.loads(client("models", "list", "--json").out)
    assert {model["name"] for model in document["models"]} == {"scores", "plain", "failing"}


def test_infer_reads_the_file_as_the_model_says_and_prints_labels(client, nowhere):
    (nowhere / "rows.csv").write_text("0.1,0.7,0.2\n0.6,0.3,0.1\n")
    result = client("infer", "scores", "rows.csv")
    assert (result.code, result.out) == (0, "green 0.70\nred 0.60\n")
    assert client("infer", "scores", "rows.csv", "--top", "2").out == "green 0.70  blue 0.20\nred 0.60  green 0.30\n"
    assert client("infer", "scores", "rows.csv", "--top", "9").out.splitlines()[0] == "green 0.70  blue 0.20  red 0.10"


def test_infer_json_is_the_answer(client, nowhere):
    (nowhere / "rows.csv").write_text("0.1,0.7,0.2\n")
    answer = json.loads(client("infer", "scores", "rows.csv", "--json", "--version", "1").out)
    assert answer["model_version"] == "1"


def test_infer_reads_other_kinds_and_standard_input(client, nowhere, monkeypatch):
    np.save(nowhere / "x.npy", np.array([[1, 2]]))
    assert "OUTPUT0 INT64[1, 2]: 1, 2" in client("infer", "plain", "x.npy", "--as", "npy").out
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"[[3, 4]]")))
    assert "3, 4" in client("infer", "plain", "-", "--as", "json").out


def test_infer_finds_client_input_in_the_repository_without_the_admin_port(client, nowhere, repository, monkeypatch):
    (nowhere / "rows.csv").write_text("0.1,0.7,0.2\n")
    with socket.create_server(("127.0.0.1", 0)) as closed:
        monkeypatch.setenv("GATEWAY_ADMIN_URL", f"http://127.0.0.1:{closed.getsockname()[1]}")
    monkeypatch.setenv("GATEWAY_MODEL_REPOSITORY", str(repository))
    assert client("infer", "scores", "rows.csv").out == "green 0.70\n"
    assert "say how to read the file" in client("infer", "plain", "rows.csv").err
    monkeypatch.setenv("GATEWAY_MODEL_REPOSITORY", str(nowhere))
    error = client("infer", "scores", "rows.csv").err
    assert "no gateway answers" in error  # it may well have a [client.input]
    assert "--admin-url" in error
    assert "has no" not in error


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["nosuch", "rows.csv"], 1, "nosuch"),
        (["scores", "none.csv"], 1, "cannot be read"),
        (["scores", "bad.csv"], 1, "row 1: expected 3 numbers, got 2"),
        (["scores", "rows.csv", "--version", "7"], 1, "7"),
        (["scores", "rows.csv", "--as", "smoke"], 1, "unknown kind 'smoke'"),
        (["plain", "rows.csv"], 1, "say how to read the file"),
        (["failing", "rows.csv", "--as", "csv"], 1, "the gateway answered 500"),
        ([], 2, "model"),
    ],
)
def test_infer_that_fails_says_why(client, nowhere, arguments, code, words):
    (nowhere / "rows.csv").write_text("0.1,0.7,0.2\n")
    (nowhere / "bad.csv").write_text("1,2\n")
    result = client("infer", *arguments)
    assert result.code == code
    assert words in result.err
    assert "Traceback" not in result.err


def test_infer_without_a_file_on_a_terminal_asks_for_one(client, monkeypatch):
    terminal = io.TextIOWrapper(io.BytesIO())
    terminal.isatty = lambda: True
    monkeypatch.setattr(sys, "stdin", terminal)
    result = client("infer", "scores")
    assert result.code == 2
    assert "name a file" in result.err


@pytest.mark.parametrize("protocol", ["json", "binary"])
def test_bench_reports_a_closed_loop(client, protocol):
    arguments = ["bench", "scores", "--seconds", "0.2", "--concurrency", "4", "--protocol", protocol]
    figures = json.loads(client(*arguments, "--json").out)
    assert figures["loop"] == "closed"
    assert figures["requests"] > 0
    assert figures["failures"] == 0
    assert figures["p50_ms"] <= figures["p95_ms"] <= figures["p99_ms"]


def test_bench_sends_a_file_and_says_what_it_measures(client, nowhere):
    (nowhere / "rows.csv").write_text("0.1,0.7,0.2\n")
    result = client("bench", "scores", "rows.csv", "--seconds", "0.1", "--concurrency", "1")
    assert result.code == 0
    assert "closed loop" in result.out
    assert "P99_MS" in result.out


def test_bench_with_failures_fails_and_shows_the_first(client):
    result = client("bench", "failing", "--seconds", "0.1", "--concurrency", "1")
    assert result.code == 1
    assert "status 500" in result.err


def test_something_else_on_the_port_is_no_gateway(client):
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer():
            connection, _ = server.accept()
            connection.recv(65536)
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello")
            connection.close()

        thread = threading.Thread(target=answer)
        thread.start()
        result = client("models", "list", "--admin-url", f"http://127.0.0.1:{server.getsockname()[1]}")
        thread.join()
    assert result.code == 1
    assert "is it a gateway?" in result.err
