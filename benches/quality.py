"""What pruning costs in quality: one row per model and target. Rows named distill-… are retrained, the others are not.

    python benches/quality.py [--corpus ../shared] [--binary target/release/onnx-prune] [NAME ...]

Calibration inputs are unlabelled and not those that the table is measured on. Needs onnxruntime (through the corpus's
evaluate.py). A row fails if it loses more than allowed; the exit code says whether any did. Rows named default-… are the tool
with the file alone, those named default-data-… with inputs, both without a target: they also print the drift that it claims and
the drift on the test inputs, and fail where this is more than twice that, or where more MACs are left than asked for.
"""
import argparse
import json
import os
import subprocess
import sys
import tempfile
import time

CIFAR = ["--mean", "0.485,0.456,0.406", "--std", "0.229,0.224,0.225"]
IMAGENET = ["--mean", "0.498039,0.498039,0.498039", "--std", "0.501961,0.501961,0.501961"]


def cifar(model, target, allowed, *options, data=True):
    return dict(model=model, target=target, allowed=allowed, options=list(options), prepare=CIFAR,
                data="sets/cifar10_calib.npz" if data else None,
                evaluate=["classify", "{}", "sets/cifar10_test.npz", "sets/cifar10_test_labels.npy"], unit=100.0)


def digits(model):
    here = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "fixtures")
    return dict(model=os.path.join(here, model), target="macs=0.5", allowed=1.0, options=[], prepare=[], unit=100.0, labelled=True,
                data=os.path.join(here, "digits_calibration.npz"), test=os.path.join(here, "digits_test.npz"),
                labels=os.path.join(here, "digits_test_labels.npy"))


# The widths of ResNet-20 are few: on the calibration inputs, multiples of four and eight cost it 4 to 16 % of drift.
NARROW = ["--align", "1"]

ROWS = {
    "resnet56-0.7": cifar("cifar10_resnet56_fused", "macs=0.7", 0.2),
    "resnet56-0.47": cifar("cifar10_resnet56_fused", "macs=0.47", 1.0),
    "resnet56-0.3": cifar("cifar10_resnet56_fused", "macs=0.3", 4.5),
    "resnet20-0.6": cifar("cifar10_resnet20_bn", "macs=0.6", 1.5, *NARROW),
    "resnet20-qdq-0.7": cifar("cifar10_resnet20_qdq", "macs=0.7", 1.5, *NARROW),
    "minilm-0.6": dict(model="minilm_l6_sentence", target="macs=0.6", allowed=0.004, options=[], prepare=[],
                       data="sets/stsb_calib.npz", evaluate=["sts", "{}", "sets/stsb_test.npz", "sets/stsb_test_scores.npy"], unit=1.0),
    "efficientnet-0.75": dict(model="efficientnet_lite0", target="macs=0.75", allowed=3.0, options=[], prepare=IMAGENET,
                              data="sets/imagenet_calib", agreement=True, unit=100.0),
    "resnet56-0.7-data-free": cifar("cifar10_resnet56_fused", "macs=0.7", 5.0, data=False),
    "digits-cnn-0.5": digits("digits_cnn"),
    "digits-transformer-0.5": digits("digits_transformer"),
    "digits-lstm-0.5": digits("digits_lstm"),
}
ROWS["minilm-0.4"] = ROWS["minilm-0.6"] | dict(target="macs=0.4", allowed=0.014)
ROWS["resnet56-0.8-data-free"] = ROWS["resnet56-0.7-data-free"] | dict(target="macs=0.8", allowed=0.4)
ROWS["minilm-0.8-data-free"] = ROWS["minilm-0.6"] | dict(target="macs=0.8", allowed=0.003, data=None)
# Retrained with the original as teacher, by the same unlabelled inputs.
DISTILL = ["--recover", "distill"]
ROWS.update({
    "distill-resnet56-0.47": cifar("cifar10_resnet56_fused", "macs=0.47", 0.8, *DISTILL),
    "distill-resnet56-0.30": cifar("cifar10_resnet56_fused", "macs=0.3", 2.5, *DISTILL),
    "distill-resnet20-0.60": cifar("cifar10_resnet20_bn", "macs=0.6", 1.2, *NARROW, *DISTILL),
    "distill-resnet20-0.50": cifar("cifar10_resnet20_bn", "macs=0.5", 2.2, *NARROW, *DISTILL),
    "distill-minilm-0.6": ROWS["minilm-0.6"] | dict(allowed=0.003, options=DISTILL),
    "distill-minilm-0.4": ROWS["minilm-0.6"] | dict(target="macs=0.4", allowed=0.010, options=DISTILL),
    "distill-efficientnet-0.75": ROWS["efficientnet-0.75"] | dict(options=DISTILL),
    "distill-digits-cnn-0.25": digits("digits_cnn") | dict(target="macs=0.25", allowed=2.0, options=DISTILL),
    "distill-digits-transformer-0.25": digits("digits_transformer") | dict(target="macs=0.25", allowed=2.0, options=DISTILL),
    "distill-digits-lstm-0.25": digits("digits_lstm") | dict(target="macs=0.25", allowed=2.0, options=DISTILL),
})
# Directions of heads and of linear streams, after a change of basis. What is allowed goes by a prototype of such cuts.
ROWS.update({
    "directions-minilm-0.9": ROWS["minilm-0.6"] | dict(target="macs=0.9", allowed=0.004, options=["--units", "directions"]),
    "head-dims-minilm-0.9": ROWS["minilm-0.6"] | dict(target="macs=0.9", allowed=0.02, options=["--units", "head-dims"]),
    "directions-efficientnet-0.9": ROWS["efficientnet-0.75"] | dict(
        target="macs=0.9", allowed=20.0, options=["--units", "directions"]),
    "directions-efficientnet-0.75": ROWS["efficientnet-0.75"] | dict(options=["--units", "channels,directions"]),
})


def alone(model, test, allowed, prepare=(), unit=100.0, evaluate=None, labels=None):
    """The default with the file alone, judged on real inputs."""
    return dict(model=model, target=None, allowed=allowed, options=[], prepare=list(prepare), data=None, unit=unit, test=test,
                labels=labels, labelled=labels is not None, evaluate=evaluate)


HERE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "fixtures")
DIGITS = dict(test=os.path.join(HERE, "digits_test.npz"), labels=os.path.join(HERE, "digits_test_labels.npy"))
CIFAR_TEST = dict(test="sets/cifar10_test.npz", labels="sets/cifar10_test_labels.npy", prepare=CIFAR)
ROWS.update({
    "default-digits-cnn": alone(os.path.join(HERE, "digits_cnn"), allowed=0.5, **DIGITS),
    "default-digits-transformer": alone(os.path.join(HERE, "digits_transformer"), allowed=0.5, **DIGITS),
    "default-digits-lstm": alone(os.path.join(HERE, "digits_lstm"), allowed=0.5, **DIGITS),
    "default-resnet20": alone("cifar10_resnet20_bn", allowed=0.5, **CIFAR_TEST),
    "default-resnet56": alone("cifar10_resnet56_bn", allowed=0.5, **CIFAR_TEST),
    "default-efficientnet": alone("efficientnet_lite0", "sets/imagenet_test", 1.0, IMAGENET,
                                  labels="sets/imagenet_test_labels.npy"),
    "default-minilm": alone("minilm_l6_sentence", "sets/stsb_test.npz", 0.003, unit=1.0,
                            evaluate=["sts", "{}", "sets/stsb_test.npz", "sets/stsb_test_scores.npy"]),
})

# The default where there are inputs: as much as the usual drift allows.
for name, macs in [("resnet56", 0.70), ("resnet20", 0.80), ("minilm", 0.85), ("efficientnet", 0.92), ("digits-cnn", 0.7),
                   ("digits-transformer", 0.7), ("digits-lstm", 0.7)]:
    row = ROWS["default-" + name]
    data = {"resnet56": "sets/cifar10_calib.npz", "resnet20": "sets/cifar10_calib.npz", "minilm": "sets/stsb_calib.npz",
            "efficientnet": "sets/imagenet_calib"}.get(name, os.path.join(HERE, "digits_calibration.npz"))
    ROWS["default-data-" + name] = row | dict(data=data, macs=macs)


def evaluate(corpus, row, model):
    data = os.path.join(corpus, "data")
    words = [os.path.join(data, word) if word.startswith("sets/") else word for word in row["evaluate"]]
    words = [model if word == "{}" else word for word in words]
    result = subprocess.run([sys.executable, os.path.join(data, "evaluate.py"), *words, *row["prepare"]],
                            capture_output=True, text=True, check=True)
    return json.loads(result.stdout.strip().splitlines()[-1])["value"]


def agreement(binary, corpus, row, original, pruned):
    test = os.path.join(corpus, "data", "sets", "imagenet_test")
    result = subprocess.run([binary, "verify", original, pruned, "--data", test, *row["prepare"], "--json", "-q"],
                            capture_output=True, text=True)
    return json.loads(result.stdout)["drift"]["outputs"][0]["top1_agreement"]


def labelled(binary, corpus, row, original, pruned):
    metric = verified(binary, corpus, row, original, pruned)["labelled"]
    return metric["original"], metric["pruned"]


def verified(binary, corpus, row, original, pruned):
    """What a pruned model's outputs are like on the test inputs."""
    at = lambda path: os.path.join(corpus, "data", path) if path.startswith("sets/") else path
    labels = ["--labels", at(row["labels"])] if row.get("labels") else []
    result = subprocess.run([binary, "verify", original, pruned, "--data", at(row["test"]), *labels, *row["prepare"], "--json", "-q"],
                            capture_output=True, text=True)
    return json.loads(result.stdout)["drift"]


def worst(drift):
    return max(output["relative_l2"] for output in drift["outputs"])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", default=os.environ.get("ONNX_PRUNE_CORPUS", "../shared"))
    parser.add_argument("--binary", default="target/release/onnx-prune")
    parser.add_argument("names", nargs="*")
    arguments = parser.parse_args()
    failed = False
    print(f"{'row':<24} {'MACs':>6} {'dense':>8} {'pruned':>8} {'lost':>7} {'allowed':>8} {'seconds':>8}  exactness", flush=True)
    for name in arguments.names or ROWS:
        row = ROWS[name]
        original = os.path.join(arguments.corpus, "data", "models", row["model"] + ".onnx")
        with tempfile.TemporaryDirectory() as folder:
            pruned, report = os.path.join(folder, "pruned.onnx"), os.path.join(folder, "report.json")
            command = [arguments.binary, original, "-o", pruned, "--report", report, "--force", "-q"]
            if row["target"]:
                command += ["--target", row["target"]]
            if row["data"]:
                command += ["--data", os.path.join(arguments.corpus, "data", row["data"]), *row["prepare"]]
            start = time.time()
            subprocess.run([*command, *row["options"]], check=True, capture_output=True)
            seconds = time.time() - start
            facts = json.load(open(report))
            if row.get("labelled"):
                dense, after = labelled(arguments.binary, arguments.corpus, row, original, pruned)
            elif row.get("agreement"):
                dense, after = 1.0, agreement(arguments.binary, arguments.corpus, row, original, pruned)
            else:
                dense, after = evaluate(arguments.corpus, row, original), evaluate(arguments.corpus, row, pruned)
            claimed, real = (None, None) if row["target"] else (
                worst(facts["drift"]), worst(verified(arguments.binary, arguments.corpus, row, original, pruned)))
        unit = row["unit"]
        lost = (dense - after) * unit
        failed |= lost > row["allowed"] + 1e-9
        drifts = "" if claimed is None else f"  drift claimed {claimed:.4f}, real {real:.4f}"
        failed |= claimed is not None and real > 2 * claimed + 1e-9
        macs = facts["pruned"]["macs"] / facts["original"]["macs"]
        failed |= macs > row.get("macs", 1.0)
        places = 4 if unit == 1.0 else 2
        print(f"{name:<24} {macs:6.3f} {dense * unit:8.{places}f} {after * unit:8.{places}f} {lost:7.{places}f} "
              f"{row['allowed']:8.{places}f} {seconds:8.0f}  {facts['exactness']['verdict']}{drifts}", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
