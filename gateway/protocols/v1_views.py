"""TensorFlow Serving's model status and metadata documents. Pure.

Shapes of the answers: tensorflow_serving/apis/get_model_status.proto and get_model_metadata.proto in JSON form.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from gateway.core.types import IndexEntry, ModelMetadata
from runtimes.base import TensorSpec

_STATES = {"READY": "AVAILABLE", "LOADING": "LOADING", "UNLOADING": "UNLOADING", "UNAVAILABLE": "END", "": "UNKNOWN"}

# BF16 and FP16 are DT_BFLOAT16 and DT_HALF; the others differ in case and in the word for floats and text.
_DTYPES = {
    "BOOL": "DT_BOOL",
    "FP16": "DT_HALF",
    "BF16": "DT_BFLOAT16",
    "FP32": "DT_FLOAT",
    "FP64": "DT_DOUBLE",
    "BYTES": "DT_STRING",
}


def status_document(entries: Iterable[IndexEntry]) -> dict[str, Any]:
    """Write the states of one model's versions, highest first as TensorFlow Serving does."""
    lines = [entry for entry in entries if entry.version]
    lines.sort(key=lambda entry: int(entry.version) if entry.version.isdigit() else 0, reverse=True)
    return {"model_version_status": [_status(entry) for entry in lines]}


def metadata_document(metadata: ModelMetadata, version: str) -> dict[str, Any]:
    """Write the signature as the one `serving_default` of `version` ("" where the version is not told)."""
    signature = {
        "inputs": _tensors(metadata.signature.inputs),
        "outputs": _tensors(metadata.signature.outputs),
        "method_name": "tensorflow/serving/predict",
    }
    return {
        "model_spec": {"name": metadata.name, "signature_name": "", "version": version},
        "metadata": {"signature_def": {"signature_def": {"serving_default": signature}}},
    }


def _status(entry: IndexEntry) -> dict[str, Any]:
    failed = entry.state == "UNAVAILABLE" and entry.reason not in ("", "unloaded")
    return {
        "version": entry.version,
        "state": _STATES.get(entry.state, "UNKNOWN"),
        "status": {"error_code": "UNKNOWN" if failed else "OK", "error_message": entry.reason if failed else ""},
    }


def _tensors(specs: Iterable[TensorSpec]) -> dict[str, Any]:
    return {spec.name: _tensor(spec) for spec in specs}


def _tensor(spec: TensorSpec) -> dict[str, Any]:
    dims = [{"size": str(size), "name": ""} for size in spec.shape]
    return {
        "dtype": _DTYPES.get(spec.datatype, f"DT_{spec.datatype}"),
        "tensor_shape": {"dim": dims, "unknown_rank": False},
        "name": spec.name,
    }
