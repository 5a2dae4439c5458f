//! Operators that combine the entries along axes into one: sums, means, extremes, norms.

use super::arithmetic::{self as math, Compute};
use super::broadcast::axis_name;
use super::constant;
use super::fit::unless_ranked;
use super::meaning::{Decides, Flow};
use super::{Cut, InferError, NodeEdit, NodeView, Operator, RewriteError, Rule};
use crate::facts::{Contents, Dim, Element, Fact};
use crate::proto::Dtype;
use crate::relation::{Fate, LabelId, Port, Reason, Relation, Term};

/// What becomes of the others when an entry of a reduced axis goes.
enum Reduction {
    /// Nothing: it is a sum, and a zero adds nothing.
    Sum,
    /// The result is over fewer entries.
    Lossy,
    /// Positions in the axis are the result.
    Position,
}

/// Reduce… and ArgMax, ArgMin.
struct Reduce {
    kind: Reduction,
    /// How two elements combine, where contents are followed.
    combine: Option<Compute>,
}

/// A sum of squares, absolute values and the like.
const NORM: Reduce = Reduce {
    kind: Reduction::Sum,
    combine: None,
};
/// A statistic whose result depends on how many entries there are.
const LOSSY: Reduce = Reduce {
    kind: Reduction::Lossy,
    combine: None,
};
/// The place of an extreme.
const POSITION: Reduce = Reduce {
    kind: Reduction::Position,
    combine: None,
};

impl Reduce {
    /// The reduced axes, ascending; `None` when they are not known.
    fn axes(&self, node: &NodeView, rank: usize) -> Result<Option<Vec<bool>>, InferError> {
        let given = match self.kind {
            Reduction::Position => Some(vec![node.int("axis").unwrap_or(0)]),
            _ => match node.ints_or_input("axes", 1) {
                Ok(axes) => axes,
                Err(()) => return Ok(None),
            },
        };
        let noop = node.int("noop_with_empty_axes").unwrap_or(0) != 0;
        match given {
            Some(axes) if !axes.is_empty() => {
                let mut reduced = vec![false; rank];
                for axis in axes {
                    let error = || InferError(format!("axis {axis} of a tensor of {rank} axes"));
                    *reduced
                        .get_mut(NodeView::axis(axis, rank).ok_or_else(error)?)
                        .ok_or_else(error)? = true;
                }
                Ok(Some(reduced))
            }
            _ => Ok(Some(vec![!noop; rank])),
        }
    }

    fn contents(&self, node: &NodeView, reduced: &[bool]) -> Option<Contents> {
        let combine = self.combine?;
        let elements = &node.contents(0)?.0;
        let extents: Vec<usize> = node
            .shape(0)?
            .iter()
            .map(Dim::count)
            .collect::<Option<_>>()?;
        let kept = |(axis, extent): (usize, &usize)| {
            if reduced.get(axis) == Some(&true) {
                1
            } else {
                *extent
            }
        };
        let count = extents
            .iter()
            .enumerate()
            .map(kept)
            .try_fold(1usize, usize::checked_mul)?;
        let mut results: Vec<Option<Element>> = vec![
            None;
            if count <= Contents::LIMIT {
                count
            } else {
                return None;
            }
        ];
        for (position, element) in elements.iter().enumerate() {
            let (mut rest, mut place, mut stride) = (position, 0, 1);
            for (extent, reduced) in extents.iter().zip(reduced).rev() {
                if !reduced {
                    place += rest.checked_rem(*extent)? * stride;
                    stride *= extent;
                }
                rest = rest.checked_div(*extent)?;
            }
            let result = results.get_mut(place)?;
            *result = Some(match result.take() {
                Some(so_far) => combine(node, &[so_far, element.clone()]),
                None => element.clone(),
            });
        }
        Contents::new(results.into_iter().collect::<Option<_>>()?)
    }
}

fn keeps_dims(node: &NodeView) -> bool {
    node.int("keepdims").unwrap_or(1) != 0
}

impl Operator for Reduce {
    fn infer(&self, node: &NodeView) -> Result<Vec<Fact>, InferError> {
        let dtype = if matches!(self.kind, Reduction::Position) {
            Some(Dtype::Int64)
        } else {
            node.dtype(0)
        };
        let Some(shape) = node.shape(0) else {
            return Ok(vec![Fact {
                dtype,
                ..Fact::default()
            }]);
        };
        let Some(reduced) = self.axes(node, shape.len())? else {
            let unknown = keeps_dims(node)
                .then(|| (0..shape.len()).map(|axis| node.unknown(0, axis)).collect());
            return Ok(vec![Fact {
                dtype,
                shape: unknown,
                contents: None,
            }]);
        };
        let keep = keeps_dims(node);
        let axes = shape
            .iter()
            .zip(&reduced)
            .filter(|(_, reduced)| keep || !**reduced);
        let dims = axes
            .map(|(dim, reduced)| if *reduced { Dim::Num(1) } else { dim.clone() })
            .collect();
        Ok(vec![
            Fact::new(dtype, dims).with_contents(self.contents(node, &reduced)),
        ])
    }

    fn relate(&self, node: &NodeView) -> Relation {
        if let Some(frozen) = unless_ranked(node) {
            return frozen;
        }
        let shape = node.shape(0).unwrap_or_default();
        let Ok(Some(reduced)) = self.axes(node, shape.len()) else {
            return node.frozen(Reason::operator("axes known only at run time"));
        };
        let mut builder = node.relation();
        let fate = |reduced: bool| match self.kind {
            _ if !reduced => Fate::Free,
            Reduction::Sum => Fate::Free,
            // What is zero adds nothing to a mean of magnitudes, which then only has to count as many entries as before.
            Reduction::Lossy if mean_of_magnitudes(node) => Fate::Free,
            Reduction::Lossy => Fate::Lossy(Reason::operator("a statistic over fewer entries")),
            Reduction::Position => {
                Fate::Fixed(Reason::operator("positions along the axis are the result"))
            }
        };
        let labels: Vec<LabelId> = shape
            .iter()
            .zip(&reduced)
            .enumerate()
            .map(|(axis, (dim, reduced))| {
                builder.label(axis_name(axis), dim.clone(), fate(*reduced))
            })
            .collect();
        let mut result = Vec::new();
        let mut summed = Vec::new();
        for (label, reduced) in labels.iter().zip(&reduced) {
            match reduced {
                false => result.push(*label),
                true => {
                    summed.push(*label);
                    result.extend(keeps_dims(node).then(|| builder.fill(Dim::Num(1))));
                }
            }
        }
        builder.port(Port::In(0), "x", labels.clone());
        builder.whole(Port::In(1), "axes", &Reason::operator("numbers of axes"));
        builder.port(Port::Out(0), "y", result);
        if (matches!(self.kind, Reduction::Sum) || mean_of_magnitudes(node)) && !summed.is_empty() {
            builder.term(Term {
                data: Port::In(0),
                weight: None,
                zero: None,
                labels,
                summed,
                window: None,
            });
        }
        builder.finish()
    }

    fn rewrite(&self, node: &NodeView, cut: &Cut, edit: &mut NodeEdit) -> Result<(), RewriteError> {
        if !mean_of_magnitudes(node) {
            return Ok(());
        }
        let mut ratio = 1.0;
        for label in cut
            .relation
            .terms
            .iter()
            .flat_map(|term| &term.summed)
            .filter(|label| cut.kept(**label).is_some())
        {
            let extents = cut
                .relation
                .label(*label)
                .extent
                .num()
                .zip(cut.extent(*label).num());
            let (before, after) = extents
                .filter(|(_, after)| *after > 0)
                .ok_or_else(|| RewriteError("a mean over an unknown count".into()))?;
            ratio *= after as f64 / before as f64;
        }
        if ratio < 1.0 {
            edit.scale_result(ratio);
        }
        Ok(())
    }

    fn shape_inputs(&self, _: &NodeView) -> Vec<u32> {
        vec![1]
    }
}

fn mean_of_magnitudes(node: &NodeView) -> bool {
    node.magnitudes && node.node.op_type() == "ReduceMean"
}

/// Global pools: every spatial axis becomes one entry.
struct GlobalPool;

impl Operator for GlobalPool {
    fn infer(&self, node: &NodeView) -> Result<Vec<Fact>, InferError> {
        super::operand::at_least(node, 0, 2)?;
        let dims = node.shape(0).map(|shape| {
            shape
                .iter()
                .enumerate()
                .map(|(axis, dim)| if axis < 2 { dim.clone() } else { Dim::Num(1) })
                .collect()
        });
        Ok(vec![Fact {
            dtype: node.dtype(0),
            shape: dims,
            contents: None,
        }])
    }

    fn relate(&self, node: &NodeView) -> Relation {
        if let Some(frozen) = unless_ranked(node) {
            return frozen;
        }
        let mut builder = node.relation();
        let (mut from, mut to) = (Vec::new(), Vec::new());
        for (axis, dim) in node.shape(0).unwrap_or_default().iter().enumerate() {
            if axis < 2 {
                let label = builder.free(["b", "c"][axis], dim.clone());
                from.push(label);
                to.push(label);
            } else {
                from.push(builder.fixed("s", dim.clone(), Reason::operator("spatial positions")));
                to.push(builder.fill(Dim::Num(1)));
            }
        }
        builder.port(Port::In(0), "x", from);
        builder.port(Port::Out(0), "y", to);
        builder.finish()
    }
}

pub(super) static RULES: &[Rule] = &[
    Rule::onnx(
        "ReduceSum",
        &Reduce {
            kind: Reduction::Sum,
            combine: Some(math::add),
        },
    )
    .reduces(),
    Rule::onnx("ReduceSumSquare", &NORM)
        .reduces()
        .flow(Flow::Magnitude),
    Rule::onnx("ReduceL1", &NORM)
        .reduces()
        .flow(Flow::Magnitude),
    Rule::onnx("ReduceL2", &NORM)
        .reduces()
        .flow(Flow::Magnitude),
    Rule::onnx("ReduceMean", &LOSSY)
        .reduces()
        .flow(Flow::Averaged),
    Rule::onnx(
        "ReduceMax",
        &Reduce {
            kind: Reduction::Lossy,
            combine: Some(math::max),
        },
    )
    .reduces()
    .flow(Flow::Extreme),
    Rule::onnx(
        "ReduceMin",
        &Reduce {
            kind: Reduction::Lossy,
            combine: Some(math::min),
        },
    )
    .reduces()
    .flow(Flow::Extreme),
    Rule::onnx(
        "ReduceProd",
        &Reduce {
            kind: Reduction::Lossy,
            combine: Some(math::mul),
        },
    )
    .reduces(),
    Rule::onnx("ReduceLogSum", &NORM).reduces(),
    Rule::onnx("ReduceLogSumExp", &LOSSY).reduces(),
    Rule::onnx("ArgMax", &POSITION).chooses(Decides::Always),
    Rule::onnx("ArgMin", &POSITION).chooses(Decides::Always),
    Rule::onnx("GlobalAveragePool", &GlobalPool).constant(constant::same),
    Rule::onnx("GlobalMaxPool", &GlobalPool).constant(constant::same),
    Rule::onnx("GlobalLpPool", &GlobalPool).constant(constant::zero),
];

#[cfg(test)]
mod tests {
    use crate::facts::Dim;
    use crate::ops::case::OpCase;

    #[test]
    fn axes_come_as_attribute_or_input() {
        let old = OpCase::op("ReduceSum")
            .at(11)
            .ints("axes", &[-1])
            .input("bx8x5");
        old.expect_shapes("bx8x1")
            .expect_relation("x[i, j, k] → y[i, j, 1]  Σ k");
        let new = OpCase::op("ReduceSum")
            .at(13)
            .int("keepdims", 0)
            .input("bx8x5")
            .list(&[1]);
        new.expect_shapes("bx5")
            .expect_relation("x[i, j, k] axes[1] → y[i, k]  Σ j");
        OpCase::op("ReduceMean")
            .at(18)
            .input("2x8x5x5")
            .list(&[2, 3])
            .expect_shapes("2x8x1x1")
            .expect_relation("x[i, j, k, l] axes[2] → y[i, j, 1, 1]");
        OpCase::op("ReduceMax")
            .int("keepdims", 0)
            .input("2x8")
            .expect_shapes("")
            .expect_relation("x[i, j] → y[]");
        OpCase::op("ReduceL2")
            .int("noop_with_empty_axes", 1)
            .input("2x8")
            .expect_shapes("2x8")
            .expect_relation("x[i, j] → y[i, j]");
    }

    #[test]
    fn axes_that_are_not_known_freeze() {
        OpCase::op("ReduceSum")
            .input("2x8")
            .input("i64:1")
            .expect_shapes("?out0.0x?out0.1")
            .expect_relation("input 0[2, 8] input 1[1] → output 0[?out0.0, ?out0.1]");
    }

    #[test]
    fn positions_are_not_renumbered() {
        OpCase::op("ArgMax")
            .int("axis", 1)
            .int("keepdims", 0)
            .input("bx10")
            .expect_shapes("b")
            .expect_relation("x[i, j] → y[i]");
        OpCase::op("GlobalAveragePool")
            .input("bx8x5x4")
            .expect_shapes("bx8x1x1")
            .expect_relation("x[b, c, s, s2] → y[b, c, 1, 1]");
    }

    #[test]
    fn extents_are_reduced() {
        let b = Dim::symbol("b");
        let product = OpCase::op("ReduceProd")
            .int("keepdims", 0)
            .computed(&[b.clone(), Dim::Num(3), Dim::Num(2)])
            .facts();
        assert_eq!(
            product[0].contents.as_ref().unwrap().dims().unwrap(),
            [&b * &Dim::Num(6)]
        );
        OpCase::op("ReduceSum").list(&[4, 5]).expect_contents(&[9]);
        OpCase::op("ReduceMin")
            .list(&[4, -5])
            .expect_contents(&[-5]);
    }
}
