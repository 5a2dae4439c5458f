"""Runs models in the reference implementation of the onnx package, for `cargo test node_tests`.

Reads folders from standard input, a line each, with model.onnx and a TensorProto of each input, input_I.pb, by name. Writes
the outputs beside them, output_I.pb, and a line of JSON to standard output: {"outputs": count} or {"error": what it says}.
Needs onnx and numpy.
"""

import json
import sys
import warnings
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper
from onnx.reference import ReferenceEvaluator


def run(folder):
    feeds = {}
    for path in folder.glob("input_*.pb"):
        tensor = onnx.TensorProto.FromString(path.read_bytes())
        feeds[tensor.name] = numpy_helper.to_array(tensor)
    outputs = ReferenceEvaluator(str(folder / "model.onnx")).run(None, feeds)
    for at, output in enumerate(outputs):
        if not isinstance(output, (np.ndarray, np.generic)):
            raise TypeError(f"output {at} is no tensor")
        (folder / f"output_{at}.pb").write_bytes(numpy_helper.from_array(np.asarray(output)).SerializeToString())
    return len(outputs)


def main():
    # What the tests do with numbers that overflow is their business.
    warnings.simplefilter("ignore")
    answers, sys.stdout = sys.stdout, sys.stderr
    for line in sys.stdin:
        try:
            answer = {"outputs": run(Path(line.strip()))}
        except Exception as error:  # the operators raise what they like
            answer = {"error": f"{type(error).__name__}: {error}"[:300]}
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
