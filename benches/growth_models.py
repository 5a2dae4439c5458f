"""Graphs of any number of nodes, for growth.py.

    python3 benches/growth_models.py KIND COUNT PATH

Needs the Python packages onnx and numpy.
"""

import sys

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


class Graph:
    """Nodes and constants of a model with an input x and an output y."""

    def __init__(self, shape):
        self.shape, self.nodes, self.constants, self.functions = shape, [], [], []

    def constant(self, array):
        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(array), name))
        return name

    def weight(self, *dims):
        random = np.random.default_rng(len(self.constants))
        return self.constant((random.standard_normal(dims) / np.sqrt(max(np.prod(dims[1:]), 1))).astype(np.float32))

    def op(self, kind, *inputs, **attributes):
        name = f"v{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [name], name=f"n{len(self.nodes)}", **attributes))
        return name

    def save(self, path, last):
        self.nodes.append(helper.make_node("Identity", [last], ["y"], name="end"))
        x = helper.make_tensor_value_info("x", TensorProto.FLOAT, self.shape)
        y = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
        graph = helper.make_graph(self.nodes, "g", [x], [y], self.constants)
        domains = [helper.make_opsetid("", 17)] + ([helper.make_opsetid("own", 1)] if self.functions else [])
        model = helper.make_model(graph, opset_imports=domains, functions=self.functions, ir_version=8)
        onnx.save(model, path)


def between(length):
    """A graph whose first product makes 32 channels, which the middle hands on and a last one reads."""
    graph = Graph([1, 8])
    value = graph.op("MatMul", "x", graph.weight(8, 32))
    return graph, value


def relu(count, path):
    graph, value = between(count)
    for _ in range(count):
        value = graph.op("Relu", value)
    graph.save(path, graph.op("MatMul", value, graph.weight(32, 8)))


def dynamic(count, path):
    """The same over an axis whose extent is not known, without weights."""
    graph, value = Graph(["n", 8]), "x"
    for _ in range(count):
        value = graph.op("Relu", value)
    graph.save(path, value)


def matmul(count, path):
    graph = Graph([1, 16])
    value = "x"
    for _ in range(count // 2):
        value = graph.op("Relu", graph.op("MatMul", value, graph.weight(16, 16)))
    graph.save(path, value)


def equal(count, path):
    """Products whose weights hold the same numbers, each in a constant of its own."""
    graph = Graph([1, 16])
    value, numbers = "x", np.random.default_rng(0).standard_normal((16, 16)).astype(np.float32) / 4
    for _ in range(count // 2):
        value = graph.op("Relu", graph.op("MatMul", value, graph.constant(numbers)))
    graph.save(path, value)


def conv(count, path):
    graph = Graph([1, 8, 4, 4])
    value = "x"
    for _ in range(count // 4):
        made = graph.op("Conv", value, graph.weight(8, 8, 3, 3), pads=[1, 1, 1, 1])
        norm = [graph.constant(np.ones(8, np.float32)) for _ in range(4)]
        value = graph.op("Add", graph.op("Relu", graph.op("BatchNormalization", made, *norm)), value)
    graph.save(path, value)


def joined(kind, width):
    def make(count, path):
        graph = Graph([1, 8])
        value = graph.op("MatMul", "x", graph.weight(8, 4))
        operands = [graph.op("Relu", value) for _ in range(count)]
        whole = graph.op(kind, *operands, **({"axis": 1} if kind == "Concat" else {}))
        graph.save(path, graph.op("MatMul", whole, graph.weight(width(count), 4)))

    return make


def function(count, path):
    graph, value = between(count)
    body = [helper.make_node("Relu", ["a"], ["b"]), helper.make_node("Neg", ["b"], ["c"])]
    graph.functions.append(helper.make_function("own", "f", ["a"], ["c"], body, [helper.make_opsetid("", 17)]))
    for _ in range(count):
        value = graph.op("f", value, domain="own")
    graph.save(path, graph.op("MatMul", value, graph.weight(32, 8)))


def reshape(count, path):
    graph, value = between(count)
    first, rest = graph.constant(np.array([0], np.int64)), graph.constant(np.array([-1], np.int64))
    for _ in range(count // 5):
        target = graph.op("Concat", graph.op("Gather", graph.op("Shape", value), first, axis=0), rest, axis=0)
        value = graph.op("Relu", graph.op("Reshape", value, target))
    graph.save(path, graph.op("MatMul", value, graph.weight(32, 8)))


KINDS = {
    "relu": relu,
    "dynamic": dynamic,
    "matmul": matmul,
    "equal": equal,
    "conv": conv,
    "sum": joined("Sum", lambda count: 4),
    "concat": joined("Concat", lambda count: 4 * count),
    "function": function,
    "reshape": reshape,
}


if __name__ == "__main__":
    KINDS[sys.argv[1]](int(sys.argv[2]), sys.argv[3])
