"""A small builder over onnx.helper: each call adds a node and gives the name of its output."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

OPSET = 17
IR_VERSION = 8
SEED = 7
Port = tuple[str, int, Sequence[Any]]
"""One input or output: name, ONNX element type, shape."""


class Graph:
    """Nodes and constants in the order they were added. `prefix` keeps the names of two graphs in one apart."""

    def __init__(self, prefix: str = "") -> None:
        import numpy as np

        self._prefix = prefix
        self._nodes: list[Any] = []
        self._constants: list[Any] = []
        self._random = np.random.default_rng(SEED)

    def node(self, op: str, *inputs: str, output: str = "", **attributes: Any) -> str:
        """Add one node with one output."""
        from onnx import helper

        name = f"{self._prefix}{op}_{len(self._nodes)}"
        self._nodes.append(helper.make_node(op, list(inputs), [output or f"{name}_out"], name=name, **attributes))
        return output or f"{name}_out"

    def nodes(self, op: str, inputs: Sequence[str], outputs: int, **attributes: Any) -> list[str]:
        """Add one node with several outputs."""
        from onnx import helper

        name = f"{self._prefix}{op}_{len(self._nodes)}"
        names = [f"{name}_out{number}" for number in range(outputs)]
        self._nodes.append(helper.make_node(op, list(inputs), names, **({"name": name} | attributes)))
        return names

    def constant(self, value: Any, dtype: str = "int64") -> str:
        """Add an initializer."""
        import numpy as np
        from onnx import numpy_helper

        name = f"{self._prefix}constant_{len(self._constants)}"
        self._constants.append(numpy_helper.from_array(np.asarray(value, dtype=dtype), name))
        return name

    def weight(self, *shape: int) -> str:
        """Add random weights scaled to keep activations near unit variance."""
        scale = shape[0] ** -0.5 if len(shape) > 1 else 0.02
        return self.constant(self._random.standard_normal(shape) * scale, "float32")

    def dense(self, x: str, before: int, after: int, output: str = "") -> str:
        """Add x @ W + b."""
        return self.node("Add", self.node("MatMul", x, self.weight(before, after)), self.weight(after), output=output)

    def graph(self, inputs: Sequence[Any], outputs: Sequence[Any]) -> Any:
        """Close the graph between ONNX value infos."""
        from onnx import helper

        return helper.make_graph(self._nodes, f"{self._prefix}model", inputs, outputs, self._constants)

    def model(self, inputs: Sequence[Port], outputs: Sequence[Port]) -> bytes:
        """Close the graph and return the serialised model."""
        from onnx import helper
        from onnx.checker import check_model

        graph = self.graph(*([helper.make_tensor_value_info(*port) for port in ports] for ports in (inputs, outputs)))
        own = [helper.make_opsetid(domain, 1) for domain in sorted({node.domain for node in self._nodes} - {""})]
        made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET), *own], ir_version=IR_VERSION)
        check_model(made)
        return bytes(made.SerializeToString(deterministic=True))

    def around(self, inner: bytes, after: Graph, inputs: Sequence[Port], outputs: Sequence[Port]) -> bytes:
        """Put these nodes before a serialised model and `after` behind it: the names of values join them."""
        import onnx
        from onnx import helper

        model = onnx.load_from_string(inner)
        parts = (self._nodes, list(model.graph.node), after._nodes)
        nodes = [node for part in parts for node in part]
        constants = [*self._constants, *model.graph.initializer, *after._constants]
        for field, ports in (("input", inputs), ("output", outputs)):
            model.graph.ClearField(field)
            getattr(model.graph, field).extend(helper.make_tensor_value_info(*port) for port in ports)
        for field, parts_of in (("node", nodes), ("initializer", constants)):
            model.graph.ClearField(field)
            getattr(model.graph, field).extend(parts_of)
        domains = {node.domain for node in nodes} | {node.domain for node in _inner_nodes(nodes)}
        known = {opset.domain for opset in model.opset_import}
        model.opset_import.extend(helper.make_opsetid(domain, 1) for domain in sorted(domains - known - {""}))
        return bytes(model.SerializeToString(deterministic=True))


def _inner_nodes(nodes: Sequence[Any]) -> list[Any]:
    """Return the nodes of the graphs that are attributes (a loop's body)."""
    return [inner for node in nodes for attribute in node.attribute for inner in attribute.g.node]
