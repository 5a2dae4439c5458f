"""What zeroing single weights costs in quality: one row per model, pattern and share of zeros; those named distill-… are
retrained.

    python benches/sparse.py [--corpus ../shared] [--binary target/release/onnx-prune] [--score NAME] [NAME ...]

Calibration inputs are unlabelled and not those that the table is measured on (the dev half of the test sets). Zeros are
counted here, in the file that was written. Needs onnx and onnxruntime (through the corpus's evaluate.py),
and Pillow for the pictures of EfficientNet. A row fails if it
loses more than allowed; the exit code says whether any did.
"""
import argparse
import json
import os
import subprocess
import sys
import tempfile
import time

import numpy as np
import onnx
from onnx import numpy_helper

from quality import CIFAR, IMAGENET, agreement, evaluate


def cifar(model, options, allowed):
    return dict(model=model, options=options, allowed=allowed, prepare=CIFAR, data="sets/cifar10_calib.npz", unit=100.0,
                evaluate=["classify", "{}", "sets/cifar10_test.npz", "sets/cifar10_test_labels.npy"])


def share(number):
    return ["--sparsity", str(number)]


TWO_OF_FOUR = ["--pattern", "2:4"]
# Retrained with the original as teacher, zeros kept.
DISTILL = ["--recover", "distill"]
ROWS = {
    "resnet56-70": cifar("cifar10_resnet56_fused", share(0.7), 1.5),
    "resnet56-80": cifar("cifar10_resnet56_fused", share(0.8), 4.0),
    "resnet56-90": cifar("cifar10_resnet56_fused", share(0.9), 100.0),
    "resnet20-70": cifar("cifar10_resnet20_bn", share(0.7), 3.0),
    "resnet56-2:4": cifar("cifar10_resnet56_fused", TWO_OF_FOUR, 0.7),
    "resnet20-2:4": cifar("cifar10_resnet20_bn", TWO_OF_FOUR, 1.5),
    "resnet20-qdq-50": cifar("cifar10_resnet20_qdq", share(0.5), 100.0),
    "minilm-2:4": dict(model="minilm_l6_sentence", options=TWO_OF_FOUR, allowed=0.006, prepare=[], data="sets/stsb_calib.npz",
                       evaluate=["sts", "{}", "sets/stsb_test.npz", "sets/stsb_test_scores.npy"], unit=1.0),
    "efficientnet-2:4": dict(model="efficientnet_lite0", options=TWO_OF_FOUR, allowed=3.0, prepare=IMAGENET,
                             data="sets/imagenet_calib", unit=100.0, second="agreement",
                             evaluate=["classify", "{}", "sets/imagenet_test", "sets/imagenet_test_labels.npy"]),
}
ROWS.update({
    "distill-resnet56-90": cifar("cifar10_resnet56_fused", share(0.9) + DISTILL, 2.96),
    "distill-resnet20-90": cifar("cifar10_resnet20_bn", share(0.9) + DISTILL, 5.48),
    "distill-resnet56-2:4": cifar("cifar10_resnet56_fused", TWO_OF_FOUR + DISTILL, 0.3),
})


def zeros(path, weights):
    """The share of zeros in some initializers (of quantized ones: the commonest number of each)."""
    gone = total = 0
    for tensor in onnx.load(path).graph.initializer:
        if tensor.name in weights:
            numbers = numpy_helper.to_array(tensor)
            if np.issubdtype(numbers.dtype, np.integer):
                gone += int(np.unique(numbers, return_counts=True)[1].max())
            else:
                gone += int((numbers == 0).sum())
            total += numbers.size
    return gone / max(total, 1)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", default=os.environ.get("ONNX_PRUNE_CORPUS", "../shared"))
    parser.add_argument("--binary", default="target/release/onnx-prune")
    parser.add_argument("--score", help="another than the default")
    parser.add_argument("names", nargs="*")
    arguments = parser.parse_args()
    failed = False
    print(f"{'row':<18} {'zeros':>6} {'size':>6} {'deflate':>7} {'drift':>7} {'dense':>8} {'sparse':>8} {'lost':>8} {'allowed':>8} "
          f"{'seconds':>8}", flush=True)
    for name in arguments.names or ROWS:
        row = ROWS[name]
        original = os.path.join(arguments.corpus, "data", "models", row["model"] + ".onnx")
        with tempfile.TemporaryDirectory() as folder:
            sparse, report = os.path.join(folder, "sparse.onnx"), os.path.join(folder, "report.json")
            command = [arguments.binary, "sparsify", original, "-o", sparse, "--report", report, "-q", "--force", *row["options"],
                       "--data", os.path.join(arguments.corpus, "data", row["data"]), *row["prepare"]]
            command += ["--score", arguments.score] if arguments.score else []
            start = time.time()
            if subprocess.run(command, capture_output=True).returncode > 1:
                sys.exit(f"{name}: {' '.join(command)} failed")
            seconds = time.time() - start
            facts = json.load(open(report))
            dense, after = evaluate(arguments.corpus, row, original), evaluate(arguments.corpus, row, sparse)
            same = f"  same class {agreement(arguments.binary, arguments.corpus, row, original, sparse):.3f}" if row.get("second") else ""
            found = zeros(sparse, {layer["weight"] for layer in facts["sparsity"]["layers"]})
        unit = row["unit"]
        lost = (dense - after) * unit
        failed |= lost > row["allowed"] + 1e-9
        before, now = facts["sparsity"]["deflated"]
        places = 4 if unit == 1.0 else 2
        drift = max(output["relative_l2"] for output in facts["drift"]["outputs"])
        print(f"{name:<18} {found:6.3f} {facts['pruned']['bytes'] / facts['original']['bytes']:6.3f} {now / before:7.3f} {drift:7.3f} "
              f"{dense * unit:8.{places}f} {after * unit:8.{places}f} {lost:8.{places}f} {row['allowed']:8.{places}f} {seconds:8.0f}{same}",
              flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
