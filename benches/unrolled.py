"""A recurrent net whose cells are written out step by step, as torch exports a loop over an LSTMCell: convolutions, then
both directions of an LSTM over the columns of the map, and a classifier for each step. Shared weights, products in a row.

    python3 benches/unrolled.py MODEL.onnx INPUTS.npz [--steps 20] [--hidden 100] [--channels 512] [--samples 4]

As given it has 80 Gemm and some 4 million parameters. Pruning it with its inputs is to take no more than two minutes:

    onnx-prune MODEL.onnx --data INPUTS.npz
"""

import argparse

import numpy as np
from growth_models import Graph
from onnx import helper


def cell(graph, x, state, weights, hidden):
    """One step of an LSTM: the next hidden state and memory."""
    h, c = state
    w, r, b, d = weights
    gates = graph.op("Add", graph.op("Gemm", x, w, b, transB=1), graph.op("Gemm", h, r, d, transB=1))
    names = [f"{gates}.{gate}" for gate in "ifgo"]
    graph.nodes.append(helper.make_node("Split", [gates], names, name=f"{gates}.split", axis=1))
    i, f, g, o = (graph.op(kind, name) for kind, name in zip(["Sigmoid", "Sigmoid", "Tanh", "Sigmoid"], names))
    c = graph.op("Add", graph.op("Mul", f, c), graph.op("Mul", i, g))
    return graph.op("Mul", o, graph.op("Tanh", c)), c


def main():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("model")
    arguments.add_argument("inputs")
    arguments.add_argument("--steps", type=int, default=20)
    arguments.add_argument("--hidden", type=int, default=100)
    arguments.add_argument("--channels", type=int, default=512)
    arguments.add_argument("--samples", type=int, default=4)
    options = arguments.parse_args()
    steps, hidden, channels = options.steps, options.hidden, options.channels
    height, width = 8, steps
    graph = Graph([1, 3, 8 * height, 8 * width])
    value, size = "x", 3
    for made in (channels // 8, channels // 4, channels // 2, channels):
        stride = 1 if made == channels else 2
        value = graph.op("Relu", graph.op("Conv", value, graph.weight(made, size, 3, 3), pads=[1] * 4, strides=[stride] * 2))
        size = made
    # 1 × channels × height × width to width × 1 × channels·height.
    value = graph.op("Transpose", value, perm=[3, 0, 1, 2])
    value = graph.op("Reshape", value, graph.constant(np.array([width, 1, channels * height], np.int64)))
    zero = graph.constant(np.zeros((1, hidden), np.float32))
    outputs = []
    for order in (range(steps), reversed(range(steps))):
        weights = [graph.weight(4 * hidden, channels * height), graph.weight(4 * hidden, hidden)]
        weights += [graph.constant(np.zeros(4 * hidden, np.float32)) for _ in range(2)]
        state, found = (zero, zero), {}
        for step in order:
            x = graph.op("Gather", value, graph.constant(np.array(step, np.int64)), axis=0)
            state = cell(graph, x, state, weights, hidden)
            found[step] = graph.op("Unsqueeze", state[0], graph.constant(np.array([0], np.int64)))
        outputs.append(graph.op("Concat", *[found[step] for step in range(steps)], axis=0))
    both = graph.op("Concat", *outputs, axis=2)
    graph.save(options.model, graph.op("Add", graph.op("MatMul", both, graph.weight(2 * hidden, 37)), graph.weight(37)))
    random = np.random.default_rng(0)
    pictures = random.standard_normal((options.samples, 3, 8 * height, 8 * width)).astype(np.float32)
    np.savez(options.inputs, x=pictures)


if __name__ == "__main__":
    main()
