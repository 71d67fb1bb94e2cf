"""Models of the benchmark: random weights, fixed seeds, no download.

`tiny` costs microseconds, so the gateway's own cost shows. `image` takes 602 KB a row and computes next to
nothing, so transport shows. `transformer` is a six-layer encoder of about 10 ms a row on one thread.
"""

from __future__ import annotations

from . import Made
from .graph import Graph
from .wheels import Wheels

LAYERS, HIDDEN, HEADS, INNER, TOKENS, WORDS = 6, 384, 12, 1536, 32, 2000


def tiny(wheels: Wheels) -> Made:
    """Make x FP32 [N, 16] -> y FP32 [N, 8] with one hidden layer of 32."""
    from onnx import TensorProto

    graph = Graph()
    hidden = graph.node("Relu", graph.dense("x", 16, 32))
    graph.dense(hidden, 32, 8, output="y")
    model = graph.model([("x", TensorProto.FLOAT, ["N", 16])], [("y", TensorProto.FLOAT, ["N", 8])])
    return Made({"1/model.onnx": model})


def image(wheels: Wheels) -> Made:
    """Make x FP32 [N, 3, 224, 224] -> y FP32 [N, 8]: eight pixels of the first line, nothing else is read."""
    from onnx import TensorProto

    graph = Graph()
    starts, ends, axes, steps = ([0, 0, 0], [1, 1, 224], [1, 2, 3], [1, 1, 28])
    few = graph.node("Slice", "x", *(graph.constant(value) for value in (starts, ends, axes, steps)))
    graph.node("Reshape", few, graph.constant([-1, 8]), output="y")
    model = graph.model([("x", TensorProto.FLOAT, ["N", 3, 224, 224])], [("y", TensorProto.FLOAT, ["N", 8])])
    return Made({"1/model.onnx": model})


def transformer(wheels: Wheels) -> Made:
    """Make input_ids, attention_mask INT64 [N, 32] -> embedding FP32 [N, 384]: a BERT-like encoder, mean pooled."""
    from onnx import TensorProto

    graph = Graph()
    mask = graph.node("Cast", "attention_mask", to=TensorProto.FLOAT)
    lacking = graph.node("Sub", graph.constant(1.0, "float32"), mask)
    bias = graph.node("Mul", lacking, graph.constant(-1e9, "float32"))
    bias = graph.node("Unsqueeze", bias, graph.constant([1, 2]))
    words = graph.node("Gather", graph.weight(WORDS, HIDDEN), "input_ids")
    x = _normed(graph, graph.node("Add", words, graph.weight(TOKENS, HIDDEN)))
    for _ in range(LAYERS):
        x = _normed(graph, graph.node("Add", x, _attention(graph, x, bias)))
        inner = _gelu(graph, graph.dense(x, HIDDEN, INNER))
        x = _normed(graph, graph.node("Add", x, graph.dense(inner, INNER, HIDDEN)))
    column = graph.node("Unsqueeze", mask, graph.constant([2]))
    total = graph.node("ReduceSum", graph.node("Mul", x, column), graph.constant([1]), keepdims=0)
    count = graph.node("ReduceSum", mask, graph.constant([1]), keepdims=1)
    graph.node("Div", total, graph.node("Max", count, graph.constant(1.0, "float32")), output="embedding")
    ids = [(name, TensorProto.INT64, ["N", TOKENS]) for name in ("input_ids", "attention_mask")]
    model = graph.model(ids, [("embedding", TensorProto.FLOAT, ["N", HIDDEN])])
    return Made({"1/model.onnx": model})


def _attention(graph: Graph, x: str, bias: str) -> str:
    """Add multi-head self-attention over x [N, tokens, hidden]; `bias` [N, 1, 1, tokens] hides what is masked."""
    size = HIDDEN // HEADS
    split, joined = graph.constant([0, 0, HEADS, size]), graph.constant([0, 0, HIDDEN])
    query, key, value = (graph.node("Reshape", graph.dense(x, HIDDEN, HIDDEN), split) for _ in range(3))
    query = graph.node("Transpose", query, perm=[0, 2, 1, 3])
    key = graph.node("Transpose", key, perm=[0, 2, 3, 1])
    value = graph.node("Transpose", value, perm=[0, 2, 1, 3])
    scores = graph.node("Mul", graph.node("MatMul", query, key), graph.constant(size**-0.5, "float32"))
    shares = graph.node("Softmax", graph.node("Add", scores, bias), axis=-1)
    mixed = graph.node("Transpose", graph.node("MatMul", shares, value), perm=[0, 2, 1, 3])
    return graph.dense(graph.node("Reshape", mixed, joined), HIDDEN, HIDDEN)


def _normed(graph: Graph, x: str) -> str:
    import numpy as np

    ones, zeros = graph.constant(np.ones(HIDDEN), "float32"), graph.constant(np.zeros(HIDDEN), "float32")
    return graph.node("LayerNormalization", x, ones, zeros, axis=-1, epsilon=1e-12)


def _gelu(graph: Graph, x: str) -> str:
    """Add the exact GELU, in the form ONNX Runtime fuses into one kernel."""
    erf = graph.node("Erf", graph.node("Div", x, graph.constant(2**0.5, "float32")))
    scaled = graph.node("Mul", x, graph.node("Add", erf, graph.constant(1.0, "float32")))
    return graph.node("Mul", scaled, graph.constant(0.5, "float32"))
