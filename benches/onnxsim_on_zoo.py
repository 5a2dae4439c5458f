"""Parameters left by onnx-prune and by onnxsim 0.8.1 at fraction 0.5, on every graph of the zoo.

    python benches/onnxsim_on_zoo.py --tool target/release/onnx-prune [--only PART,…] [--fresh]

onnxsim gets every pruning of whole channels, heads and experts that it offers without data, one after the
other, at sparsity 0.5 by L2. onnx-prune gets `--target params=` 0.5, or what onnxsim left where that is
less, with its default units and once more with `width`. Parameters are counted in the files that came
out, the same way for both; then ONNX Runtime loads and runs them. Graphs already measured are kept in
the build folder (tmp/onnxsim_on_zoo.jsonl) unless --fresh is given; docs/against_onnxsim.md is written from all of
them. Needs numpy, onnx, onnxruntime, onnxsim and the zoo (ONNX_PRUNE_CORPUS, default ../shared).
"""

import argparse
import json
import multiprocessing
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto

REPOSITORY = Path(__file__).resolve().parent.parent
CORPUS = Path(os.environ.get("ONNX_PRUNE_CORPUS") or REPOSITORY.parent / "shared")
ROWS = REPOSITORY / "target" / "tmp" / "onnxsim_on_zoo.jsonl"
PAGE = REPOSITORY / "docs" / "against_onnxsim.md"
# Whatever cuts whole channels, heads or experts and needs no data.
PRUNINGS = (
    "apply_structured_pruning",
    "apply_attention_head_pruning",
    "apply_moe_expert_channel_pruning",
    "apply_structured_pruning_qdq",
    "apply_structured_pruning_qoperator",
    "apply_structured_pruning_dynamic_quantize_conv",
    "apply_structured_pruning_dynamic_quantize_matmul",
    "apply_structured_pruning_matmul_nbits",
)
WEIGHTS = {
    TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.FLOAT16, TensorProto.BFLOAT16,
    TensorProto.INT8, TensorProto.UINT8, TensorProto.INT4, TensorProto.UINT4,
}  # fmt: skip
SECONDS = 240


def graphs(graph):
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            for inner in ([attribute.g] if attribute.HasField("g") else []) + list(attribute.graphs):
                yield from graphs(inner)


def parameters(model):
    """Elements of all constants of a real or quantized type."""
    total = 0
    for graph in [g for top in (model.graph, *model.functions) for g in graphs(top)]:
        tensors = list(getattr(graph, "initializer", ()))
        tensors += [a.t for n in graph.node if n.op_type == "Constant" for a in n.attribute if a.name == "value"]
        total += sum(int(np.prod(t.dims, dtype=np.int64)) for t in tensors if t.data_type in WEIGHTS)
    return total


def example(graph):
    """Inputs of the example's shapes."""
    random = np.random.default_rng(0)
    inputs = {}
    for entry in graph["inputs"]:
        shape, low, high = entry["example"], entry.get("low"), entry.get("high")
        if low is not None and entry["dtype"].startswith("int"):
            array = random.integers(low, high, shape)
        elif low is not None:
            array = random.uniform(low, high, shape)
        else:
            array = random.standard_normal(shape)
        if entry["dtype"] == "bfloat16":
            return None
        inputs[entry["name"]] = np.asarray(array).astype(entry["dtype"])
    return inputs


def runs(path, inputs):
    """Nothing where ONNX Runtime runs the file, else what it says."""
    if inputs is None:
        return None
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        wanted = {i.name for i in session.get_inputs()}
        session.run(None, {name: array for name, array in inputs.items() if name in wanted})
    except Exception as error:  # ONNX Runtime's errors share no base class
        return str(error).strip().splitlines()[0][:160]
    return None


def bounded(work, *arguments):
    """Runs a function in a process of its own: (its result, None) or (None, what went wrong)."""
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe(duplex=False)

    def child():
        sys.stdout = sys.stderr = open(os.devnull, "w")
        try:
            theirs.send((work(*arguments), None))
        except Exception as error:
            theirs.send((None, f"{type(error).__name__}: {str(error)[:160]}"))

    process = context.Process(target=child)
    process.start()
    theirs.close()
    try:
        return ours.recv() if ours.poll(SECONDS) else (None, f"no result after {SECONDS} s")
    except EOFError:
        return None, "the process died"
    finally:
        process.kill()
        process.join()


def peer(path, out):
    """onnxsim's result as a file; the parameters left, and which of its functions failed."""
    from onnxsim import pruning

    model = onnx.load(path)
    failed = []
    for name in PRUNINGS:
        try:
            model = getattr(pruning, name)(model, sparsity=0.5)
        except Exception as error:
            failed.append(f"{name}: {type(error).__name__}")
    onnx.save(model, out)
    return parameters(model), failed


def own(tool, path, out, fraction, units):
    """Parameters left by onnx-prune; (None, why) where it writes nothing."""
    command = [tool, path, "-o", out, "--target", f"params={fraction:.6f}", "--units", units]
    command += ["--score", "l2", "--no-verify", "--force"]
    try:
        done = subprocess.run([str(w) for w in command], capture_output=True, text=True, timeout=SECONDS, check=False)
    except subprocess.TimeoutExpired:
        return None, f"no result after {SECONDS} s"
    if not out.exists():
        # Where nothing can be removed, the file stays as it is.
        if "no group" in done.stdout + done.stderr:
            return parameters(onnx.load(path)), None
        return None, (done.stderr.strip().splitlines() or ["no message"])[-1][:160]
    return parameters(onnx.load(out)), None


def fill(name, path):
    sys.path.insert(0, str(CORPUS / "zoo"))
    import skeleton

    skeleton.write(skeleton.fill(skeleton.read(str(CORPUS / "zoo" / "graphs" / f"{name}.onnx.gz"))), str(path))
    return parameters(onnx.load(path))


def measure(tool, graph, folder):
    row = {"name": graph["name"]}
    path, theirs = folder / "model.onnx", folder / "onnxsim.onnx"
    row["params"], problem = bounded(fill, graph["name"], path)
    if problem:
        return {**row, "problem": problem}
    inputs = example(graph)
    if any(bounded(runs, path, inputs)):
        inputs = None  # What does not run before the cut says nothing afterwards.
    result, row["peer_problem"] = bounded(peer, path, theirs)
    fraction = 0.5
    if result:
        row["peer"], row["peer_failed"] = result
        fraction = min(fraction, row["peer"] / row["params"])
        (says, died) = bounded(runs, theirs, inputs)
        row["peer_problem"] = says or died
    for key, units in (("own", "channels,heads"), ("own_width", "channels,heads,width")):
        out = folder / f"{key}.onnx"
        row[key], row[f"{key}_problem"] = own(tool, path, out, fraction, units)
        if row[key] is not None and out.exists():
            (says, died) = bounded(runs, out, inputs)
            row[f"{key}_problem"] = says or died
    return row


def share(row, key):
    return f"{row[key] / row['params']:.3f}" if row.get(key) is not None else "–"


def page(rows):
    rows = [row for row in rows if row.get("params")]
    peers = [row for row in rows if row.get("peer") is not None]
    # A file with a fraction of one per cent more is what rounding widths leaves.
    more = [row for row in peers if row.get("own") is not None and row["own"] > row["peer"] + 0.01 * row["params"]]
    wider = [
        row for row in peers if row.get("own_width") is not None and row["own_width"] > row["peer"] + 0.01 * row["params"]
    ]
    untouched = [row for row in peers if row["peer"] == row["params"]]
    mean = lambda key: sum(row[key] / row["params"] for row in peers if row.get(key) is not None) / max(1, len(peers))
    lines = [
        "# Parameters left, beside onnxsim 0.8.1",
        "",
        "Every graph of the zoo, weights drawn at random. onnxsim gets each of its prunings of channels, heads and experts that",
        "need no data, at sparsity 0.5. onnx-prune is asked to leave half of the parameters, or as few as onnxsim leaves where",
        "that is less; with its default units, and with `width` (the residual stream of transformers, at a measured loss). A name",
        "with ! does not run in ONNX Runtime after the cut (maskrcnn's graph does not take it that nothing is found, and with",
        "such weights nothing is, whoever cut them). `python benches/onnxsim_on_zoo.py --tool target/release/onnx-prune` writes",
        "this page.",
        "",
        f"{len(rows)} graphs. onnxsim leaves {mean('peer'):.3f} of the parameters on average, {len(untouched)} graphs untouched"
        f" and {sum(bool(row.get('peer_problem')) for row in peers)} broken; onnx-prune leaves {mean('own'):.3f}"
        f" ({mean('own_width'):.3f} with `width`), {sum(bool(row.get('own_problem')) for row in rows)} broken."
        f" It leaves more than onnxsim on {len(more)} graphs ({len(wider)} with `width`).",
        "",
        "| graph | parameters | onnxsim | onnx-prune | with width |",
        "|---|---:|---:|---:|---:|",
    ]
    for row in rows:
        mark = lambda key: "!" if row.get(f"{key}_problem") else ""
        cells = [f"{share(row, key)}{mark(key)}" for key in ("peer", "own", "own_width")]
        lines.append(f"| {row['name']} | {row['params']} | " + " | ".join(cells) + " |")
    for title, found in (("More parameters left than by onnxsim", more),):
        lines += ["", f"## {title}", ""] + ([f"- {row['name']}" for row in found] or ["None."])
    return "\n".join(lines) + "\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tool", required=True, type=Path, help="the onnx-prune binary, a release build")
    parser.add_argument("--only", default="", help="parts of names, separated by commas")
    parser.add_argument("--fresh", action="store_true", help="measure again what is there already")
    arguments = parser.parse_args()
    import onnxsim.pruning  # noqa: F401, once, before any process is forked

    manifest = json.loads((CORPUS / "zoo" / "manifest.json").read_text())["graphs"]
    ROWS.parent.mkdir(parents=True, exist_ok=True)
    known = {}
    if ROWS.exists():
        known = {row["name"]: row for row in map(json.loads, ROWS.read_text().splitlines())}
    parts = [part for part in arguments.only.split(",") if part]
    for graph in manifest:
        name = graph["name"]
        if parts and not any(part in name for part in parts) or name in known and not arguments.fresh:
            continue
        with tempfile.TemporaryDirectory() as folder:
            row = measure(arguments.tool.resolve(), graph, Path(folder))
        known[name] = row
        with ROWS.open("a") as file:
            print(json.dumps(row), file=file)
        if row.get("params"):
            print(f"{name:56} {share(row, 'peer')} {share(row, 'own')} {share(row, 'own_width')}", end="  ")
        print(" ".join(str(value) for key, value in row.items() if "problem" in key and value), flush=True)
    PAGE.write_text(page([known[graph["name"]] for graph in manifest if graph["name"] in known]))


if __name__ == "__main__":
    main()
