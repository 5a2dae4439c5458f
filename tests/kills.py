"""Kills and signals at random points of runs that write a model; afterwards the old model or the new one must be whole.

    python3 tests/kills.py ONNX_PRUNE [TIMES] [SEED]

Half of the runs write a single file, half a model with external data, over the model of the run before. They end by SIGKILL,
SIGTERM or SIGINT, mostly while files are written; now and then a second run writes into the same place meanwhile. After each,
the model on disk is loaded by ONNX Runtime (or by `onnx-prune inspect` where that is not installed) and the inputs' digests
are compared. At the end one run is left alone, and nothing but the model may be left. Prints a summary; exits 1 at a fault.
"""

import collections
import hashlib
import pathlib
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time

import numpy
import onnx
from onnx import TensorProto, helper, numpy_helper

WIDTH = 700


def make(folder, external):
    rng = numpy.random.default_rng(0)
    weight = lambda name, *dims: numpy_helper.from_array(rng.standard_normal(dims).astype(numpy.float32) / dims[0] ** 0.5, name)
    weights = [weight("a", 16, WIDTH), weight("b", WIDTH, WIDTH), weight("c", WIDTH, WIDTH), weight("d", WIDTH, 4)]
    nodes, last = [], "x"
    for tensor in weights:
        nodes.append(helper.make_node("MatMul", [last, tensor.name], [tensor.name + "_product"]))
        last = tensor.name + "_product"
        if tensor.name != "d":
            nodes.append(helper.make_node("Relu", [last], [tensor.name + "_relu"]))
            last = tensor.name + "_relu"
    value = lambda name, width: helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", width])
    graph = helper.make_graph(nodes, "wide", [value("x", 16)], [value(last, 4)], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path = folder / "m.onnx"
    onnx.save(model, path, save_as_external_data=external, location="m.onnx.data" if external else None, size_threshold=0)
    return path


def digests(paths):
    return {path: hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}


def loads(tool, path):
    try:
        import onnxruntime
    except ImportError:
        return subprocess.run([tool, "inspect", path], capture_output=True).returncode == 0
    try:
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        return bool(numpy.isfinite(session.run(None, {"x": numpy.ones((1, 16), numpy.float32)})[0]).all())
    except Exception as error:
        print(f"does not load: {error}", file=sys.stderr)
        return False


class Trial:
    def __init__(self, tool, external, rng):
        self.tool, self.external, self.rng = tool, external, rng
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="kills-"))
        self.model, self.out = make(self.folder, external), self.folder / "x.onnx"
        self.inputs = digests(self.folder.iterdir())
        self.counts = collections.Counter()

    def start(self, macs):
        line = [self.tool, self.model, "-o", self.out, "--target", f"macs={macs}", "--no-verify", "--score", "l2"]
        line += ["--plan-out", self.folder / "p.json", "-q"]
        return subprocess.Popen(line, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def run(self, times):
        whole = []
        for _ in range(3):
            begin = time.monotonic()
            assert self.start(0.5).wait() == 0, "the run itself fails"
            whole.append(time.monotonic() - begin)
        whole, number = sorted(whole)[1], 0
        while number < times:
            before = set(self.left())
            child = self.start(round(self.rng.uniform(0.3, 0.9), 3))
            other = self.start(round(self.rng.uniform(0.3, 0.9), 3)) if number % 10 == 9 else None
            time.sleep(whole * self.rng.uniform(0.2, 1.0))
            how = self.rng.choice([signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
            child.send_signal(how)
            code = child.wait()
            self.counts[f"{how.name}: exit {code}"] += 1
            # A run that was done before is none that was ended.
            number += code != 0
            if other:
                self.counts["second writers"] += 1
                self.counts["second writers that failed"] += other.wait() != 0
            self.counts["leftovers at once"] += len(self.left()) > 0
            self.counts["leftovers after a signal"] += len(set(self.left()) - before) > 0 and code in (130, 143) and not other
            self.counts["mixed pairs"] += not loads(self.tool, self.out)
            self.counts["inputs touched"] += digests(self.inputs) != self.inputs
            if code in (130, 143) and not other:
                self.start(0.5).wait()
        assert self.start(0.5).wait() == 0, "the last run fails"
        self.counts["mixed pairs"] += not loads(self.tool, self.out)
        self.counts["leftovers after the next run"] += len(self.left())
        shutil.rmtree(self.folder)
        return self.counts

    def left(self):
        known = set(self.inputs) | {self.out, self.folder / "p.json"}
        rest = [path for path in self.folder.iterdir() if path not in known]
        if self.external and self.out.exists():
            referred = self.out.read_bytes()
            rest = [path for path in rest if path.name.encode() not in referred]
        return rest


def main():
    tool = sys.argv[1]
    times = int(sys.argv[2]) if len(sys.argv) > 2 else 200
    rng = random.Random(int(sys.argv[3]) if len(sys.argv) > 3 else 0)
    total = collections.Counter()
    for external in (False, True):
        counts = Trial(tool, external, rng).run(times // 2)
        print("external data:" if external else "single file:", *(f"\n  {name}: {count}" for name, count in sorted(counts.items())))
        total += counts
    faults = sum(total[name] for name in ("mixed pairs", "inputs touched", "leftovers after the next run", "second writers that failed"))
    faults += total["leftovers after a signal"]
    print(f"{times // 2 * 2} kills and signals, {faults} faults")
    return faults > 0


if __name__ == "__main__":
    sys.exit(main())
