//! Sequences and optionals: no index is followed through them.

use super::Rule;
use super::frozen::{FrozenOperator, outputs, same, scalar, unknown};
use crate::proto::Dtype;

const HELD: &str = "a sequence holds the tensor";

static SEQUENCE: FrozenOperator = FrozenOperator {
    reason: HELD,
    infer: unknown,
};
static LENGTH: FrozenOperator = FrozenOperator {
    reason: HELD,
    infer: |node| Ok(outputs(node, [scalar(Dtype::Int64)])),
};
static OPTIONAL: FrozenOperator = FrozenOperator {
    reason: "an optional holds the tensor",
    infer: unknown,
};
/// Of a tensor that is no optional, the tensor itself.
static ELEMENT: FrozenOperator = FrozenOperator {
    reason: "an optional holds the tensor",
    infer: same,
};
static PRESENCE: FrozenOperator = FrozenOperator {
    reason: "an optional holds the tensor",
    infer: |node| Ok(outputs(node, [scalar(Dtype::Bool)])),
};

pub(super) static RULES: &[Rule] = &[
    Rule::onnx("ConcatFromSequence", &SEQUENCE),
    Rule::onnx("Optional", &OPTIONAL),
    Rule::onnx("OptionalGetElement", &ELEMENT),
    Rule::onnx("OptionalHasElement", &PRESENCE),
    Rule::onnx("SequenceAt", &SEQUENCE),
    Rule::onnx("SequenceConstruct", &SEQUENCE),
    Rule::onnx("SequenceEmpty", &SEQUENCE),
    Rule::onnx("SequenceErase", &SEQUENCE),
    Rule::onnx("SequenceInsert", &SEQUENCE),
    Rule::onnx("SequenceLength", &LENGTH),
    Rule::onnx("SequenceMap", &SEQUENCE),
];

#[cfg(test)]
mod tests {
    use crate::ops::case::OpCase;

    #[test]
    fn only_counts_are_known() {
        OpCase::op("SequenceLength").input("2x3").expect_shapes("");
        OpCase::op("SequenceConstruct")
            .input("2x3")
            .input("2x3")
            .expect_shapes("?")
            .expect_relation("input 0[2, 3] input 1[2, 3]");
        OpCase::op("OptionalGetElement")
            .input("2x3")
            .expect_shapes("2x3");
    }
}
