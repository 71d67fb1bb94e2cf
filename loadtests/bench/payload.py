"""Request bodies for a model in every wire form, and the decoding of the answers, so that they can be checked."""

from __future__ import annotations

import json
import struct
from typing import Any

import numpy as np

Arrays = dict[str, np.ndarray[Any, Any]]

DTYPES = {"tensor(float)": ("FP32", np.float32), "tensor(int64)": ("INT64", np.int64)}


def make_inputs(session: Any, rows: int, seed: int) -> Arrays:
    """Random inputs of `rows` rows for a session: floats of four decimals, ids below 200, masks of ones.

    A free dimension after the batch becomes 32 (a sequence length).
    """
    random = np.random.default_rng(seed)
    inputs: Arrays = {}
    for spec in session.get_inputs():
        shape = [rows, *(d if isinstance(d, int) else 32 for d in spec.shape[1:])]
        dtype = DTYPES[spec.type][1]
        if "mask" in spec.name:
            inputs[spec.name] = np.ones(shape, dtype)
        elif dtype is np.int64:
            inputs[spec.name] = random.integers(1, 200, shape)
        else:
            inputs[spec.name] = np.round(random.uniform(-1, 1, shape), 4).astype(dtype)
    return inputs


def _datatype(array: np.ndarray[Any, Any]) -> str:
    return "INT64" if array.dtype == np.int64 else "FP32"


def json_body(inputs: Arrays) -> bytes:
    """V2 JSON, data flat, as compact as a client writes it (four decimals)."""
    tensors = [
        {
            "name": name,
            "shape": list(array.shape),
            "datatype": _datatype(array),
            "data": [round(v, 4) if isinstance(v, float) else v for v in array.ravel().tolist()],
        }
        for name, array in inputs.items()
    ]
    return json.dumps({"inputs": tensors}, separators=(",", ":")).encode()


def binary_body(inputs: Arrays) -> tuple[bytes, int]:
    """V2 with the binary tensor extension, binary output wanted: the body and its JSON part's length."""
    tensors = [
        {
            "name": name,
            "shape": list(array.shape),
            "datatype": _datatype(array),
            "parameters": {"binary_data_size": array.nbytes},
        }
        for name, array in inputs.items()
    ]
    head = json.dumps({"inputs": tensors, "parameters": {"binary_data_output": True}}, separators=(",", ":")).encode()
    return head + b"".join(array.tobytes() for array in inputs.values()), len(head)


def proto_request(model: str, inputs: Arrays) -> Any:
    """ModelInferRequest with raw_input_contents."""
    from tritonclient.grpc import service_pb2

    request = service_pb2.ModelInferRequest(model_name=model)
    for name, array in inputs.items():
        request.inputs.add(name=name, datatype=_datatype(array), shape=array.shape)
        request.raw_input_contents.append(array.tobytes())
    return request


def grpc_frame(message: bytes) -> bytes:
    """The message as the gRPC wire carries it: not compressed, length, bytes."""
    return struct.pack(">BI", 0, len(message)) + message


def _dtype(datatype: str) -> np.dtype[Any]:
    return np.dtype("<i8" if datatype == "INT64" else "<f4")


def read_json(body: bytes) -> Arrays:
    """Outputs of a V2 JSON answer (also the naive server's)."""
    outputs = json.loads(body)["outputs"]
    return {o["name"]: np.array(o["data"], _dtype(o["datatype"])).reshape(o["shape"]) for o in outputs}


def read_binary(body: bytes, header_length: int) -> Arrays:
    """Outputs of a V2 answer with every output binary."""
    arrays: Arrays = {}
    at = header_length
    for output in json.loads(body[:header_length])["outputs"]:
        size, dtype = output["parameters"]["binary_data_size"], _dtype(output["datatype"])
        arrays[output["name"]] = np.frombuffer(body[at : at + size], dtype).reshape(output["shape"])
        at += size
    return arrays


def read_proto(response: Any) -> Arrays:
    """Outputs of a ModelInferResponse with raw contents."""
    pairs = zip(response.outputs, response.raw_output_contents, strict=True)
    return {o.name: np.frombuffer(raw, _dtype(o.datatype)).reshape(tuple(o.shape)) for o, raw in pairs}


def assert_same(got: Arrays, session: Any, inputs: Arrays) -> None:
    """The answer is ONNX Runtime's own, to a relative 1e-4 (JSON text, batches of another size)."""
    names = [o.name for o in session.get_outputs()]
    for name, want in zip(names, session.run(names, inputs), strict=True):
        np.testing.assert_allclose(got[name], want, rtol=1e-4, atol=1e-5, err_msg=f"output {name} is wrong")
