import json
import os
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from gateway.cli import main


class Result(NamedTuple):
    code: int
    out: str
    err: str


def write_model(repository, name, *, script=None, batch=4, pbtxt="", toml="", labels=""):
    folder = repository / name
    (folder / "1").mkdir(parents=True)
    if script is not None:
        (folder / "1/model.json").write_text(json.dumps(script))
    (folder / "config.pbtxt").write_text(f'backend: "echo"\nmax_batch_size: {batch}\n{pbtxt}')
    (folder / "model.toml").write_text(toml)
    if labels:
        (folder / "labels.txt").write_text(labels)


@pytest.fixture(scope="session")
def repository(tmp_path_factory):
    """Echo models: one with labels, one without `[client.input]`, one that fails, one that cannot be loaded."""
    root = tmp_path_factory.mktemp("repository")
    three = {"inputs": ["INPUT0:FP32:-1,3"]}
    write_model(
        root,
        "scores",
        script=three,
        pbtxt='output [{ name: "OUTPUT0" data_type: TYPE_FP32 dims: [3] label_filename: "labels.txt" }]',
        toml='[client.input]\nkind = "csv"\ninput = "INPUT0"\ncolumns = 3\n',
        labels="red\ngreen\nblue\n",
    )
    write_model(root, "plain", script={"inputs": ["INPUT0:INT64:-1,2"]})
    write_model(root, "failing", script={**three, "fail_every": 1}, toml="warm_up = false\n")
    return root


@pytest.fixture(scope="session")
def broken_repository(tmp_path_factory):
    root = tmp_path_factory.mktemp("broken")
    write_model(root, "good", script={"inputs": ["INPUT0:FP32:-1,3"]})
    write_model(root, "single", batch=0, script={"inputs": ["INPUT0:FP32:3"]})
    write_model(root, "dependent", script={"inputs": ["INPUT0:FP32:-1,3"], "row_dependence": "Mean over rows"})
    write_model(root, "empty")
    write_model(root, "nonsense", script={"inputs": ["INPUT0:FP32:-1,3"]}, pbtxt="max_batch_siez: 4")
    return root


@pytest.fixture(scope="session")
def running(start_gateway, repository):
    """A gateway of its own process that serves `repository`."""
    return start_gateway(repository)


@pytest.fixture(autouse=True)
def nowhere(tmp_path, monkeypatch):
    """Each test runs in an empty folder, without variables of the user."""
    monkeypatch.chdir(tmp_path)
    for name in os.environ:
        if name.startswith("GATEWAY_"):
            monkeypatch.delenv(name)
    return Path(tmp_path)


@pytest.fixture
def gateway(monkeypatch, capfd):
    """Run the command line in this process: gateway("models", "list") -> code, out, err."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["gateway", *map(str, arguments)])
        with pytest.raises(SystemExit) as exit_:
            main()
        code = exit_.value.code
        out, err = capfd.readouterr()
        return Result(code or 0, out, err)

    return run


@pytest.fixture
def client(gateway, running, monkeypatch):
    """As `gateway`, pointed at the running one."""
    monkeypatch.setenv("GATEWAY_URL", f"http://{running.http}")
    monkeypatch.setenv("GATEWAY_ADMIN_URL", f"http://{running.admin}")
    return gateway
