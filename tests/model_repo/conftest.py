"""The demo repository as `make test` leaves it, and the build script as a user runs it."""

import os
import subprocess
import sys
from pathlib import Path

import onnxruntime
import pytest
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

MODEL_REPO = Path(__file__).resolve().parents[2] / "model_repo"
sys.path.insert(0, str(MODEL_REPO))


def run_build(*arguments, **environment):
    command = [sys.executable, str(MODEL_REPO / "build.py"), *map(str, arguments)]
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", **environment}
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False, timeout=110)


@pytest.fixture
def build():
    """Runs model_repo/build.py with the given arguments and environment."""
    return run_build


@pytest.fixture(scope="session")
def repository():
    """The demo repository; building it again is a look at its stamps."""
    done = run_build()
    assert done.returncode == 0, done.stderr
    return MODEL_REPO / "repository"


@pytest.fixture(scope="session")
def bench(tmp_path_factory):
    """The benchmark's models."""
    out = tmp_path_factory.mktemp("bench")
    done = run_build("--bench", "--out", out)
    assert done.returncode == 0, done.stderr
    return out


@pytest.fixture(scope="session")
def open_session():
    """Opens a model file in ONNX Runtime, with the extension operators where asked for."""

    def open_it(path, extensions=False):
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        options.intra_op_num_threads = 1
        if extensions:
            import onnxruntime_extensions

            options.register_custom_ops_library(onnxruntime_extensions.get_library_path())
        return onnxruntime.InferenceSession(str(path), options)

    return open_it


@pytest.fixture(scope="session")
def read_config():
    """Reads a config.pbtxt with Triton's own schema."""

    def read(folder):
        return text_format.Parse((folder / "config.pbtxt").read_text(), model_config_pb2.ModelConfig())

    return read
