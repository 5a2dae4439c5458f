//! Steps of training, which are operators of a preview domain.

use super::frozen::{FrozenOperator, outputs, unknown};
use super::{InferError, NodeView, Rule};
use crate::facts::Fact;

const STEP: &str = "a step of training";

const fn training(op_type: &'static str, operator: &'static FrozenOperator) -> Rule {
    Rule::of("ai.onnx.preview.training", op_type, operator)
}

/// Steps read a rate and a count, then lists of equally many tensors: those updated, their gradients, `states` more of each.
/// The updated tensors and their states come out.
fn step(node: &NodeView, states: usize) -> Result<Vec<Fact>, InferError> {
    let count = node.inputs.len().saturating_sub(2) / (states + 2);
    let updated = (0..count).map(|at| at + 2);
    let states = (0..count * states).map(|at| at + 2 + 2 * count);
    Ok(outputs(
        node,
        updated.chain(states).map(|at| {
            node.input(at)
                .cloned()
                .unwrap_or_default()
                .with_contents(None)
        }),
    ))
}

pub(super) static RULES: &[Rule] = &[
    training(
        "Adagrad",
        &FrozenOperator {
            reason: STEP,
            infer: |node| step(node, 1),
        },
    ),
    training(
        "Adam",
        &FrozenOperator {
            reason: STEP,
            infer: |node| step(node, 2),
        },
    ),
    training(
        "Gradient",
        &FrozenOperator {
            reason: STEP,
            infer: unknown,
        },
    ),
    training(
        "Momentum",
        &FrozenOperator {
            reason: STEP,
            infer: |node| step(node, 1),
        },
    ),
];

#[cfg(test)]
mod tests {
    use crate::ops::case::OpCase;

    #[test]
    fn shapes_go_on() {
        let adam = OpCase::op("Adam")
            .domain("ai.onnx.preview.training")
            .at(1)
            .outputs(3);
        adam.input("")
            .input("i64:")
            .input("3")
            .input("3")
            .input("3")
            .input("3")
            .expect_shapes("3 3 3");
    }
}
