//! Operators of the preview domains: steps of training, and attention whose scores subgraphs change.

use super::frozen::{Frozen, outputs, unknown};
use super::{InferError, NodeView, Rule};
use crate::facts::Fact;

const STEP: &str = "a step of training";

const fn training(op_type: &'static str, operator: &'static Frozen) -> Rule {
    Rule { domain: "ai.onnx.preview.training", op_type, operator }
}

/// Steps read a rate and a count, then lists of equally many tensors: those updated, their gradients, `states` more of each.
/// The updated tensors and their states come out.
fn step(node: &NodeView, states: usize) -> Result<Vec<Fact>, InferError> {
    let count = node.inputs.len().saturating_sub(2) / (states + 2);
    let updated = (0..count).map(|at| at + 2);
    let states = (0..count * states).map(|at| at + 2 + 2 * count);
    Ok(outputs(node, updated.chain(states).map(|at| node.input(at).cloned().unwrap_or_default().with_contents(None))))
}

/// Queries of `[batch, heads, positions, width]` get the width of the values.
fn attended(node: &NodeView) -> Result<Vec<Fact>, InferError> {
    let shape = match (node.shape(0), node.shape(2)) {
        (Some([b, h, s, _]), Some([.., width])) => Some([b, h, s, width].map(Clone::clone).to_vec()),
        _ => None,
    };
    Ok(outputs(node, [Fact { dtype: node.dtype(0), shape, contents: None }]))
}

pub(super) static RULES: &[Rule] = &[
    training("Adagrad", &Frozen { reason: STEP, infer: |node| step(node, 1) }),
    training("Adam", &Frozen { reason: STEP, infer: |node| step(node, 2) }),
    training("Gradient", &Frozen { reason: STEP, infer: unknown }),
    training("Momentum", &Frozen { reason: STEP, infer: |node| step(node, 1) }),
    Rule {
        domain: "ai.onnx.preview",
        op_type: "FlexAttention",
        operator: &Frozen { reason: "subgraphs that may treat each head and position in its own way", infer: attended },
    },
];

#[cfg(test)]
mod tests {
    use crate::ops::prove::Prove;

    #[test]
    fn shapes_go_on() {
        let adam = Prove::op("Adam").domain("ai.onnx.preview.training").at(1).outputs(3);
        adam.input("").input("i64:").input("3").input("3").input("3").input("3").gives("3 3 3");
        let flex = Prove::op("FlexAttention").domain("ai.onnx.preview").at(1);
        flex.input("bx4xsx8").input("bx2xtx8").input("bx2xtx6").gives("bx4xsx6");
    }
}
