//! Convolutions at offsets that the model computes.

use super::conv::{OFFSET, PLAIN};
use super::operand;
use super::{Cut, InferError, NodeEdit, NodeView, Operator, RewriteError, Rule};
use crate::facts::Fact;
use crate::relation::{LabelId, Port, Reason, Relation};

/// A convolution whose samples are taken at offsets that the model computes.
struct DeformConv;

impl Operator for DeformConv {
    fn infer(&self, node: &NodeView) -> Result<Vec<Fact>, InferError> {
        PLAIN.infer(node)
    }

    fn relate(&self, node: &NodeView) -> Relation {
        operand::describe_or_freeze(node, |node, builder| {
            let at = OFFSET.operands(node).ok().flatten()?;
            let labels = OFFSET.labels(node, builder, &at)?;
            OFFSET.describe(node, builder, &at, &labels)?;
            // Offsets move the samples of each window: no grid of windows describes what is multiplied.
            let mut term = OFFSET.term(node, &at, &labels);
            if let Some(window) = &mut term.window {
                window.pads.clear();
            }
            builder.term(term);
            if node.int("offset_group").unwrap_or(1) != 1 {
                let reason = Reason::operator("channels in offset groups");
                builder.fix(labels.g, reason.clone());
                builder.fix(labels.i, reason);
            }
            let offsets = Reason::operator("sampling offsets");
            for (input, name) in [(2, "offset"), (4, "mask")] {
                let Some([_, per_place, ..]) = node.shape(input) else {
                    continue;
                };
                let axis = builder.fixed("d", per_place.clone(), offsets.clone());
                let axes: Vec<LabelId> = [labels.b, axis]
                    .into_iter()
                    .chain(labels.t.iter().copied())
                    .collect();
                builder.port(Port::In(input as u32), name, axes);
            }
            Some(())
        })
    }

    fn rewrite(&self, node: &NodeView, cut: &Cut, edit: &mut NodeEdit) -> Result<(), RewriteError> {
        PLAIN.rewrite(node, cut, edit)
    }
}

pub(super) static RULES: &[Rule] = &[Rule::onnx("DeformConv", &DeformConv)];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::case::OpCase;

    #[test]
    fn offset_groups_fix_the_channels() {
        let start = OpCase::op("DeformConv")
            .input("1x4x5x5")
            .weight("6x4x3x3")
            .input("1x36x3x3")
            .int("offset_group", 2);
        let relation = start.view(|view| DeformConv.relate(view));
        let fixed = |name| {
            matches!(
                relation.label(relation.named(name).unwrap()).fate,
                crate::relation::Fate::Fixed(_)
            )
        };
        assert!(fixed("g") && fixed("i") && !fixed("o"));
    }
}
