"""How far a pruned model's outputs are from the masked original's, and those from the original's, in ONNX Runtime.

    python tests/compare_in_onnxruntime.py ORIGINAL.onnx MASKED.onnx PRUNED.onnx INPUTS.npz

Prints one line of JSON: {"error": …, "moved": …, "noise": …}, the last of which says how far apart two ways of running the
masked model are, or {"failed": [which model, what ONNX Runtime says]}. Where the masked and the pruned model fail alike (a
detector whose graph does not take it that nothing is found), what was worked out before that is compared instead: the last
products on the way to the node that fails, wherever the cut left them their shapes. Of what lies behind a hard choice
(which regions to look at, taken between numbers that are nearly the same) most rows must agree. "both" are at fault where
nothing can be compared. second_opinion.py --zoo calls this.
Needs numpy, onnx and onnxruntime.
"""

import json
import re
import sys

import numpy as np
import onnx
import onnxruntime

PRODUCTS = {"Conv", "ConvTranspose", "Gemm", "MatMul"}
CHOICES = {"NonMaxSuppression", "TopK"}


def run(model, inputs, optimized=True):
    options = onnxruntime.SessionOptions()
    if not optimized:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    wanted = {i.name for i in session.get_inputs()}
    outputs = session.run(None, {name: array for name, array in inputs.items() if name in wanted})
    return [np.asarray(output) for output in outputs if not isinstance(output, (dict, list))]


def reads(node):
    """The values that a node and its subgraphs read."""
    found = set(node.input)
    for attribute in node.attribute:
        for graph in [attribute.g, *attribute.graphs]:
            found.update(name for inner in graph.node for name in reads(inner))
    return found


def before(graph, name):
    """The results of the last products on the way to the node of this name, which may lie in a subgraph."""
    makers = {output: node for node in graph.node for output in node.output}
    holds = lambda node: node.name == name or any(holds(n) for a in node.attribute for g in [a.g, *a.graphs] for n in g.node)
    waiting, seen, found = [value for node in graph.node if holds(node) for value in reads(node)], set(), []
    while waiting:
        value = waiting.pop()
        if value in seen or value not in makers:
            continue
        seen.add(value)
        if makers[value].op_type in PRODUCTS:
            found.append(value)
        else:
            waiting += reads(makers[value])
    return found


def behind(graph, values):
    """The nodes that lead to these values, in order."""
    makers = {output: node for node in graph.node for output in node.output}
    waiting, needed = list(values), set()
    while waiting:
        node = makers.get(waiting.pop())
        if node is not None and id(node) not in needed:
            needed.add(id(node))
            waiting += reads(node)
    return [node for node in graph.node if id(node) in needed]


def ending_at(model, values):
    """The model that gives these values and computes nothing else."""
    nodes = behind(model.graph, values)
    del model.graph.output[:], model.graph.node[:]
    model.graph.node.extend(nodes)
    model.graph.output.extend(onnx.helper.make_tensor_value_info(value, onnx.TensorProto.FLOAT, None) for value in values)
    return model.SerializeToString()


def what_ran(paths, inputs, failure):
    """The error and the movement of what the three models work out before the node that fails; none where nothing can be told."""
    name = re.search(r"Name:'([^']+)'", failure)
    models = {which: onnx.load(path) for which, path in paths.items()}
    values = before(models["original"].graph, name.group(1)) if name else []
    for model in models.values():
        given = {output for node in model.graph.node for output in node.output}
        values = [value for value in values if value in given]
    if not values:
        return None
    chosen = [any(node.op_type in CHOICES for node in behind(models["original"].graph, [value])) for value in values]
    outputs = [run(ending_at(model, values), inputs) for model in models.values()]
    errors, moved = [], []
    for chosen, o, m, p in zip(chosen, *outputs):
        if o.size and m.size and m.shape == p.shape:
            rows = [distance(a, b, o) for a, b in zip(m, p)] if chosen else [distance(m, p, o)]
            errors.append(float(np.median(rows)))
            moved.append(distance(o, m, o))
    return (max(errors), max(moved)) if errors else None


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
    *models, data = sys.argv[1:]
    paths = dict(zip(("original", "masked", "pruned"), models))
    with np.load(data) as arrays:
        inputs = {name: arrays[name] for name in arrays.files}
    outputs, failed, noise = {}, {}, 0.0
    for which, path in paths.items():
        try:
            outputs[which] = run(path, inputs)
        except Exception as error:  # ONNX Runtime's errors share no base class
            failed[which] = str(error).strip().splitlines()[0]
    if failed:
        why = next(iter(failed.values()))
        alike = "original" not in failed and failed.get("masked") == failed.get("pruned")
        found = what_ran(paths, inputs, why) if alike else None
        if found is None:
            print(json.dumps({"failed": ["both" if alike else next(iter(failed)), why[:300]]}))
            return
        error, moved = found
    else:
        triples = list(zip(*(outputs[which] for which in paths)))
        error = max((distance(m, p, o) for o, m, p in triples), default=0.0)
        moved = max((distance(o, m, o) for o, m, p in triples), default=0.0)
        plain = run(paths["masked"], inputs, optimized=False)
        noise = max((distance(m, other, o) for (o, m, p), other in zip(triples, plain)), default=0.0)
        # A difference that is gone where every node is computed as it is written is rounding by the runtime's rewrites.
        cut = run(paths["pruned"], inputs, optimized=False) if noise else []
        error = min(error, max((distance(m, p, o) for (o, _, _), m, p in zip(triples, plain, cut)), default=error))
    # JSON has no infinity.
    print(json.dumps({"error": min(error, 1e30), "moved": min(moved, 1e30), "noise": min(noise, 1e30)}))


if __name__ == "__main__":
    main()
