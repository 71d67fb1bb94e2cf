"""An ONNX graph in the Open Inference Protocol's words: signature, lineage, row independence. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import onnx
from onnx import ModelProto, TensorProto, ValueInfoProto

from runtimes.base import LoadFailed, ModelFacts, ModelSignature, TensorSpec
from runtimes.onnx_rows import row_dependence

PLATFORM = "onnxruntime_onnx"  # Triton's name for it
DATATYPES: Mapping[int, str] = MappingProxyType(
    {
        TensorProto.BOOL: "BOOL",
        TensorProto.UINT8: "UINT8",
        TensorProto.UINT16: "UINT16",
        TensorProto.UINT32: "UINT32",
        TensorProto.UINT64: "UINT64",
        TensorProto.INT8: "INT8",
        TensorProto.INT16: "INT16",
        TensorProto.INT32: "INT32",
        TensorProto.INT64: "INT64",
        TensorProto.FLOAT16: "FP16",
        TensorProto.BFLOAT16: "BF16",
        TensorProto.FLOAT: "FP32",
        TensorProto.DOUBLE: "FP64",
        TensorProto.STRING: "BYTES",
    }
)
"""ONNX element type -> OIP datatype. What is missing here (complex, 8- and 4-bit floats) no protocol can carry."""


def facts_of(model: ModelProto) -> ModelFacts:
    """Say what the graph tells of itself. Raises LoadFailed for tensors that OIP has no datatype for."""
    dependence = row_dependence(model)
    return ModelFacts(
        signature=signature_of(model),
        platform=PLATFORM,
        row_independent=not dependence,
        row_dependence=dependence,
        metadata=MappingProxyType(_lineage(model)),
    )


def signature_of(model: ModelProto) -> ModelSignature:
    """Read inputs and outputs in the graph's order; a symbolic or unknown dimension is -1. Raises LoadFailed."""
    graph = model.graph
    # Inputs with an initializer of the same name are weights (or defaults): onnxruntime does not ask for them.
    weights = {tensor.name for tensor in graph.initializer}
    inputs = [value for value in graph.input if value.name not in weights]
    outputs = list(graph.output)
    if any(not _has_shape(value) for value in outputs):
        outputs = _inferred(model, outputs)
    signature = ModelSignature(
        tuple(_spec(value, "input") for value in inputs), tuple(_spec(value, "output") for value in outputs)
    )
    texts = [spec.name for spec in signature.inputs if spec.datatype == "BYTES"]
    halves = [spec.name for spec in signature.outputs if spec.datatype == "BF16"]
    if texts and halves:  # its Python API takes strings by `run` only and gives BF16 by OrtValue only
        raise LoadFailed(f"onnxruntime cannot take BYTES input {texts[0]!r} and give BF16 output {halves[0]!r} at once")
    return signature


def _inferred(model: ModelProto, outputs: list[ValueInfoProto]) -> list[ValueInfoProto]:
    try:
        return list(onnx.shape_inference.infer_shapes(model).graph.output)
    except Exception:  # inference is a courtesy; it fails on custom operators and above 2 GiB
        return outputs


def _has_shape(value: ValueInfoProto) -> bool:
    kind = value.type
    return kind.WhichOneof("value") not in (None, "tensor_type") or kind.tensor_type.HasField("shape")


def _spec(value: ValueInfoProto, side: str) -> TensorSpec:
    kind = value.type.WhichOneof("value")
    if kind != "tensor_type":
        what = (kind or "value without a type").removesuffix("_type").replace("_", " ")
        advice = "; export it as plain tensors (skl2onnx: options={'zipmap': False})" if kind else ""
        raise LoadFailed(f"{side} {value.name!r} is a {what}, not a tensor{advice}")
    tensor = value.type.tensor_type
    datatype = DATATYPES.get(tensor.elem_type)
    if datatype is None:
        raise LoadFailed(f"{side} {value.name!r} has element type {_type_name(tensor.elem_type)}, which is unsupported")
    if not tensor.HasField("shape"):
        if side == "input":
            raise LoadFailed(f"input {value.name!r} has no shape, not even a number of dimensions")
        return TensorSpec(value.name, datatype, (-1,))
    return TensorSpec(value.name, datatype, tuple(_dim(dim) for dim in tensor.shape.dim))


def _dim(dim: onnx.TensorShapeProto.Dimension) -> int:
    return max(-1, dim.dim_value) if dim.HasField("dim_value") else -1


def _type_name(element: int) -> str:
    return TensorProto.DataType.Name(element) if element in TensorProto.DataType.values() else str(element)


def _lineage(model: ModelProto) -> dict[str, str]:
    versions = {entry.domain or "ai.onnx": entry.version for entry in model.opset_import}
    standard = {
        "onnx.producer": f"{model.producer_name} {model.producer_version}".strip(),
        "onnx.domain": model.domain,
        "onnx.model_version": str(model.model_version or ""),
        "onnx.ir_version": str(model.ir_version),
        "onnx.opset": ",".join(f"{domain}={version}" for domain, version in sorted(versions.items())),
    }
    own = {entry.key: entry.value for entry in model.metadata_props}
    return own | {key: value for key, value in standard.items() if value}
