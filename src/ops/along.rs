//! Operators that go along one axis and keep it: cumulative sums, and division by a norm.

use super::broadcast::broadcast;
use super::fit::unless_ranked;
use super::frozen::same;
use super::{InferError, NodeView, Operator, Rule};
use crate::facts::Fact;
use crate::relation::{Port, Reason, Relation, Term};

/// CumSum and CumProd: the axis is read in order.
struct Cumulative;

impl Operator for Cumulative {
    fn infer(&self, node: &NodeView) -> Result<Vec<Fact>, InferError> {
        same(node)
    }

    fn relate(&self, node: &NodeView) -> Relation {
        if let Some(frozen) = unless_ranked(node) {
            return frozen;
        }
        let dims = node.output_shape(0).unwrap_or_default();
        let axis = match node.numbers(1).as_deref() {
            Some([axis]) => NodeView::axis(*axis, dims.len()),
            _ => None,
        };
        let Some(axis) = axis else {
            return node.frozen(Reason::operator("axis known only at run time"));
        };
        let mut builder = node.relation();
        let labels = broadcast(
            &mut builder,
            dims,
            [(Port::In(0), "x"), (Port::Out(0), "y")],
        );
        if let Some(label) = labels.get(axis) {
            builder.fix(*label, Reason::operator("the axis is accumulated in order"));
        }
        builder.whole(Port::In(1), "axis", &Reason::operator("numbers of axes"));
        builder.finish()
    }

    fn shape_inputs(&self, _: &NodeView) -> Vec<u32> {
        vec![1]
    }
}

/// LpNormalization: divides by a norm, to which a zero adds nothing.
struct LpNormalization;

impl Operator for LpNormalization {
    fn infer(&self, node: &NodeView) -> Result<Vec<Fact>, InferError> {
        same(node)
    }

    fn relate(&self, node: &NodeView) -> Relation {
        if let Some(frozen) = unless_ranked(node) {
            return frozen;
        }
        let dims = node.output_shape(0).unwrap_or_default();
        let mut builder = node.relation();
        let labels = broadcast(
            &mut builder,
            dims,
            [(Port::In(0), "x"), (Port::Out(0), "y")],
        );
        let axis = NodeView::axis(node.int("axis").unwrap_or(-1), dims.len())
            .and_then(|axis| labels.get(axis).copied());
        let Some(axis) = axis else {
            return node.frozen(Reason::operator("an axis that does not exist"));
        };
        builder.term(Term {
            data: Port::In(0),
            weight: None,
            zero: None,
            labels,
            summed: vec![axis],
            window: None,
        });
        builder.finish()
    }
}

pub(super) static RULES: &[Rule] = &[
    Rule::onnx("CumSum", &Cumulative),
    Rule::onnx("CumProd", &Cumulative),
    Rule::onnx("LpNormalization", &LpNormalization).normalises(),
];

#[cfg(test)]
mod tests {
    use crate::ops::case::OpCase;

    #[test]
    fn axes_are_kept() {
        OpCase::op("CumSum")
            .input("2x8")
            .number(-1)
            .expect_shapes("2x8")
            .expect_relation("x[i, j] axis[] → y[i, j]");
        OpCase::op("LpNormalization")
            .input("2x8")
            .expect_shapes("2x8")
            .expect_relation("x[i, j] → y[i, j]  Σ j");
    }
}
