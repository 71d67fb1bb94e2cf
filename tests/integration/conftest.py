"""Models made for the tests, served by a gateway of its own beside the one with the demo models."""

import json

import numpy as np
import pytest
from onnx import TensorProto, helper

TYPES = {
    "BOOL": (TensorProto.BOOL, np.bool_),
    "UINT8": (TensorProto.UINT8, np.uint8),
    "UINT16": (TensorProto.UINT16, np.uint16),
    "UINT32": (TensorProto.UINT32, np.uint32),
    "UINT64": (TensorProto.UINT64, np.uint64),
    "INT8": (TensorProto.INT8, np.int8),
    "INT16": (TensorProto.INT16, np.int16),
    "INT32": (TensorProto.INT32, np.int32),
    "INT64": (TensorProto.INT64, np.int64),
    "FP16": (TensorProto.FLOAT16, np.float16),
    "BF16": (TensorProto.BFLOAT16, np.float32),  # tritonclient takes and gives FP32 arrays for BF16
    "FP32": (TensorProto.FLOAT, np.float32),
    "FP64": (TensorProto.DOUBLE, np.float64),
    "BYTES": (TensorProto.STRING, np.object_),
}


def identity(datatype):
    element = TYPES[datatype][0]
    shape = [None, None]
    graph = helper.make_graph(
        [helper.make_node("Identity", ["INPUT0"], ["OUTPUT0"])],
        "identity",
        [helper.make_tensor_value_info("INPUT0", element, shape)],
        [helper.make_tensor_value_info("OUTPUT0", element, shape)],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def write_echo(root, name, script, pbtxt):
    folder = root / name / "1"
    folder.mkdir(parents=True)
    (folder / "model.json").write_text(json.dumps(script))
    (folder.parent / "config.pbtxt").write_text(f'backend: "echo"\n{pbtxt}')
    (folder.parent / "model.toml").write_text("warm_up = false\ninstances = 1\n")


def write_extra(root):
    for datatype in TYPES:
        folder = root / f"identity_{datatype.lower()}" / "1"
        folder.mkdir(parents=True)
        (folder / "model.onnx").write_bytes(identity(datatype).SerializeToString())
    one = {"inputs": ["INPUT0:FP32:-1,4"]}
    write_echo(root, "echo", one, "max_batch_size: 8\n")
    write_echo(root, "slow", {**one, "delay_ns": 100_000_000}, "max_batch_size: 1\n")
    write_echo(root, "parts", {**one, "parts": 3}, "max_batch_size: 8\nmodel_transaction_policy { decoupled: true }\n")
    return root


@pytest.fixture(scope="session")
def extra(start_gateway, tmp_path_factory):
    """Identity models of every datatype, and echo models: one fast, one slow with one slot, one in parts."""
    return start_gateway(write_extra(tmp_path_factory.mktemp("extra")))
