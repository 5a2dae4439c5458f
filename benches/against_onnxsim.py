"""Time and memory of pruning a ResNet-50 by half: onnx-prune beside onnxsim 0.8.1.

    python benches/against_onnxsim.py [--tool target/release/onnx-prune] [--runs 5] [--json FILE]

Both get the same file of 102 MB, are run in turn as whole processes (load, prune by L2, save), and
the medians are printed: wall time, peak resident memory, and for onnxsim also the bare call inside.
onnx-prune prunes to half the MACs, onnxsim takes half of every channel that it matches; the sizes of
the results are printed too. Without --tool only onnxsim is timed. Needs numpy, onnx and onnxsim.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

MIB = 2**20
STAGES = ((64, 3), (128, 4), (256, 6), (512, 3))

# The whole life of the peer's process; it prints how long the call alone took.
ONNXSIM = """
import sys, time
import onnx
from onnxsim.pruning import apply_structured_pruning
model = onnx.load(sys.argv[1])
started = time.perf_counter()
model = apply_structured_pruning(model, sparsity=0.5, importance_norm="l2")
print(time.perf_counter() - started)
onnx.save(model, sys.argv[2])
"""


def build(path):
    """Writes a network of ResNet-50's shape, BatchNormalization folded into the convolutions.

    All weights and biases are random, so that no two are equal: a cut of a tensor that two layers share
    is another matter than speed.
    """
    import numpy as np
    from onnx import TensorProto, helper, numpy_helper, save

    random = np.random.default_rng(0)
    nodes, weights = [], []

    def constant(name, dims, spread):
        array = random.standard_normal(dims, dtype=np.float32) * np.float32(spread)
        weights.append(numpy_helper.from_array(array, name))
        return name

    def add(operator, inputs, name, **attributes):
        nodes.append(helper.make_node(operator, inputs, [f"{name}_out"], name=name, **attributes))
        return f"{name}_out"

    def conv(x, name, inputs, outputs, kernel, stride=1):
        weight = constant(f"{name}.weight", (outputs, inputs, kernel, kernel), (2 / inputs / kernel**2) ** 0.5)
        bias = constant(f"{name}.bias", (outputs,), 0.1)
        pads, strides = [kernel // 2] * 4, [stride] * 2
        return add("Conv", [x, weight, bias], name, kernel_shape=[kernel] * 2, pads=pads, strides=strides)

    def bottleneck(x, name, inputs, width, stride):
        y = add("Relu", [conv(x, f"{name}.conv1", inputs, width, 1)], f"{name}.relu1")
        y = add("Relu", [conv(y, f"{name}.conv2", width, width, 3, stride)], f"{name}.relu2")
        y = conv(y, f"{name}.conv3", width, 4 * width, 1)
        if inputs != 4 * width:
            x = conv(x, f"{name}.downsample", inputs, 4 * width, 1, stride)
        return add("Relu", [add("Add", [y, x], f"{name}.add")], f"{name}.relu3")

    x = add("Relu", [conv("input", "conv1", 3, 64, 7, 2)], "relu1")
    x = add("MaxPool", [x], "maxpool", kernel_shape=[3, 3], pads=[1] * 4, strides=[2, 2])
    inputs = 64
    for stage, (width, blocks) in enumerate(STAGES, 1):
        for block in range(blocks):
            stride = 2 if block == 0 and stage > 1 else 1
            x = bottleneck(x, f"layer{stage}.{block}", inputs, width, stride)
            inputs = 4 * width
    x = add("Flatten", [add("GlobalAveragePool", [x], "avgpool")], "flatten", axis=1)
    weight, bias = constant("fc.weight", (1000, inputs), inputs**-0.5), constant("fc.bias", (1000,), 0.1)
    nodes.append(helper.make_node("Gemm", [x, weight, bias], ["logits"], name="fc", transB=1))
    graph = helper.make_graph(
        nodes,
        "resnet50",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["batch", 3, 224, 224])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 1000])],
        weights,
    )
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)


def measure(command):
    """Runs a process to its end: (wall seconds, peak resident bytes, what it printed)."""
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as errors:
        started = time.perf_counter()
        child = subprocess.Popen([str(word) for word in command], stdout=out, stderr=errors)
        _, status, usage = os.wait4(child.pid, 0)
        seconds = time.perf_counter() - started
        child.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0), errors.seek(0)
        if child.returncode:
            raise SystemExit(f"{command[0]} ended with {child.returncode}:\n{errors.read()[-2000:]}")
        # Linux counts in KiB, macOS in bytes.
        return seconds, usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024), out.read()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tool", type=Path, help="the onnx-prune binary, a release build")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")
    parser.add_argument("--build", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.build:
        return build(arguments.build)

    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder) / "resnet50.onnx"
        # In a process of its own: a child's peak memory counts from its parent's, so this one stays small.
        subprocess.run([sys.executable, __file__, "--build", str(model)], check=True)
        outs = {name: Path(folder) / f"{name}.onnx" for name in ("onnx-prune", "onnxsim")}
        commands = {"onnxsim": [sys.executable, "-c", ONNXSIM, model, outs["onnxsim"]]}
        if arguments.tool:
            ours = [arguments.tool.resolve(), model, "-o", outs["onnx-prune"], "--force"]
            ours += ["--target", "macs=0.5", "--score", "l2", "--no-verify"]
            commands = {"onnx-prune": ours, **commands}
        runs = {name: [] for name in commands}
        for _ in range(arguments.runs):
            # In turn, so that a slower minute of the machine meets both.
            for name, command in commands.items():
                runs[name].append(measure(command))
        figures = {"model_bytes": model.stat().st_size, "runs": arguments.runs, "cores": os.cpu_count()}
        for name, measured in runs.items():
            seconds, peaks, printed = zip(*measured)
            figures[name] = {
                "seconds": statistics.median(seconds),
                "fastest": min(seconds),
                "peak_rss_bytes": statistics.median(peaks),
                "result_bytes": outs[name].stat().st_size,
            }
            if name == "onnxsim":
                figures[name]["call_seconds"] = statistics.median(map(float, printed))

    print(f"ResNet-50, {figures['model_bytes'] / 1e6:.1f} MB, medians of {arguments.runs} runs, {os.cpu_count()} cores")
    print(f"{'':12} {'process':>9} {'fastest':>9} {'peak RSS':>10} {'bare call':>10} {'result':>10}")
    for name in runs:
        row = figures[name]
        call = f"{row['call_seconds']:.3f} s" if "call_seconds" in row else ""
        print(
            f"{name:12} {row['seconds']:7.2f} s {row['fastest']:7.2f} s {row['peak_rss_bytes'] / MIB:6.0f} MiB"
            f" {call:>10} {row['result_bytes'] / 1e6:7.1f} MB"
        )
    if arguments.tool:
        ours, peer = figures["onnx-prune"], figures["onnxsim"]
        figures["ratios"] = {
            "process": peer["seconds"] / ours["seconds"],
            "peak_rss": peer["peak_rss_bytes"] / ours["peak_rss_bytes"],
            "call_to_our_process": peer["call_seconds"] / ours["seconds"],
        }
        print(
            "onnxsim / onnx-prune: process {process:.1f}, peak RSS {peak_rss:.1f};"
            " its bare call / our whole process {call_to_our_process:.2f}".format(**figures["ratios"])
        )
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
