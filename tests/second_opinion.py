"""An independent check of onnx-prune: other code, another runtime.

    python tests/second_opinion.py --tool target/debug/onnx-prune [--corpus DIR] [MODEL...]

Without MODEL it takes the fixtures and, where it is found, every model of a corpus: DIR,
$ONNX_PRUNE_CORPUS or ../shared beside the repository, with data/models/NAME.onnx and
data/inputs/NAME.npz. Each model is pruned with random and with L2 scores, and then

  - onnx's checker must accept the result as it accepted the original;
  - ONNX Runtime must run it, with finite outputs wherever the original's are;
  - the tensors must have shrunk as the plan file says;
  - the original with the plan's slices set to zero must give the pruned model's outputs;
  - the drift that the tool reports must be the drift seen here.

Where zeroing the slices moves no output, agreement proves nothing and the row says `weak`.

    python tests/second_opinion.py --tool target/debug/onnx-prune --zoo [--sample] [--seconds N] [NAME...]

makes the plan check on the corpus's graphs without weights (zoo/), filled at random: all of them, those that its manifest
calls a sample, or those named; the smallest first, until the seconds are over.
Needs numpy, onnx and onnxruntime. Exit code 1 if any check fails.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import onnx
import onnxruntime

from plan_zeroing import Unknown, constants, scopes, zeroed
from zoo_opinion import check_all

REPOSITORY = Path(__file__).resolve().parent.parent
FIXTURES = REPOSITORY / "fixtures"
FLOAT_TOLERANCE = 1e-4
# A rounding that falls on the other side moves a quantized net by a whole step.
QUANTIZED_TOLERANCE = 3e-2
EQUAL_SHARE = 0.99
PASSES = ("random", "l2")

class Failed(Exception):
    """A check that did not hold, in a few words."""


class Skipped(Exception):
    """Why nothing can be said about a model."""


def is_quantized(model):
    marks = ("QuantizeLinear", "DynamicQuantize", "Integer", "QLinear", "QGemm", "MatMulNBits")
    return any(mark in node.op_type for scope in scopes(model) for node in scope.nodes for mark in marks)


def passes_checker(model):
    """None if onnx's checker, with full shape inference, accepts the model; else its first line."""
    try:
        onnx.checker.check_model(model, full_check=True)
    except Exception as error:  # the checker and shape inference raise different types
        return str(error).strip().splitlines()[0]
    return None


# --- Running and comparing -------------------------------------------------------------------------------


def run(model, inputs):
    """{output name: array} in ONNX Runtime; maps and sequences are dropped."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    wanted = {i.name for i in session.get_inputs()}
    feeds = {name: array for name, array in inputs.items() if name in wanted}
    names = [o.name for o in session.get_outputs()]
    return {n: v for n, v in zip(names, session.run(None, feeds)) if isinstance(v, np.ndarray)}


def is_float(array):
    return array.dtype.kind == "f"


def distance(reference, other, original):
    """How far apart two outputs are: max |a-b| / max |a|, or the share of unequal entries of integers.

    An output that collapsed to almost nothing is judged on the scale that the original's had."""
    if reference.shape != other.shape:
        raise Failed(f"output of shape {list(other.shape)}, not {list(reference.shape)}")
    if not reference.size:
        return 0.0
    if not is_float(reference):
        return float(np.mean(reference != other))
    finite = np.isfinite(reference)
    if not np.array_equal(finite, np.isfinite(other)):
        raise Failed("finite in one model, not in the other")
    if not finite.any():
        return 0.0
    a, b = reference[finite].astype(np.float64), other[finite].astype(np.float64)
    usual = original[np.isfinite(original)]
    scale = max(np.abs(a).max(), np.abs(usual).max() if usual.size else 0.0) or 1.0
    return float(np.abs(a - b).max() / scale)


def relative_l2(reference, other):
    a, b = reference.astype(np.float64), other.astype(np.float64)
    # A reference of zero has no scale: the absolute distance then.
    return float(np.linalg.norm(b - a) / (np.linalg.norm(a) or 1.0))


def worst(reference, other, original, tolerance):
    """(the largest distance over all outputs, whether each is within its tolerance)."""
    if reference.keys() != other.keys():
        raise Failed("the outputs have other names")
    largest, within = 0.0, True
    for name, array in reference.items():
        apart = distance(array, other[name], original[name])
        within &= apart <= (tolerance if is_float(array) else 1 - EQUAL_SHARE)
        largest = max(largest, apart)
    return largest, within


# --- One model -------------------------------------------------------------------------------------------


class Case:
    """A model, its inputs and what ONNX Runtime makes of it before any pruning."""

    def __init__(self, path, data):
        self.path, self.data = path, data
        if data is None:
            raise Skipped("no inputs found")
        self.model = onnx.load(path)
        with np.load(data) as arrays:
            self.inputs = {name: arrays[name] for name in arrays.files}
        try:
            self.outputs = run(self.model, self.inputs)
        except Exception as error:  # ONNX Runtime's errors share no base class
            raise Skipped(f"ONNX Runtime cannot run the original: {str(error).splitlines()[0][:90]}")
        self.accepted = passes_checker(self.model) is None
        self.quantized = is_quantized(self.model)
        self.tolerance = QUANTIZED_TOLERANCE if self.quantized else FLOAT_TOLERANCE

    def prune(self, tool, score, seed, folder, timeout):
        """Runs the tool; returns (pruned model, plan, report, what to note)."""
        out, plan, report = (folder / name for name in ("pruned.onnx", "plan.json", "report.json"))
        rows = max((a.shape[0] for a in self.inputs.values() if a.ndim), default=1)
        # No recovery: it changes the weights that stay, and the zeroed original would not have the change.
        command = [tool, self.path, "-o", out, "--target", "macs=0.7", "--score", score, "--recover", "none"]
        command += ["--seed", seed, "--plan-out", plan, "--report", report, "--allow-unverified"]
        command += ["--data", self.data, "--samples", rows, "--force"]
        try:
            done = subprocess.run(
                [str(word) for word in command], capture_output=True, text=True, timeout=timeout, check=False
            )
        except subprocess.TimeoutExpired:
            raise Failed(f"no result after {timeout} s") from None
        # 1 is a target out of reach: the best model found is written and must be right all the same.
        lines = (done.stderr or done.stdout).strip().splitlines() or ["no message"]
        said = f"exit code {done.returncode}: {lines[-1][:160]}"
        if done.returncode not in (0, 1):
            raise Failed(said)
        report = json.loads(report.read_text()) if report.exists() else None
        if not out.exists():
            if report and not report["groups"]:
                raise Skipped("the tool found nothing to prune")
            raise Failed(f"no output file, {said}")
        if report is None or not plan.exists():
            raise Failed(f"no report or no plan file, {said}")
        note = "target not reached" if done.returncode else ""
        return onnx.load(out), json.loads(plan.read_text()), report, note

    def check(self, tool, score, seed, folder, timeout):
        """Runs the tool and all checks; returns the cells of a row."""
        pruned, plan, report, note = self.prune(tool, score, seed, folder, timeout)
        if self.accepted and (complaint := passes_checker(pruned)):
            raise Failed(f"onnx.checker: {complaint[:160]}")
        try:
            outputs = run(pruned, self.inputs)
        except Exception as error:
            raise Failed(f"ONNX Runtime: {str(error).splitlines()[0][:200]}") from None
        for name, array in self.outputs.items():
            if name not in outputs:
                raise Failed(f"output {name} is gone")
            if is_float(array) and np.isfinite(array).all() and not np.isfinite(outputs[name]).all():
                raise Failed(f"output {name} is not finite")
        if plan["removed"]:
            self.check_shrunk(pruned, plan)
        elif report["groups"]:
            raise Failed("the tool lists groups, but removed nothing")
        else:
            raise Skipped("the tool found nothing to prune")

        # Zeros do not stand for slices that a normalisation counts; such groups are cut only on request.
        lossy = {group["id"] for group in report["groups"] if group["lossy"]}
        if any(group["removed"] and group["id"] in lossy for group in plan["groups"]):
            raise Failed("a lossy group was cut, though nobody asked for it")
        try:
            masked = run(zeroed(self.model, plan), self.inputs)
        except Unknown as reason:
            raise Failed(str(reason)) from None
        error, exact = worst(masked, outputs, self.outputs, self.tolerance)
        moved, same = worst(self.outputs, masked, self.outputs, self.tolerance)
        if not exact:
            raise Failed(f"differs from the zeroed original by {error:.1e} (moved by {moved:.1e})")
        if self.quantized:
            note = f"{note} quantized: {QUANTIZED_TOLERANCE:g} allowed".strip()
        verdict = report["exactness"]["verdict"]
        if verdict == "inexact":
            raise Failed("the tool itself says inexact")
        return {
            "result": "weak" if same else "ok",
            "macs": f"{report['pruned']['macs'] / report['original']['macs']:.2f}",
            "error": f"{error:.1e}",
            "moved": f"{moved:.1e}",
            "drift": self.check_drift(report, outputs),
            "tool": verdict,
            "note": note,
        }

    def check_shrunk(self, pruned, plan):
        """Some tensor must be as narrow as the plan says (a shared one may live on under its name, uncut)."""
        before, after = constants(self.model), constants(pruned)
        for cut in plan["removed"]:
            name, axis = cut["value"], cut["axis"]
            if name in before and name in after:
                if after[name].dims[axis] == before[name].dims[axis] - len(cut["indices"]):
                    return
        raise Failed("no tensor shrank as the plan says")

    def check_drift(self, report, outputs):
        """The tool's relative L2 against the one seen here; returns the cell to print."""
        drift = report.get("drift")
        if not drift or not drift["outputs"]:
            return "none reported"
        if drift["synthetic"]:
            raise Failed("the tool measured drift on synthetic inputs, though it was given data")
        cells = []
        for entry in drift["outputs"]:
            array = self.outputs.get(entry["name"])
            if array is None or not is_float(array) or not np.isfinite(array).all():
                continue
            seen, said = relative_l2(array, outputs[entry["name"]]), entry["relative_l2"]
            # Runtimes round quantized nets differently; their drifts are shown, not compared.
            if not self.quantized and abs(seen - said) > 1e-3 + 0.02 * seen:
                over = f"over {drift['inputs']} inputs"
                raise Failed(f"drift of {entry['name']} is {seen:.4g} here, {said:.4g} in the report {over}")
            cells.append((seen, said))
        return "{:.3f}/{:.3f}".format(*max(cells)) if cells else "no float output"


# --- All models --------------------------------------------------------------------------------------------


def find_inputs(model):
    """The inputs of a model: the fixtures share theirs, the corpus has a folder beside the models."""
    candidates = [model.with_suffix(".npz"), model.parent.parent / "inputs" / f"{model.stem}.npz"]
    if model.resolve().parent == FIXTURES:
        candidates.insert(0, FIXTURES / "digits_calibration.npz")
    return next((path for path in candidates if path.exists()), None)


def find_models(corpus):
    models = sorted(FIXTURES.glob("*.onnx"))
    in_corpus = sorted((corpus / "data" / "models").glob("*.onnx"))
    if not in_corpus:
        print("SKIP the corpus: no data/models/*.onnx found; only the fixtures are checked", flush=True)
    return models + in_corpus


COLUMNS = {"model": 24, "score": 6, "result": 6, "macs": 4, "error": 7, "moved": 7, "drift": 15, "tool": 12}


def print_row(cells):
    fixed = "  ".join(f"{str(cells.get(name, '')):{width}}" for name, width in COLUMNS.items())
    print(f"{fixed}  {cells.get('note', '')}".rstrip(), flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tool", required=True, type=Path, help="the onnx-prune binary")
    parser.add_argument("--corpus", type=Path, help="a folder with data/models and data/inputs")
    parser.add_argument("--seed", type=int, default=1, help="of the random scores")
    parser.add_argument("--timeout", type=float, default=900, help="seconds for one run of the tool")
    parser.add_argument("--zoo", action="store_true", help="check plans on the graphs of the corpus's zoo")
    parser.add_argument("--sample", action="store_true", help="with --zoo: only the graphs that its manifest calls a sample")
    parser.add_argument("--seconds", type=float, help="with --zoo: begin no graph after so many")
    parser.add_argument("models", nargs="*", type=Path, metavar="MODEL")
    arguments = parser.parse_args()
    tool = arguments.tool.resolve()
    if not os.access(tool, os.X_OK):
        parser.error(f"{arguments.tool} is no program")
    corpus = arguments.corpus or Path(os.environ.get("ONNX_PRUNE_CORPUS") or REPOSITORY.parent / "shared")

    if arguments.zoo:
        if not (corpus / "zoo" / "manifest.json").exists():
            print("SKIP the zoo: no zoo/manifest.json in the corpus")
            return 0
        names = {str(name) for name in arguments.models}
        return 0 if check_all(tool, corpus / "zoo", arguments.sample, arguments.seconds, names, arguments.seed) else 1

    counts = {"ok": 0, "FAIL": 0, "skip": 0, "weak": 0}
    models = arguments.models or find_models(corpus)
    print_row({**{name: name for name in COLUMNS}, "drift": "drift here/tool", "note": "note"})
    started = time.monotonic()
    for path in models:
        case = None
        for score in PASSES:
            try:
                case = case or Case(path, find_inputs(path))
                with tempfile.TemporaryDirectory() as folder:
                    cells = case.check(tool, score, arguments.seed, Path(folder), arguments.timeout)
            except Skipped as reason:
                cells = {"result": "skip", "note": str(reason)}
            except Failed as reason:
                cells = {"result": "FAIL", "note": str(reason)}
            except Exception as error:  # a broken file or report is the tool's failure, not the end of the run
                cells = {"result": "FAIL", "note": f"{type(error).__name__}: {str(error)[:160]}"}
            counts[cells["result"]] += 1
            print_row({"model": path.stem, "score": score, **cells})
    weak = f" ({counts['weak']} of them weak)" if counts["weak"] else ""
    print(f"in {time.monotonic() - started:.0f} s")
    print(f"{counts['ok']} passed, {counts['FAIL']} failed, {counts['skip'] + counts['weak']} skipped{weak}")
    return 1 if counts["FAIL"] else 0


if __name__ == "__main__":
    sys.exit(main())
