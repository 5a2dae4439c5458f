"""The plan check of second_opinion.py on graphs that are stored without their weights (zoo/graphs of a corpus).

Each graph is filled with random weights, cut by random scores, and the original with the plan's slices set to zero is run
beside the pruned model in ONNX Runtime. One graph at a time lies on the disk. Where ONNX Runtime does not run the original,
nothing can be said, and the graph is named.
"""

import importlib.util
import json
import subprocess
import sys
import tempfile
import time
import zlib
from pathlib import Path

import numpy as np
import onnx

from plan_zeroing import Unknown, scopes, zeroed

COMPARE = Path(__file__).resolve().parent / "compare_in_onnxruntime.py"
TOLERANCE, HALF, QUANTIZED = 1e-4, 1e-2, 3e-2
QUANTIZED_MARKS = ("QuantizeLinear", "DynamicQuantize", "Integer", "QLinear", "QGemm", "QAttention", "MatMulNBits")
# How much of a difference may be rounding: so many times what two ways of running one model differ by, and no more than this.
NOISE = (10.0, 1e-3)


def filler(zoo):
    """The zoo's own script, which says how weights are filled."""
    spec = importlib.util.spec_from_file_location("skeleton", zoo / "skeleton.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def draw(entry, sizes):
    """An array for one input: whole numbers from [low, high), real ones from there or normal."""
    def extent(axis, example):
        if isinstance(axis, int):
            return axis
        parts = [part.strip() for part in axis.split("+")]
        return sizes.get(axis) or (sum(sizes[part] for part in parts) if all(part in sizes for part in parts) else example)

    shape = [extent(axis, example) for axis, example in zip(entry["shape"], entry["example"])]
    random = np.random.default_rng(zlib.crc32(entry["name"].encode()))
    dtype = entry["dtype"]
    bounded = entry.get("low") is not None and entry.get("high") is not None
    numbers = random.uniform(entry["low"], entry["high"], shape) if bounded else random.standard_normal(shape)
    if dtype == "bfloat16":
        raise ValueError("inputs of type bfloat16")
    return (numbers if dtype.startswith("float") else np.floor(numbers)).astype(dtype)


def tolerance(model):
    operators = {node.op_type for scope in scopes(model) for node in scope.nodes}
    if any(mark in operator for operator in operators for mark in QUANTIZED_MARKS):
        return QUANTIZED
    half = (onnx.TensorProto.FLOAT16, onnx.TensorProto.BFLOAT16)
    return HALF if any(tensor.data_type in half for tensor in model.graph.initializer) else TOLERANCE


def last_line(done):
    lines = (done.stderr or done.stdout).strip().splitlines() or ["no message"]
    return lines[-1][:200]


def check(tool, filled, entry, folder, seed):
    """(ok, weak, FAIL, nothing or not run, why) of one filled graph."""
    pruned, plan, masked, data = (folder / name for name in ("pruned.onnx", "plan.json", "masked.onnx", "inputs.npz"))
    sizes = entry["checked"][0] if entry["checked"] else {}
    try:
        np.savez(data, **{i["name"]: draw(i, sizes) for i in entry["inputs"]})
    except (ValueError, TypeError) as reason:
        return "not run", str(reason)
    command = [tool, filled, "-o", pruned, "--target", "macs=0.7", "--score", "random", "--seed", seed]
    command += ["--recover", "none", "--no-verify", "--plan-out", plan, "--force", "-q"]
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, timeout=600, check=False)
    if done.returncode not in (0, 1):
        return "FAIL", f"exit code {done.returncode}: {last_line(done)}"
    if not pruned.exists() or not plan.exists():
        return "nothing", last_line(done)
    cuts = json.loads(plan.read_text())
    if not cuts["removed"]:
        return "nothing", "the plan removes nothing"
    original = onnx.load(filled)
    try:
        onnx.save(zeroed(original, cuts), masked)
    except Unknown as reason:
        return "FAIL", str(reason)
    command = [sys.executable, COMPARE, filled, masked, pruned, data]
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, timeout=600, check=False)
    try:
        answer = json.loads(done.stdout)
    except ValueError:
        return "not run", last_line(done)
    if "failed" in answer:
        which, why = answer["failed"]
        return ("not run" if which in ("original", "both") else "FAIL"), f"{which}: {why[:160]}"
    allowed = max(tolerance(original), NOISE[0] * min(answer["noise"], NOISE[1]))
    said = f"error {answer['error']:.1e}, moved {answer['moved']:.1e}, allowed {allowed:.0e}"
    if answer["error"] > allowed:
        return "FAIL", said
    return ("weak" if answer["moved"] <= allowed else "ok"), said


def check_all(tool, zoo, sample=False, seconds=None, names=(), seed=1):
    """Prints a row for each graph and the sums; true if no check failed."""
    manifest = json.loads((zoo / "manifest.json").read_text())["graphs"]
    graphs = [entry for entry in manifest if (entry["sample"] or not sample) and (not names or entry["name"] in names)]
    graphs.sort(key=lambda entry: entry["filled_bytes"])
    skeleton, results, started = filler(zoo), {}, time.monotonic()
    for entry in graphs:
        if seconds and time.monotonic() - started > seconds:
            results.setdefault("no time left", []).append(entry["name"])
            continue
        begun = time.monotonic()
        with tempfile.TemporaryDirectory() as folder:
            filled = Path(folder) / "model.onnx"
            try:
                skeleton.write(skeleton.fill(skeleton.read(str(zoo / "graphs" / f"{entry['name']}.onnx.gz"))), str(filled))
                result, why = check(tool, filled, entry, Path(folder), seed)
            except subprocess.TimeoutExpired:
                result, why = "FAIL", "no result after 600 s"
            except Exception as error:  # what cannot be read or run is a failure of this graph, not the end of all
                result, why = "FAIL", f"{type(error).__name__}: {str(error)[:200]}"
        results.setdefault(result, []).append(entry["name"])
        print(f"{entry['name']:55} {result:8} {why}  ({time.monotonic() - begun:.0f} s)", flush=True)
    print(f"in {time.monotonic() - started:.0f} s")
    for result, found in sorted(results.items()):
        named = "" if result == "ok" else f": {', '.join(found)}"
        print(f"{len(found)} {result}{named}")
    return "FAIL" not in results
