//! Losses of training graphs: a class is a number that the targets name, so classes stay.

use super::frozen::{FrozenOperator, outputs};
use super::{InferError, NodeView, Rule};
use crate::facts::{Dim, Fact};

/// One number per target, or one for all; and, from the softmax, its logarithm.
fn losses(node: &NodeView) -> Result<Vec<Fact>, InferError> {
    let shape = match node.string("reduction") {
        Some("none") => node.shape(1).map(<[Dim]>::to_vec),
        _ => Some(Vec::new()),
    };
    let logarithm = Fact {
        contents: None,
        ..node.input(0).cloned().unwrap_or_default()
    };
    Ok(outputs(
        node,
        [
            Fact {
                dtype: node.dtype(0),
                shape,
                contents: None,
            },
            logarithm,
        ],
    ))
}

static LOSS: FrozenOperator = FrozenOperator {
    reason: "targets name the classes by number",
    infer: losses,
};

pub(super) static RULES: &[Rule] = &[
    Rule::onnx("NegativeLogLikelihoodLoss", &LOSS),
    Rule::onnx("SoftmaxCrossEntropyLoss", &LOSS),
];

#[cfg(test)]
mod tests {
    use crate::ops::case::OpCase;

    #[test]
    fn reduced_or_not() {
        OpCase::op("NegativeLogLikelihoodLoss")
            .input("nx10x7")
            .input("i64:nx7")
            .expect_shapes("");
        OpCase::op("SoftmaxCrossEntropyLoss")
            .text("reduction", "none")
            .outputs(2)
            .input("nx10")
            .input("i64:n")
            .expect_shapes("n nx10");
    }
}
