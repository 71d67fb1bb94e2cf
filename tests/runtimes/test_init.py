import subprocess
import sys

import pytest

import runtimes
from runtimes import open_runtime
from runtimes.base import LoadFailed


def test_unknown_kind_names_the_known_ones():
    with pytest.raises(LoadFailed, match=r"unknown runtime 'tensorflow'; known are echo, onnx"):
        open_runtime("tensorflow")


def test_runtime_whose_package_is_missing_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "runtimes.onnx", None)

    with pytest.raises(LoadFailed, match=r"runtime 'onnx' is not installed .*'cpu' or 'gpu'"):
        open_runtime("onnx")


def test_echo_does_not_import_onnxruntime():
    code = "import sys; from runtimes import open_runtime; open_runtime('echo'); print('onnxruntime' in sys.modules)"

    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert out.stdout.strip() == "False"


def test_every_kind_opens_and_closes():
    for kind in runtimes.KINDS:
        open_runtime(kind, executor_threads=1, intra_op_threads=2).close()
