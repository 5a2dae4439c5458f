"""Time of a family of models against that of one, and what each model is worth: ResNet-56 on CIFAR-10, eight models.

    python benches/sweep.py [--corpus ../shared] [--binary target/release/onnx-prune] [--models 8] [--alone 0.9,0.557,0.3]

Prints the seconds of the sweep, of one model made alone at each of the targets named, their ratio, and the drift of both on the
inputs kept apart. Fails where the sweep takes more than two and a half times the longest of those.
"""
import argparse
import json
import os
import subprocess
import sys
import tempfile
import time

PREPARE = ["--mean", "0.485,0.456,0.406", "--std", "0.229,0.224,0.225"]
MODEL, DATA = "models/cifar10_resnet56_fused.onnx", "sets/cifar10_calib.npz"
ALLOWED = 2.5


def run(arguments, folder, *options):
    """Seconds and the report of a run."""
    data, report = os.path.join(arguments.corpus, "data"), os.path.join(folder, "report.json")
    command = [arguments.binary, os.path.join(data, MODEL), "-o", os.path.join(folder, "out.onnx"), "--data",
               os.path.join(data, DATA), *PREPARE, *options, "--report", report, "--force", "-q"]
    start = time.time()
    # A model that is refused makes the exit code 1, and is told of all the same.
    result = subprocess.run(command, capture_output=True, text=True)
    if result.returncode not in (0, 1):
        sys.exit(result.stderr)
    return time.time() - start, json.load(open(report))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", default=os.environ.get("ONNX_PRUNE_CORPUS", "../shared"))
    parser.add_argument("--binary", default="target/release/onnx-prune")
    parser.add_argument("--models", type=int, default=8)
    parser.add_argument("--alone", default="0.9,0.557,0.3")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        seconds, report = run(arguments, folder, "--sweep", f"macs=0.9..0.3:{arguments.models}")
        swept = {row["target"]: row for row in report["sweep"]}
        print(f"{'sweep':<12} {seconds:8.1f} s for {len(swept)} models")
        alone = []
        for target in arguments.alone.split(","):
            one, report = run(arguments, folder, "--target", f"macs={target}")
            alone.append(one)
            drift = max(output["relative_l2"] for output in report["drift"]["outputs"])
            there = swept.get(f"macs={target}", {}).get("drift")
            beside = "" if there is None else f", in the sweep {there:.4f}"
            print(f"{'macs=' + target:<12} {one:8.1f} s, the sweep takes {seconds / one:.2f} times as long; drift {drift:.4f}{beside}")
    return 1 if seconds > ALLOWED * max(alone) else 0


if __name__ == "__main__":
    sys.exit(main())
