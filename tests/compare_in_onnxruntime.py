"""How far a pruned model's outputs are from the masked original's, and those from the original's, in ONNX Runtime.

    python tests/compare_in_onnxruntime.py ORIGINAL.onnx MASKED.onnx PRUNED.onnx INPUTS.npz

Prints one line of JSON: {"error": …, "moved": …}, or {"failed": [which model, what ONNX Runtime says]}; "both" are the masked
and the pruned model where they fail alike, as a detector whose graph does not take it that nothing is found. The zoo's check calls it where the runtime that is built in lacks an operator. Needs numpy and onnxruntime.
"""

import json
import sys

import numpy as np
import onnxruntime


def run(path, inputs):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    wanted = {i.name for i in session.get_inputs()}
    outputs = session.run(None, {name: array for name, array in inputs.items() if name in wanted})
    return [np.asarray(output) for output in outputs if not isinstance(output, (dict, list))]


def distance(expected, found, original):
    """The largest difference relative to the largest magnitude of the first or the original."""
    if expected.shape != found.shape:
        return float("inf")
    if not expected.size:
        return 0.0
    if expected.dtype.kind != "f":
        return 0.0 if np.mean(expected != found) <= 0.01 else 1.0
    finite = np.isfinite(expected)
    if not np.array_equal(finite, np.isfinite(found)):
        return float("inf")
    if not finite.any():
        return 0.0
    a, b = expected[finite].astype(np.float64), found[finite].astype(np.float64)
    usual = np.abs(original[np.isfinite(original)].astype(np.float64)).max(initial=0.0)
    return float(np.abs(a - b).max() / (max(np.abs(a).max(), usual) or 1.0))


def main():
    original, masked, pruned, data = sys.argv[1:]
    with np.load(data) as arrays:
        inputs = {name: arrays[name] for name in arrays.files}
    outputs, failed = {}, {}
    for name, path in (("original", original), ("masked", masked), ("pruned", pruned)):
        try:
            outputs[name] = run(path, inputs)
        except Exception as error:  # ONNX Runtime's errors share no base class
            failed[name] = str(error).strip().splitlines()[0]
    if failed:
        alike = "original" not in failed and failed.get("masked") == failed.get("pruned")
        which = "both" if alike else next(iter(failed))
        print(json.dumps({"failed": [which, next(iter(failed.values()))[:300]]}))
        return
    triples = list(zip(outputs["original"], outputs["masked"], outputs["pruned"]))
    error = max((distance(m, p, o) for o, m, p in triples), default=0.0)
    moved = max((distance(o, m, o) for o, m, p in triples), default=0.0)
    # JSON has no infinity.
    print(json.dumps({"error": min(error, 1e30), "moved": min(moved, 1e30)}))


if __name__ == "__main__":
    main()
