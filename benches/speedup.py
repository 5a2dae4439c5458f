"""How much of the theoretical speed-up at a share of the multiply-accumulates is realised, in tract and in ONNX Runtime.

    python benches/speedup.py --binary target/release/onnx-prune [--target 0.5] MODEL.onnx... [-- OPTION...]

Options after -- go to onnx-prune: --align auto, or --units layers with --data. Both models take turns on one thread; the fastest run of each counts. Needs the Python packages numpy and onnxruntime.
"""
import argparse
import json
import os
import subprocess
import sys
import tempfile
import time

import numpy as np
import onnxruntime

TYPES = {"tensor(float)": np.float32, "tensor(int64)": np.int64, "tensor(uint8)": np.uint8}


def onnx_runtime(paths, rounds=60):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    sessions = [onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"]) for path in paths]
    random = np.random.default_rng(0)
    feed = {}
    for given in sessions[0].get_inputs():
        shape = [extent if isinstance(extent, int) else (1 if axis == 0 else 32) for axis, extent in enumerate(given.shape)]
        kind = TYPES[given.type]
        feed[given.name] = random.standard_normal(shape).astype(kind) if kind == np.float32 else np.ones(shape, kind)
    least = [float("inf")] * len(sessions)
    for _ in range(rounds):
        for at, session in enumerate(sessions):
            start = time.perf_counter()
            session.run(None, feed)
            least[at] = min(least[at], 1e3 * (time.perf_counter() - start))
    return least


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", default="target/release/onnx-prune")
    parser.add_argument("--target", type=float, default=0.5)
    parser.add_argument("models", nargs="+")
    words = sys.argv[1:]
    options = words[words.index("--") + 1 :] if "--" in words else []
    args = parser.parse_args(words[: words.index("--")] if "--" in words else words)
    print(f"{'model':26} {'runtime':8} {'MACs':>6} {'before ms':>10} {'after ms':>9} {'speed-up':>9} {'of theory':>10}")
    for model in args.models:
        with tempfile.TemporaryDirectory() as folder:
            pruned, report = os.path.join(folder, "pruned.onnx"), os.path.join(folder, "report.json")
            command = [args.binary, model, "-o", pruned, "--target", f"macs={args.target}", "--report", report, "-q", *options]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
            with open(report) as file:
                result = json.load(file)
            share = result["pruned"]["macs"] / result["original"]["macs"]
            bench = subprocess.run([args.binary, "bench", model, pruned, "--json", "-q"], check=True, capture_output=True, text=True)
            tract = [entry["latency_ms"] for entry in json.loads(bench.stdout)["models"]]
            for runtime, (before, after) in (("tract", tract), ("ort", onnx_runtime([model, pruned]))):
                gain = before / after
                name = os.path.splitext(os.path.basename(model))[0]
                print(f"{name:26} {runtime:8} {share:6.3f} {before:10.2f} {after:9.2f} {gain:9.2f} {gain * share:10.2f}", flush=True)


if __name__ == "__main__":
    main()
