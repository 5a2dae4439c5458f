"""Writes the backend node tests of the onnx package as files, for `cargo test node_tests`.

    python tests/node_tests.py FOLDER

One folder per test: model.onnx, and test_data_set_0 with input_I.pb and output_I.pb as in the ONNX repository
(TensorProto, SequenceProto or OptionalProto). The wheel holds only the code that makes them.
Needs numpy and onnx.
"""

import argparse
import shutil
import sys
import warnings
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper
from onnx.backend.test.case.node import collect_testcases

WRITERS = {
    "map_type": numpy_helper.from_dict,
    "sequence_type": numpy_helper.from_list,
    "optional_type": numpy_helper.from_optional,
    "tensor_type": lambda value, name: numpy_helper.from_array(np.asarray(value), name),
}


def message(value, info):
    if isinstance(value, TensorProto):
        return value
    return WRITERS[info.type.WhichOneof("value")](value, info.name)


def write(case, folder):
    folder.mkdir(parents=True)
    (folder / "model.onnx").write_bytes(case.model.SerializeToString(deterministic=True))
    for number, (inputs, outputs) in enumerate(case.data_sets):
        tests = folder / f"test_data_set_{number}"
        tests.mkdir()
        for kind, values, infos in (("input", inputs, case.model.graph.input), ("output", outputs, case.model.graph.output)):
            for at, (value, info) in enumerate(zip(values, infos, strict=True)):
                (tests / f"{kind}_{at}.pb").write_bytes(message(value, info).SerializeToString(deterministic=True))


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("folder", type=Path)
    folder = arguments.parse_args().folder
    # What the tests do with numbers that overflow is their business.
    warnings.simplefilter("ignore")
    np.random.seed(0)
    cases = collect_testcases()
    if folder.exists():
        if any(entry.is_file() for entry in folder.iterdir()):
            sys.exit(f"{folder} holds files of its own; give another folder")
        shutil.rmtree(folder)
    for case in cases:
        write(case, folder / case.name)
    print(f"{len(cases)} node tests of onnx {onnx.__version__} in {folder}")


if __name__ == "__main__":
    main()
