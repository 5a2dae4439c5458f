"""Prints every operator that the onnx package defines: domain, name, and the versions since which each definition holds.

    python tests/operators.py > tests/operators.txt

`cargo test --test all operators` holds the registry against that list. Needs onnx.
"""

from collections import defaultdict

import onnx
from onnx import defs


def main():
    versions = defaultdict(list)
    for schema in defs.get_all_schemas_with_history():
        versions[schema.domain or "ai.onnx", schema.name].append(schema.since_version)
    print(f"# onnx {onnx.__version__}, opset {defs.onnx_opset_version()}")
    for (domain, name), since in sorted(versions.items()):
        print(domain, name, *sorted(since))


if __name__ == "__main__":
    main()
