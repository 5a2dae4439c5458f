"""Checks a sparse model against its plan and pattern, with onnx and numpy alone.

    python tests/masks.py ORIGINAL.onnx SPARSE.onnx PLAN.json [--sparsity X] [--run]

Every weight that the plan says is zero is (of quantized ones: is the zero point); every mask obeys the pattern along the
axis of the input channels; with --sparsity the share over all masks is X to 0.1 %; what the plan does not name and is no
bias is as it was; `onnx.checker` takes the file. With --run ONNX Runtime loads it. Knows Conv, Gemm, MatMul (and
DequantizeLinear, also in blocks, Transpose, Identity before their weights) and MatMulNBits by itself. Prints a line; exit code 1 where something is wrong.
"""
import argparse
import base64
import hashlib
import json
import sys

import numpy as np
import onnx
from onnx import numpy_helper


def constants(model):
    """Dense arrays by name, sparse initializers included."""
    found = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    for sparse in model.graph.sparse_initializer:
        values, indices = numpy_helper.to_array(sparse.values), numpy_helper.to_array(sparse.indices)
        dense = np.zeros(int(np.prod(sparse.dims)), values.dtype)
        dense[indices] = values
        found[sparse.values.name] = dense.reshape(tuple(sparse.dims))
    for node in model.graph.node:
        if node.op_type == "Constant" and node.attribute[0].name == "value":
            found[node.output[0]] = numpy_helper.to_array(node.attribute[0].t)
    return found


def attribute(node, name, default):
    return next((onnx.helper.get_attribute_value(a) for a in node.attribute if a.name == name), default)


def zero_points(model, arrays):
    """For quantized weights what stands for zero, broadcast to the weight."""
    found = {}
    for node in model.graph.node:
        if node.op_type == "DequantizeLinear" and node.input[0] in arrays:
            weight = arrays[node.input[0]]
            zero = arrays[node.input[2]] if len(node.input) > 2 and node.input[2] else np.zeros((), weight.dtype)
            size = attribute(node, "block_size", 0)
            if size and zero.ndim == weight.ndim:
                axis = attribute(node, "axis", 1)
                zero = np.take(np.repeat(zero, size, axis), range(weight.shape[axis]), axis)
            elif zero.size > 1:
                shape = [1] * weight.ndim
                shape[attribute(node, "axis", 1)] = -1
                zero = zero.reshape(shape)
            found[node.input[0]] = np.broadcast_to(zero, weight.shape)
    return found


def numbers_of(data, count, bits):
    """The first numbers of each row of bytes, the low bits first."""
    each = np.arange(count)
    return data[:, each * bits // 8] >> (each * bits % 8).astype(np.uint8) & ((1 << bits) - 1)


def unpacked(model, arrays):
    """The weights of MatMulNBits as N x K numbers, and what stands for zero, by name."""
    found = {}
    for node in model.graph.node:
        if node.op_type != "MatMulNBits" or node.input[1] not in arrays:
            continue
        rows, count, size = (attribute(node, name, None) for name in ("N", "K", "block_size"))
        bits, blocks = attribute(node, "bits", 4), -(-count // size)
        data = arrays[node.input[1]].reshape(rows * blocks, -1)
        numbers = numbers_of(data, size, bits).reshape(rows, blocks * size)[:, :count]
        zero = np.full((rows, blocks), 1 << bits - 1)
        if len(node.input) > 3 and node.input[3]:
            zero = arrays[node.input[3]]
            zero = numbers_of(zero.reshape(rows, -1), blocks, bits) if zero.dtype == np.uint8 else zero.reshape(rows, blocks)
        found[node.input[1]] = numbers, np.repeat(zero, size, 1)[:, :count]
    return found


def readers(model, name):
    """The node that reads a weight in the end, and the permutation of its axes on the way; None where another does."""
    order = None
    for _ in range(8):
        reader = next((node for node in model.graph.node if name in node.input), None)
        if reader is None:
            return None
        if reader.op_type == "Transpose":
            order = list(attribute(reader, "perm", None) or [])
        elif reader.op_type not in ("DequantizeLinear", "Identity"):
            return reader, list(reader.input).index(name), order
        name = reader.output[0]
    return None


def as_matrix(mask, node, slot):
    """(outputs, inputs, taps) of a weight's mask; None for operators not known here."""
    if node.op_type == "Conv" and slot == 1:
        return mask.reshape(mask.shape[0], mask.shape[1], -1)
    if node.op_type == "Gemm" and slot == 1:
        mask = mask if attribute(node, "transB", 0) else mask.T
        return mask[:, :, None]
    if node.op_type == "MatMulNBits" and slot == 1:
        return mask[:, :, None]
    if node.op_type == "MatMul" and slot == 1 and mask.ndim == 2:
        return mask.T[:, :, None]
    return None


def obeys(gone, pattern):
    outputs, inputs, taps = gone.shape
    if pattern == "none":
        return True
    if pattern == "kernel":
        return bool((gone.all(2) == gone.any(2)).all())
    if ":" in pattern:
        keep, of = map(int, pattern.split(":"))
        return inputs % of == 0 and int((~gone).reshape(outputs, inputs // of, of, taps).sum(2).max()) <= keep
    rows, channels = map(int, pattern.split("x"))
    blocks = (gone[r:r + rows, c:c + channels, t] for r in range(0, outputs, rows) for c in range(0, inputs, channels) for t in range(taps))
    return all(block.all() == block.any() for block in blocks)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("original")
    parser.add_argument("sparse")
    parser.add_argument("plan")
    parser.add_argument("--sparsity", type=float)
    parser.add_argument("--run", action="store_true")
    arguments = parser.parse_args()
    onnx.checker.check_model(arguments.sparse)
    plan = json.load(open(arguments.plan))
    # Where units went whole, too, the original is what that left.
    plan = plan.get("zeros", plan)
    before, after = onnx.load(arguments.original), onnx.load(arguments.sparse)
    old, new = constants(before), constants(after)
    zero_of, wrong, matrices = zero_points(before, old), [], 0
    packed_of = unpacked(after, new)
    gone_in_all = total = 0
    for entry in plan["masks"]:
        name, packed = entry["value"], base64.b64decode(entry["mask"])
        if hashlib.sha256(packed).hexdigest() != entry["digest"]:
            wrong.append(f"{name}: digest")
        gone = np.unpackbits(np.frombuffer(packed, np.uint8), bitorder="little")[:entry["elements"]].astype(bool)
        weight, zero = packed_of.get(name) or (new[name], zero_of.get(name, np.zeros((), new[name].dtype)))
        gone = gone.reshape(weight.shape)
        if int(gone.sum()) != entry["zeros"]:
            wrong.append(f"{name}: {int(gone.sum())} bits, {entry['zeros']} zeros")
        if not (weight == zero)[gone].all():
            wrong.append(f"{name}: weights that should be zero are not")
        gone_in_all, total = gone_in_all + int(gone.sum()), total + gone.size
        if (reader := readers(before, name)) is not None:
            node, slot, order = reader
            matrix = as_matrix(gone if order is None else gone.transpose(order), node, slot)
            if matrix is not None:
                matrices += 1
                group = attribute(node, "group", 1) if node.op_type == "Conv" else 1
                step = matrix.shape[0] // group
                if not all(obeys(matrix[g * step:(g + 1) * step], plan["pattern"]) for g in range(group)):
                    wrong.append(f"{name}: the mask does not obey {plan['pattern']}")
    masked = {entry["value"] for entry in plan["masks"]}
    for name, array in old.items():
        same = name in new and new[name].shape == array.shape and new[name].dtype == array.dtype
        small = array.ndim <= 1 or array.size == max(array.shape)
        if not same:
            wrong.append(f"{name}: another type or shape")
        # A weight without a mask may be fitted; integers that are no weights may not change.
        elif name not in masked and not small and np.issubdtype(array.dtype, np.integer) and array.dtype.itemsize > 1 \
                and not np.array_equal(array, new[name]):
            wrong.append(f"{name}: changed")
    share = gone_in_all / max(total, 1)
    if arguments.sparsity is not None and abs(share - arguments.sparsity) > 1e-3:
        wrong.append(f"{share:.5f} of the weights are zero instead of {arguments.sparsity}")
    if arguments.run:
        import onnxruntime
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        onnxruntime.InferenceSession(arguments.sparse, options, providers=["CPUExecutionProvider"])
    print(f"{len(plan['masks'])} masks, {matrices} held against {plan['pattern']}, {share:.5f} zero" + "".join(f"\n{line}" for line in wrong))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
