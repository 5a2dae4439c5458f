"""Prints every operator that the onnx package defines, and those of ONNX Runtime's own domain: domain, name, and the versions
since which each definition holds.

    python tests/operators.py > tests/operators.txt

`cargo test --test all operators` holds the registry against that list. Needs onnx and onnxruntime.
"""

from collections import defaultdict

import onnx
import onnxruntime
from onnx import defs
from onnxruntime.capi.onnxruntime_pybind11_state import get_all_operator_schema


def main():
    versions = defaultdict(list)
    for schema in defs.get_all_schemas_with_history():
        versions[schema.domain or "ai.onnx", schema.name].append(schema.since_version)
    for schema in get_all_operator_schema():
        if schema.domain == "com.microsoft":
            versions[schema.domain, schema.name].append(schema.since_version)
    print(f"# onnx {onnx.__version__}, opset {defs.onnx_opset_version()}; onnxruntime {onnxruntime.__version__}")
    for (domain, name), since in sorted(versions.items()):
        print(domain, name, *sorted(since))


if __name__ == "__main__":
    main()
