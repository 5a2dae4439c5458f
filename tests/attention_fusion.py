"""Whether ONNX Runtime still fuses the attention of a pruned transformer.

    python tests/attention_fusion.py ORIGINAL.onnx PRUNED.onnx --heads 12 --hidden 384

Runs onnxruntime.transformers' optimizer on both models and counts the fused nodes. Fails if the pruned model has fewer fused
attention nodes than the original, or if it computes something else when fused. Needs onnx and onnxruntime.
"""
import argparse
import collections
import os
import sys
import tempfile

import numpy as np
import onnx
import onnxruntime
from onnxruntime.transformers import optimizer
from onnxruntime.transformers.fusion_options import FusionOptions

FUSED = ("Attention", "MultiHeadAttention", "QAttention", "PackedAttention", "PackedMultiHeadAttention")


def fuse(path, arguments, folder):
    """The path of the fused model and how often each operator of ONNX Runtime's own stands in it."""
    options = FusionOptions("bert")
    options.use_raw_attention_mask(True)
    fused = optimizer.optimize_model(path, "bert", num_heads=arguments.heads, hidden_size=arguments.hidden, opt_level=0,
                                     optimization_options=options)
    target = os.path.join(folder, "fused.onnx")
    fused.save_model_to_file(target)
    nodes = onnx.load(target).graph.node
    return target, collections.Counter(node.op_type for node in nodes if node.domain == "com.microsoft")


def outputs(path, seed=0):
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    numbers = np.random.default_rng(seed)
    feed = {}
    for given in session.get_inputs():
        shape = [dim if isinstance(dim, int) else 2 + at * 14 for at, dim in enumerate(given.shape)]
        ones = "mask" in given.name
        if "int" in given.type:
            feed[given.name] = (np.ones(shape) if ones else numbers.integers(0, 2, shape)).astype(
                "int64" if "64" in given.type else "int32")
        else:
            feed[given.name] = numbers.standard_normal(shape).astype("float32")
    return session.run(None, feed)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("original")
    parser.add_argument("pruned")
    parser.add_argument("--heads", type=int, required=True)
    parser.add_argument("--hidden", type=int, required=True)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        _, before = fuse(arguments.original, arguments, folder)
        path, after = fuse(arguments.pruned, arguments, folder)
        plain, fused = outputs(arguments.pruned), outputs(path)
    apart = max(np.abs(one - two).max() / max(np.abs(one).max(), 1e-12) for one, two in zip(plain, fused))
    print(f"original: {dict(before)}\npruned:   {dict(after)}\npruned against itself fused: {apart:.1e}")
    count = lambda found: sum(found[name] for name in FUSED)
    if count(before) == 0:
        print("the original has no attention that is fused, so there is nothing to compare")
        return 2
    return 0 if count(after) >= count(before) and apart < 1e-3 else 1


if __name__ == "__main__":
    sys.exit(main())
