"""ONNX Runtime, on CPU or CUDA. Opens files; executing is `onnx_instance`'s.

Every session gets a pool of one thread, which is the caller's own: it starts none, so 1,000 models cost as many
threads as one (measured: 3 threads and 123 MB, the same as with onnxruntime's global pool). A global pool larger
than one cannot be kept from spinning from Python: 0.41 s of CPU in 0.42 s for 20 small runs, against 0.02 s for
an own pool with spinning off. So more threads than one means an own pool for that model.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from importlib import metadata
from types import MappingProxyType
from typing import Any

import onnx
import onnxruntime as ort

from runtimes.base import LoadFailed, LoadOptions, ModelFacts, ModelSource
from runtimes.onnx_execute import executor_of
from runtimes.onnx_facts import facts_of, signature_of
from runtimes.onnx_files import check_model, clean, read_model
from runtimes.onnx_instance import OnnxInstance
from runtimes.onnx_threads import Dispatchers

LOG_FATAL = 4  # errors are raised as well: logged too, every bad request of a client would write a line
THREADS = "intra_op_thread_count"  # Triton's name for it in its ONNX Runtime backend
MAX_THREADS = 1024
CUDA = "CUDAExecutionProvider"
CPU = "CPUExecutionProvider"
EXTENSIONS_DOMAIN = "ai.onnx.contrib"


def _extensions_library() -> str:
    import onnxruntime_extensions

    return str(onnxruntime_extensions.get_library_path())


CUSTOM_OPS: Mapping[str, Callable[[], str]] = MappingProxyType({"onnxruntime-extensions": _extensions_library})
"""The only packages whose native operators may be loaded into the process: name -> path of its library."""


class OnnxRuntime:
    """See `runtimes.base.Runtime`. `executor_threads` 0 = one per core."""

    def __init__(self, *, executor_threads: int = 0, intra_op_threads: int = 1) -> None:
        self._dispatchers = Dispatchers(executor_threads or os.cpu_count() or 1)
        self._intra_op_threads = max(1, intra_op_threads)

    def inspect(self, source: ModelSource, options: LoadOptions) -> ModelFacts:
        """Read signature, lineage and row dependence from the file, and run the ONNX checker on it."""
        _custom_libraries(options)
        _providers(options.device)
        _threads(options)
        model = read_model(source)
        check_model(source, model)
        _refuse_fatal_operators(model)
        return facts_of(model)

    def load(self, source: ModelSource, options: LoadOptions) -> OnnxInstance:
        """Make the session. Its calls start on threads and move to the loop once measured as cheap."""
        providers = _providers(options.device)
        libraries = _custom_libraries(options)
        session_options = _session_options(_threads(options) or self._intra_op_threads)
        signature = signature_of(read_model(source))
        try:
            for library in libraries:
                session_options.register_custom_ops_library(library)
            session = ort.InferenceSession(source.path, session_options, providers=providers, enable_fallback=False)
        except Exception as error:  # onnxruntime raises a dozen types, UnicodeDecodeError among them
            raise LoadFailed(f"{source.path.name}: {clean(error, source)}{_advice(error, options)}") from error
        on_cpu = options.device == "cpu"
        if not on_cpu and CUDA not in session.get_providers():
            raise LoadFailed(f"device {options.device!r}: CUDA could not be started")
        self._dispatchers.start()
        return OnnxInstance(
            executor_of(session, signature),
            signature,
            self._dispatchers,
            slots=options.instances or self._dispatchers.threads,
            inline=on_cpu,
        )

    def close(self) -> None:
        """Stop the dispatcher threads. Idempotent."""
        self._dispatchers.close()


def _session_options(threads: int) -> ort.SessionOptions:
    options = ort.SessionOptions()
    options.log_severity_level = LOG_FATAL
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return options


def _threads(options: LoadOptions) -> int:
    for name in options.extra:
        if name != THREADS:
            raise LoadFailed(f"option {name!r} is unknown to the onnx runtime; known is {THREADS!r}")
    text = options.extra.get(THREADS, "0")
    if not text.isdecimal() or int(text) > MAX_THREADS:
        raise LoadFailed(f"option {THREADS!r} must be a whole number from 0 to {MAX_THREADS}, got {text!r}")
    return int(text) or options.threads


def _providers(device: str) -> list[str | tuple[str, dict[str, Any]]]:
    kind, _, number = device.partition(":")
    if device == "cpu":
        return [CPU]
    if kind != "cuda" or not (number.isdecimal() or device == "cuda"):
        raise LoadFailed(f"device {device!r} is unknown; known are 'cpu', 'cuda' and 'cuda:N'")
    if CUDA not in ort.get_available_providers():
        raise LoadFailed(f"device {device!r} needs onnxruntime-gpu; this onnxruntime was built without CUDA")
    return [(CUDA, {"device_id": number or "0"}), CPU]


def _custom_libraries(options: LoadOptions) -> list[str]:
    libraries = []
    for package in options.custom_ops:
        if package not in CUSTOM_OPS:
            raise LoadFailed(f"custom_ops {package!r} is not allowed; allowed are {', '.join(sorted(CUSTOM_OPS))}")
        try:
            libraries.append(CUSTOM_OPS[package]())
        except ImportError as error:
            raise LoadFailed(f"custom_ops {package!r} is not installed; install the extra 'extensions'") from error
    return libraries


def _refuse_fatal_operators(model: onnx.ModelProto) -> None:
    """Refuse operators that can end the process. DecodeImage of onnxruntime-extensions 0.14 and newer calls exit on a
    damaged JPEG and hangs on a truncated one (its issue 1094); 0.13 decoded 10,000 mutated files without either."""
    if not any(node.op_type == "DecodeImage" and node.domain == EXTENSIONS_DOMAIN for node in model.graph.node):
        return
    version = metadata.version("onnxruntime-extensions")
    if tuple(int(part) for part in version.split(".")[:2]) >= (0, 14):
        raise LoadFailed(
            f"operator DecodeImage of onnxruntime-extensions {version} ends the process on a damaged image; "
            "install onnxruntime-extensions 0.13"
        )


def _advice(error: Exception, options: LoadOptions) -> str:
    if "is not a registered" not in str(error) or options.custom_ops:
        return ""
    return f"; custom operators are loaded where custom_ops names their package: {', '.join(sorted(CUSTOM_OPS))}"
