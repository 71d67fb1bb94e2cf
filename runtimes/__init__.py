"""The only way in: a runtime by its name. Runtimes are imported when first asked for.

A process without onnxruntime can still use the others.
"""

from __future__ import annotations

from importlib import import_module
from types import MappingProxyType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from runtimes.base import Runtime

KINDS = MappingProxyType(
    {
        "echo": ("runtimes.echo", "EchoRuntime", ""),
        "onnx": ("runtimes.onnx", "OnnxRuntime", "install the extra 'cpu' or 'gpu'"),
    }
)
"""Name -> module, class, and what to do when the module's own imports are missing."""


def open_runtime(kind: str, *, executor_threads: int = 0, intra_op_threads: int = 1) -> Runtime:
    """Make the runtime called `kind`. The caller closes it.

    `executor_threads` 0 = one per core. Raises LoadFailed for an unknown kind or one that is not installed.
    """
    from runtimes.base import LoadFailed

    if kind not in KINDS:
        raise LoadFailed(f"unknown runtime {kind!r}; known are {', '.join(sorted(KINDS))}")
    module, name, remedy = KINDS[kind]
    try:
        made: Runtime = getattr(import_module(module), name)(
            executor_threads=executor_threads, intra_op_threads=intra_op_threads
        )
    except ImportError as error:
        raise LoadFailed(f"runtime {kind!r} is not installed ({error.name or 'import failed'}): {remedy}") from error
    return made
