"""How fast retraining is beside PyTorch: the same step of the same pruned network on the same cores, one after the other.

    python benches/throughput.py [--corpus ../shared] [--binary target/release/onnx-prune] [--steps 24] [resnet20] [minilm]

Needs onnx, numpy and torch. The tool prunes a model to 0.6 of its multiply-accumulates and retrains it for a few steps; PyTorch
then runs the pruned file and the original node by node, as modules would: the original forwards, the pruned forwards and backwards,
one step of AdamW. Prints inputs a second and the peak memory of both. The tool's figure has its look at held-out inputs taken out
by the difference of a short and a longer run.
"""
import argparse
import json
import math
import os
import resource
import subprocess
import sys
import tempfile
import time

CIFAR = ["--mean", "0.485,0.456,0.406", "--std", "0.229,0.224,0.225"]
ROWS = {
    "resnet20": dict(model="cifar10_resnet20_bn", data="sets/cifar10_calib.npz", options=["--align", "1", *CIFAR], batch=64,
                     inputs={"input": (64, 3, 32, 32)}),
    "minilm": dict(model="minilm_l6_sentence", data=None, options=[], batch=16,
                   inputs=dict.fromkeys(["input_ids", "attention_mask", "token_type_ids"], (16, 32))),
}


def sentences(folder):
    """Sixteen tokens and thirty-two are what the step is asked for: sequences of one length, so that nothing is cut or grouped."""
    import numpy as np
    random = np.random.default_rng(0)
    path = os.path.join(folder, "tokens.npz")
    ids = random.integers(1000, 9000, (128, 32))
    np.savez(path, input_ids=ids, attention_mask=np.ones_like(ids), token_type_ids=np.zeros_like(ids))
    return path


def tool(binary, model, row, data, steps, folder):
    """Seconds and peak bytes of a run with so many steps, and the pruned model."""
    pruned, report = os.path.join(folder, "pruned.onnx"), os.path.join(folder, "report.json")
    command = [binary, model, "-o", pruned, "--target", "macs=0.6", "--data", data, "--recover", "distill", "--steps", str(steps),
               "--report", report, "--force", "-q", *row["options"]]
    subprocess.run(command, check=False, stdin=subprocess.DEVNULL)
    with open(report) as file:
        told = json.load(file)
    return told["seconds"]["train"], told["peak_rss_bytes"], told["training"]["batch"], pruned


class Network:
    """An ONNX graph that PyTorch runs: constants that are floats of rank one and more can be trained."""

    def __init__(self, path, torch, trained):
        import onnx
        from onnx import numpy_helper
        self.torch, self.nodes = torch, []
        model = onnx.load(path)
        self.outputs = [output.name for output in model.graph.output]
        arrays = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
        for node in model.graph.node:
            attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
            if node.op_type == "Constant":
                arrays[node.output[0]] = numpy_helper.to_array(attributes["value"])
            else:
                self.nodes.append((node.op_type, list(node.input), list(node.output), attributes))
        self.values = {name: torch.from_numpy(array.copy()) for name, array in arrays.items()}
        norms = {name for kind, names, _, _ in self.nodes if kind == "BatchNormalization" for name in names[1:]}
        self.weights = []
        for name, value in self.values.items():
            if trained and value.is_floating_point() and value.dim() and name not in norms:
                self.values[name] = value.requires_grad_()
                self.weights.append(self.values[name])

    def run(self, inputs):
        values = {**self.values, **inputs, "": None}
        for kind, names, made, attributes in self.nodes:
            found = OPERATORS[kind](self.torch, attributes, *[values[name] for name in names])
            values[made[0]] = found
        return values[self.outputs[0]]


def shape(tensor):
    return [int(extent) for extent in tensor]


def convolution(torch, a, x, w, b=None):
    pads = a.get("pads", [0] * 4)
    return torch.nn.functional.conv2d(x, w, b, a.get("strides", 1), pads[:2], a.get("dilations", 1), a.get("group", 1))


def pad(torch, a, x, pads, value=None, axes=None):
    pads, rank = shape(pads), x.dim()
    pairs = [pads[axis + side * rank] for axis in reversed(range(rank)) for side in (0, 1)]
    return torch.nn.functional.pad(x, pairs, value=float(value) if value is not None else 0.0)


def reshaped(torch, a, x, to):
    return x.reshape([x.shape[at] if extent == 0 else extent for at, extent in enumerate(shape(to))])


def sliced(torch, a, x, starts, ends, axes=None, steps=None):
    axes = shape(axes) if axes is not None else list(range(len(starts)))
    steps = shape(steps) if steps is not None else [1] * len(starts)
    for axis, start, end, step in zip(axes, shape(starts), shape(ends), steps):
        extent = x.shape[axis]
        if step > 0:
            at = range(extent)[start:end:step]
        else:
            at = range(extent)[start:None if end < -extent else end:step]
        x = x.index_select(axis, torch.tensor(list(at)))
    return x


def gathered(torch, a, x, at):
    axis = a.get("axis", 0) % x.dim()
    taken = x.index_select(axis, at.reshape(-1))
    return taken.reshape([*x.shape[:axis], *at.shape, *x.shape[axis + 1:]])


def unsqueezed(torch, a, x, axes):
    for axis in sorted(shape(axes.reshape(-1))):
        x = x.unsqueeze(axis)
    return x


def pooled(torch, a, x):
    return torch.nn.functional.avg_pool2d(x, a["kernel_shape"], a.get("strides"), 0, bool(a.get("ceil_mode", 0)))


def gemm(torch, a, x, w, b=None):
    y = x @ (w.t() if a.get("transB") else w)
    return y if b is None else y + b


DTYPES = {1: "float32", 6: "int32", 7: "int64", 9: "bool"}
OPERATORS = {
    "Conv": convolution, "Pad": pad, "Reshape": reshaped, "Slice": sliced, "Gather": gathered, "Unsqueeze": unsqueezed,
    "AveragePool": pooled, "Gemm": gemm,
    "BatchNormalization": lambda t, a, x, g, b, m, v: t.nn.functional.batch_norm(x, m, v, g, b, False, 0.0, a.get("epsilon", 1e-5)),
    "LayerNormalization": lambda t, a, x, g, b=None: t.nn.functional.layer_norm(x, g.shape, g, b, a.get("epsilon", 1e-5)),
    "Relu": lambda t, a, x: t.relu(x),
    "Erf": lambda t, a, x: t.erf(x),
    "Add": lambda t, a, x, y: x + y,
    "Mul": lambda t, a, x, y: x * y,
    "Div": lambda t, a, x, y: x / y if x.is_floating_point() else x // y,
    "And": lambda t, a, x, y: x & y,
    "Equal": lambda t, a, x, y: x == y,
    "GreaterOrEqual": lambda t, a, x, y: x >= y,
    "Where": lambda t, a, c, x, y: t.where(c, x, y),
    "MatMul": lambda t, a, x, y: x @ y,
    "Softmax": lambda t, a, x: x.softmax(a.get("axis", -1)),
    "Transpose": lambda t, a, x: x.permute(a["perm"]),
    "Concat": lambda t, a, *x: t.cat(x, a["axis"]),
    "Shape": lambda t, a, x: t.tensor(list(x.shape)),
    "Cast": lambda t, a, x: x.to(getattr(t, DTYPES[a["to"]])),
    "Range": lambda t, a, start, end, step: t.arange(int(start), int(end), int(step)),
    "ConstantOfShape": lambda t, a, s: t.full(shape(s), 1 if a.get("value") is None else value_of(a["value"])),
    "Expand": lambda t, a, x, s: x + t.zeros(shape(s), dtype=x.dtype) if x.dtype != t.bool else x | t.zeros(shape(s), dtype=t.bool),
    "ReduceSum": lambda t, a, x, axes: x.sum(shape(axes.reshape(-1)), keepdim=bool(a.get("keepdims", 1))),
    "ReduceL2": lambda t, a, x, axes=None: x.norm(dim=a["axes"] if axes is None else shape(axes.reshape(-1)), keepdim=bool(a.get("keepdims", 1))),
    "Clip": lambda t, a, x, low=None, high=None: x.clamp(low, high),
    "Flatten": lambda t, a, x: x.reshape(math.prod(x.shape[:a.get("axis", 1)]), -1),
}


def value_of(tensor):
    from onnx import numpy_helper
    return numpy_helper.to_array(tensor).reshape(-1)[0].item()


def other(original, pruned, row, batch, steps):
    """PyTorch's part, in a process of its own: its seconds a step and its peak bytes, on stdout."""
    import torch
    teacher, student = Network(original, torch, False), Network(pruned, torch, True)
    optimizer = torch.optim.AdamW(student.weights, 1e-4)
    inputs = {}
    for name, dims in row["inputs"].items():
        dims = (batch, *dims[1:])
        pixels = torch.rand(dims)
        inputs[name] = pixels if len(dims) == 4 else torch.ones(dims, dtype=torch.int64)
    took = []
    for _ in range(steps + 2):
        began = time.perf_counter()
        with torch.no_grad():
            target = teacher.run(inputs)
        loss = (student.run(inputs) - target).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        took.append(time.perf_counter() - began)
    print(json.dumps([sum(took[2:]) / steps, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024]))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", default=os.environ.get("ONNX_PRUNE_CORPUS", "../shared"))
    parser.add_argument("--binary", default="target/release/onnx-prune")
    parser.add_argument("--steps", type=int, default=24)
    parser.add_argument("--other", nargs=4, help=argparse.SUPPRESS)
    parser.add_argument("names", nargs="*")
    arguments = parser.parse_args()
    if arguments.other:
        name, original, pruned, batch = arguments.other
        other(original, pruned, ROWS[name], int(batch), arguments.steps)
        return
    print(f"{'row':<10} {'batch':>6} {'inputs/s':>9} {'PyTorch':>9} {'ratio':>6} {'memory':>8} {'PyTorch':>9}")
    for name in arguments.names or ROWS:
        row = ROWS[name]
        model = os.path.join(arguments.corpus, "data", "models", row["model"] + ".onnx")
        with tempfile.TemporaryDirectory() as folder:
            data = os.path.join(arguments.corpus, "data", row["data"]) if row["data"] else sentences(folder)
            few, _, _, _ = tool(arguments.binary, model, row, data, arguments.steps, folder)
            many, memory, batch, pruned = tool(arguments.binary, model, row, data, 3 * arguments.steps, folder)
            own = (many - few) / (2 * arguments.steps)
            command = [sys.executable, __file__, "--steps", str(arguments.steps), "--other", name, model, pruned, str(batch)]
            seconds, peak = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
        print(f"{name:<10} {batch:>6} {batch / own:>9.1f} {batch / seconds:>9.1f} {seconds / own:>6.2f} {memory / 1e6:>7.0f}M {peak / 1e6:>8.0f}M",
              flush=True)


if __name__ == "__main__":
    main()
