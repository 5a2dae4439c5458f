"""Whether two builds of onnx-prune do the same, and how long each takes.

    python tests/same_outputs.py OLD NEW [--zoo N] [--runs R] [--corpus DIR] [NAME...]

OLD and NEW are two binaries. Both run the same commands on the fixtures, on the models of a corpus (DIR, or
$ONNX_PRUNE_CORPUS; data/models/NAME.onnx), and with --zoo on N of its graphs without weights (zoo/, filled by its own
script: those of the manifest's sample first, the smallest first). With names, only the models that are so called.

    inspect   inspect MODEL --json
    random    MODEL --score random --seed 1 --target params=0.7 --no-verify
    l2        MODEL --score l2 --target macs=0.7 --no-verify
    clean     clean MODEL
    data      MODEL --target macs=0.7 --data fixtures/digits_calibration.npz (fixtures alone: fits and verifies)

Compared are exit codes, plans, written models by their digest, and reports without what may differ: times, memory and
versions. (A model names the version that wrote it, so give both builds one version.) Each difference is printed; exit
code 1 if there is any. Then follow the times: the median of R runs of each binary, which take turns, and the ratio
NEW / OLD. Needs numpy and onnx with --zoo only.
"""

import argparse
import hashlib
import importlib.util
import json
import math
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

FIXTURES = Path(__file__).resolve().parent.parent / "fixtures"
CUT = ["-o", "out.onnx", "--plan-out", "plan.json", "--report", "report.json", "--force"]
PASSES = {
    "inspect": ["inspect", "{}", "--json"],
    "random": ["{}", "--score", "random", "--seed", "1", "--target", "params=0.7", "--no-verify", *CUT],
    "l2": ["{}", "--score", "l2", "--target", "macs=0.7", "--no-verify", *CUT],
    "clean": ["clean", "{}", "-o", "out.onnx"],
}
WITH_DATA = ["{}", "--data", str(FIXTURES / "digits_calibration.npz"), "--target", "macs=0.7", *CUT]
# Fields of a report that two runs of one binary differ in, and those that name the binary.
VOLATILE = {"seconds", "peak_rss_bytes", "latency_ms", "latency", "tool", "version"}
SHOWN = 5
LIMIT_S = 900


def stable(value):
    """A JSON value without its volatile fields."""
    if isinstance(value, dict):
        return {key: stable(inner) for key, inner in value.items() if key not in VOLATILE}
    return [stable(inner) for inner in value] if isinstance(value, list) else value


def differences(old, new, path=""):
    """Lines `path: old -> new` for every leaf in which two JSON values differ."""
    if isinstance(old, dict) and isinstance(new, dict):
        for key in {**old, **new}:
            if key not in old or key not in new:
                yield f"{path}.{key}: only in {'OLD' if key in old else 'NEW'}"
            else:
                yield from differences(old[key], new[key], f"{path}.{key}")
    elif isinstance(old, list) and isinstance(new, list):
        if len(old) != len(new):
            yield f"{path}: {len(old)} -> {len(new)} entries"
        for index, (left, right) in enumerate(zip(old, new)):
            yield from differences(left, right, f"{path}[{index}]")
    elif old != new or type(old) is not type(new):
        yield f"{path}: {json.dumps(old)[:60]} -> {json.dumps(new)[:60]}"


def run(tool, command, model):
    """(seconds, {what: value}) of one run in a folder of its own."""
    words = [tool, *(str(model) if word == "{}" else word for word in command)]
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        try:
            done = subprocess.run(words, cwd=folder, capture_output=True, text=True, timeout=LIMIT_S, check=False)
        except subprocess.TimeoutExpired:
            return float(LIMIT_S), {"exit code": f"none after {LIMIT_S} s"}
        seconds = time.perf_counter() - started
        found = {"exit code": done.returncode}
        if done.returncode not in (0, 1):
            found["message"] = re.sub(r"[\d.]+ m?s\b", "TIME", (done.stderr.strip().splitlines() or [""])[-1])
        if "--json" in words and done.stdout.strip():
            found["stdout"] = stable(json.loads(done.stdout))
        for path in sorted(Path(folder).iterdir()):
            if path.suffix == ".json":
                found[path.name] = stable(json.loads(path.read_text()))
            else:
                found[path.name] = hashlib.sha256(path.read_bytes()).hexdigest()
        return seconds, found


def compare(tools, name, command, model, runs):
    """(median seconds of OLD, of NEW, lines of differences) of one command on one model."""
    seconds, first = ([], []), [None, None]
    for turn in range(runs):
        for which in ((0, 1), (1, 0))[turn % 2]:
            spent, found = run(tools[which], command, model)
            seconds[which].append(spent)
            first[which] = first[which] or found
    lines = [f"{name}{line}" for line in differences(*first)]
    if len(lines) > SHOWN:
        lines[SHOWN:] = [f"{name}: {len(lines) - SHOWN} more"]
    return statistics.median(seconds[0]), statistics.median(seconds[1]), lines


def filled_graphs(zoo, count, names, folder):
    """(name, path) of graphs of the zoo; each file is removed when the next is asked for."""
    spec = importlib.util.spec_from_file_location("skeleton", zoo / "skeleton.py")
    skeleton = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(skeleton)
    graphs = json.loads((zoo / "manifest.json").read_text())["graphs"]
    graphs = [entry for entry in graphs if not names or entry["name"] in names]
    graphs.sort(key=lambda entry: (not entry["sample"], entry["filled_bytes"], entry["name"]))
    for entry in graphs[:count]:
        path = Path(folder) / f"{entry['name']}.onnx"
        skeleton.write(skeleton.fill(skeleton.read(str(zoo / "graphs" / f"{entry['name']}.onnx.gz"))), str(path))
        yield entry["name"], path
        path.unlink()


def models(arguments, folder):
    """(name, path, passes) of all models that are asked for."""
    fixtures = sorted(FIXTURES.glob("*.onnx"))
    corpus = Path(arguments.corpus) if arguments.corpus else None
    stored = sorted((corpus / "data" / "models").glob("*.onnx")) if corpus else []
    for path in fixtures + stored:
        if not arguments.names or path.stem in arguments.names:
            yield path.stem, path.resolve(), {**PASSES, **({"data": WITH_DATA} if path in fixtures else {})}
    if arguments.zoo and corpus:
        for name, path in filled_graphs(corpus / "zoo", arguments.zoo, arguments.names, folder):
            yield name, path, PASSES


def print_times(times):
    """A table of seconds and ratios: a row for each command, then one for each model and command."""
    print(f"\n{'':48} {'models':>6} {'OLD s':>9} {'NEW s':>9} {'NEW/OLD':>8}")
    for command in dict.fromkeys(command for _, command in times):
        rows = [pair for (_, other), pair in times.items() if other == command]
        ratio = math.exp(statistics.mean(math.log(new / old) for old, new in rows))
        old, new = (sum(row[which] for row in rows) for which in (0, 1))
        print(f"{'all, ' + command + ' (ratio: geometric mean)':48} {len(rows):6} {old:9.3f} {new:9.3f} {ratio:8.2f}")
    for (name, command), (old, new) in times.items():
        print(f"{name[:38] + ' ' + command:48} {'':6} {old:9.3f} {new:9.3f} {new / old:8.2f}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("old")
    parser.add_argument("new")
    parser.add_argument("names", nargs="*")
    parser.add_argument("--zoo", type=int, default=0, metavar="N")
    parser.add_argument("--runs", type=int, default=1, metavar="R")
    parser.add_argument("--corpus", default=os.environ.get("ONNX_PRUNE_CORPUS"))
    arguments = parser.parse_args()
    tools = [str(Path(tool).resolve()) for tool in (arguments.old, arguments.new)]
    times, different = {}, 0
    with tempfile.TemporaryDirectory() as folder:
        for name, path, passes in models(arguments, folder):
            for command, words in passes.items():
                old, new, lines = compare(tools, command, words, path, max(arguments.runs, 1))
                times[name, command] = old, new
                different += bool(lines)
                for line in lines:
                    print(f"{name}: {line}", flush=True)
    if not times:
        sys.exit("no models: name a corpus with --corpus or ONNX_PRUNE_CORPUS, or leave the names out")
    print_times(times)
    print(f"\n{len(times)} runs compared, {different} differ")
    return 1 if different else 0


if __name__ == "__main__":
    sys.exit(main())
