"""The import contracts catch what they are there for: each fault is injected into a copy and named by its contract."""

import shutil
import subprocess
import sys

import pytest

FAULTS = {
    "a runtime imports the gateway": (
        "runtimes/base.py",
        "import gateway.core.errors",
        "gateway stands on runtimes",
    ),
    "a lower room imports a higher one": (
        "gateway/core/errors.py",
        "import gateway.batching.policy",
        "rooms of the gateway",
    ),
    "siblings import each other": (
        "gateway/batching/policy.py",
        "import gateway.routing.router",
        "rooms of the gateway",
    ),
    "a lazy import points upwards": (
        "gateway/batching/policy.py",
        "def _late():\n    import gateway.config\n",
        "rooms of the gateway",
    ),
    "the path imports telemetry's library": (
        "gateway/batching/policy.py",
        "import prometheus_client",
        "metrics are a library",
    ),
    "a codec imports a web framework": ("gateway/protocols/v2.py", "import fastapi", "web frameworks"),
    "a codec imports a capability room": (
        "gateway/protocols/v2.py",
        "import gateway.batching.policy",
        "protocols reach the capability rooms",
    ),
    "the gateway imports a runtime": (
        "gateway/core/types.py",
        "import runtimes.onnx",
        "runtimes are opened by name",
    ),
    "the gateway imports onnxruntime": ("gateway/core/types.py", "import onnxruntime", "onnxruntime is a library"),
    "a second door to tritonclient": ("gateway/core/types.py", "import tritonclient.grpc", "tritonclient is"),
}


def lint(folder):
    code = "import sys; from importlinter.cli import lint_imports_command; lint_imports_command()"
    return subprocess.run(
        [sys.executable, "-c", code, "--no-cache"], cwd=folder, capture_output=True, text=True, check=False
    )


@pytest.fixture
def copy(root, tmp_path):
    ignore = shutil.ignore_patterns("__pycache__")
    for package in ("gateway", "runtimes"):
        shutil.copytree(root / package, tmp_path / package, ignore=ignore)
    shutil.copy(root / "pyproject.toml", tmp_path)
    return tmp_path


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_named_by_its_contract(copy, fault):
    name, line, contract = FAULTS[fault]
    path = copy / name
    path.write_text(path.read_text() + f"\n{line}\n")
    result = lint(copy)
    broken = [text for text in result.stdout.splitlines() if " BROKEN" in text]
    assert result.returncode == 1
    assert any(text.startswith(contract) for text in broken), result.stdout


def test_a_drawer_cannot_appear_unnoticed(copy):
    (copy / "gateway/utils").mkdir()
    (copy / "gateway/utils/__init__.py").write_text("")
    result = lint(copy)
    assert result.returncode == 1
    assert "gateway.utils" in result.stdout
