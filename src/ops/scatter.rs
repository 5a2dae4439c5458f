//! Operators that write entries at given positions, or turn positions into entries.

use super::axes::{Letters, axis_attribute, axis_number, operand};
use super::meaning::{Along, Flow, Pick};
use super::{InferError, NodeView, Operator, Rule};
use crate::facts::{Contents, Dim, Fact};
use crate::relation::{LabelId, Port, Reason, Relation};

const WRITTEN: Reason = Reason::operator("entries are written at positions known at run time");

/// The output is the first input with some entries changed.
fn like_first(node: &NodeView) -> Vec<Fact> {
    vec![Fact {
        dtype: node.dtype(0),
        shape: node.shape(0).map(<[Dim]>::to_vec),
        contents: None,
    }]
}

/// Writes single elements along one axis.
struct ScatterElements;

impl Operator for ScatterElements {
    fn infer(&self, node: &NodeView) -> Result<Vec<Fact>, InferError> {
        if let (Some(shape), Some(indices), Some(updates)) =
            (node.shape(0), node.shape(1), node.shape(2))
        {
            axis_attribute(node, "axis", 0, shape.len())?;
            if indices.len() != shape.len() || updates.len() != shape.len() {
                return Err(InferError(format!(
                    "{} axes are written into {} at {}",
                    updates.len(),
                    shape.len(),
                    indices.len()
                )));
            }
        }
        Ok(like_first(node))
    }

    fn relate(&self, node: &NodeView) -> Relation {
        let (Some(shape), Some(indices)) = (node.shape(0), node.shape(1)) else {
            return node.frozen(Reason::Dynamic);
        };
        let Ok(axis) = axis_attribute(node, "axis", 0, shape.len()) else {
            return node.frozen(WRITTEN);
        };
        if indices.len() != shape.len() || node.shape(2).is_none_or(|updates| updates != indices) {
            return node.frozen(WRITTEN);
        }
        let mut builder = node.relation();
        let mut letters = Letters::new();
        let (mut data, mut written): (Vec<LabelId>, Vec<LabelId>) = (Vec::new(), Vec::new());
        for (at, (dim, positions)) in shape.iter().zip(indices).enumerate() {
            if at != axis && dim == positions {
                let label = letters.free(&mut builder, dim);
                data.push(label);
                written.push(label);
            } else {
                data.push(letters.fixed(&mut builder, dim, &WRITTEN));
                written.push(letters.fixed(&mut builder, positions, &WRITTEN));
            }
        }
        builder.port(Port::In(0), "data", data.clone());
        builder.port(Port::In(1), "indices", written.clone());
        builder.port(Port::In(2), "updates", written);
        builder.port(Port::Out(0), "y", data);
        builder.finish()
    }
}

/// Writes slices at positions along the first axes.
struct ScatterND;

impl Operator for ScatterND {
    fn infer(&self, node: &NodeView) -> Result<Vec<Fact>, InferError> {
        if let (Some(shape), Some(indices)) = (node.shape(0), node.shape(1)) {
            let Some((last, outer)) = indices.split_last() else {
                return Err(InferError("scalar indices".into()));
            };
            let count = last.count().unwrap_or(0);
            let written = node
                .shape(2)
                .filter(|_| last.count().is_some())
                .map(<[Dim]>::len);
            if count > shape.len()
                || written.is_some_and(|written| written != outer.len() + shape.len() - count)
            {
                return Err(InferError(format!(
                    "{count} positions and {} axes for a tensor of {}",
                    written.unwrap_or(0),
                    shape.len()
                )));
            }
            if let Some((there, here)) = outer
                .iter()
                .zip(node.shape(2).unwrap_or_default())
                .find(|(there, here)| there.differs(here))
            {
                return Err(InferError(format!("{here} entries at {there} places")));
            }
        }
        Ok(like_first(node))
    }

    fn relate(&self, node: &NodeView) -> Relation {
        let (Some(shape), Some((last, outer))) =
            (node.shape(0), node.shape(1).and_then(<[Dim]>::split_last))
        else {
            return node.frozen(Reason::Dynamic);
        };
        let (Some(count), Some(updates)) = (last.count(), node.shape(2)) else {
            return node.frozen(WRITTEN);
        };
        if count > shape.len() || updates.len() != outer.len() + shape.len() - count {
            return node.frozen(WRITTEN);
        }
        let mut builder = node.relation();
        let mut letters = Letters::new();
        let mut data: Vec<LabelId> = shape[..count]
            .iter()
            .map(|dim| letters.fixed(&mut builder, dim, &WRITTEN))
            .collect();
        let mut written: Vec<LabelId> = outer
            .iter()
            .map(|dim| letters.fixed(&mut builder, dim, &WRITTEN))
            .collect();
        let last = builder.fixed("", last.clone(), WRITTEN);
        builder.port(
            Port::In(1),
            "indices",
            written.iter().copied().chain([last]),
        );
        for (dim, update) in shape[count..].iter().zip(&updates[outer.len()..]) {
            if dim == update {
                let label = letters.free(&mut builder, dim);
                data.push(label);
                written.push(label);
            } else {
                data.push(letters.fixed(&mut builder, dim, &Reason::Dynamic));
                written.push(letters.fixed(&mut builder, update, &Reason::Dynamic));
            }
        }
        builder.port(Port::In(0), "data", data.clone());
        builder.port(Port::In(2), "updates", written);
        builder.port(Port::Out(0), "y", data);
        builder.finish()
    }
}

/// Writes new entries into a cache, at a position per batch entry.
struct TensorScatter;

impl Operator for TensorScatter {
    fn infer(&self, node: &NodeView) -> Result<Vec<Fact>, InferError> {
        Ok(like_first(node))
    }

    fn relate(&self, node: &NodeView) -> Relation {
        let (Some(cache), Some(update)) = (node.shape(0), node.shape(1)) else {
            return node.frozen(Reason::Dynamic);
        };
        let Ok(axis) = axis_attribute(node, "axis", -2, cache.len()) else {
            return node.frozen(WRITTEN);
        };
        if cache.len() != update.len() {
            return node.frozen(WRITTEN);
        }
        let mut builder = node.relation();
        let mut letters = Letters::new();
        let (mut old, mut new): (Vec<LabelId>, Vec<LabelId>) = (Vec::new(), Vec::new());
        for (at, (dim, update)) in cache.iter().zip(update).enumerate() {
            if at != axis && dim == update {
                let label = letters.free(&mut builder, dim);
                old.push(label);
                new.push(label);
            } else {
                old.push(letters.fixed(&mut builder, dim, &WRITTEN));
                new.push(letters.fixed(&mut builder, update, &WRITTEN));
            }
        }
        if let (Some(true), Some(first)) = (
            node.shape(2)
                .map(|entries| entries.len() == 1 && entries.first() == cache.first()),
            old.first(),
        ) {
            builder.port(Port::In(2), "position", [*first]);
        }
        builder.port(Port::In(0), "cache", old.clone());
        builder.port(Port::In(1), "update", new);
        builder.port(Port::Out(0), "y", old);
        builder.finish()
    }
}

/// Positions become vectors that are on at the position and off elsewhere.
struct OneHot;

impl OneHot {
    fn axis(node: &NodeView, rank: usize) -> Result<usize, InferError> {
        axis_attribute(node, "axis", -1, rank + 1)
    }
}

impl OneHot {
    /// The code of a single known index: how exporters write a list of repeats of which one is not 1.
    fn one(node: &NodeView) -> Option<Contents> {
        let number = |input| {
            node.contents(input)
                .and_then(|contents| contents.numbers())
                .and_then(|numbers| numbers.first().copied())
        };
        if node.input(0)?.elements()? != 1 {
            return None;
        }
        let depth = usize::try_from(number(1)?)
            .ok()
            .filter(|depth| *depth <= Contents::LIMIT)?;
        let index = number(0)?;
        let place = usize::try_from(if index < 0 {
            index + depth as i64
        } else {
            index
        })
        .ok()?;
        let [off, on] = &node.contents(2)?.0[..] else {
            return None;
        };
        Contents::new(
            (0..depth)
                .map(|at| if at == place { on.clone() } else { off.clone() })
                .collect(),
        )
    }
}

impl Operator for OneHot {
    fn infer(&self, node: &NodeView) -> Result<Vec<Fact>, InferError> {
        let Some(indices) = node.shape(0) else {
            return Ok(vec![Fact::unranked(node.dtype(2))]);
        };
        let axis = Self::axis(node, indices.len())?;
        let depth = node
            .contents(1)
            .and_then(|contents| match contents.0.first()?.dim() {
                // The depth may be written as a real number.
                None => contents
                    .0
                    .first()?
                    .real()
                    .map(|depth| Dim::Num(depth as i64)),
                depth => depth,
            });
        let mut dims = indices.to_vec();
        dims.insert(axis, depth.unwrap_or_else(|| node.unknown(0, axis)));
        Ok(vec![
            Fact::new(node.dtype(2), dims).with_contents(Self::one(node)),
        ])
    }

    fn relate(&self, node: &NodeView) -> Relation {
        const CLASSES: Reason = Reason::operator("classes of a one-hot code");
        let (Some(indices), Some(dims)) = (node.shape(0), node.output_shape(0)) else {
            return node.frozen(Reason::Dynamic);
        };
        let Ok(axis) = Self::axis(node, indices.len()) else {
            return node.frozen(CLASSES);
        };
        let mut builder = node.relation();
        let mut letters = Letters::new();
        let read = letters.all(&mut builder, indices);
        let mut y = read.clone();
        if let Some(depth) = dims.get(axis) {
            y.insert(axis, letters.fixed(&mut builder, depth, &CLASSES));
        }
        builder.port(Port::In(0), "indices", read);
        operand(&mut builder, 1, "depth");
        operand(&mut builder, 2, "values");
        builder.port(Port::Out(0), "y", y);
        builder.finish()
    }

    fn shape_inputs(&self, _node: &NodeView) -> Vec<u32> {
        vec![1]
    }
}

/// Turns the first entries of each sequence round.
struct ReverseSequence;

impl Operator for ReverseSequence {
    fn infer(&self, node: &NodeView) -> Result<Vec<Fact>, InferError> {
        Ok(like_first(node))
    }

    fn relate(&self, node: &NodeView) -> Relation {
        const REVERSED: Reason = Reason::operator("reversed in time");
        let Some(shape) = node.shape(0) else {
            return node.frozen(Reason::Dynamic);
        };
        let number =
            |name: &str, default: i64| axis_number(node.int(name).unwrap_or(default), shape.len());
        let (Ok(batch), Ok(time)) = (number("batch_axis", 1), number("time_axis", 0)) else {
            return node.frozen(REVERSED);
        };
        let mut builder = node.relation();
        let mut letters = Letters::new();
        let mut label = |(at, dim)| {
            if at == time {
                letters.fixed(&mut builder, dim, &REVERSED)
            } else {
                letters.free(&mut builder, dim)
            }
        };
        let labels: Vec<LabelId> = shape.iter().enumerate().map(&mut label).collect();
        if node.shape(1) == Some(&shape[batch..=batch]) {
            builder.port(Port::In(1), "lengths", [labels[batch]]);
        }
        builder.port(Port::In(0), "x", labels.clone());
        builder.port(Port::Out(0), "y", labels);
        builder.finish()
    }
}

/// Indices along one axis.
const BY_AXIS: Pick = Pick {
    indices: 1,
    table: 0,
    along: Along::Axis("axis"),
};
/// Positions from the first axis on.
const BY_POSITION: Pick = Pick {
    indices: 1,
    table: 0,
    along: Along::Each(None),
};
/// Classes, as many as the second input says.
const BY_DEPTH: Pick = Pick {
    indices: 0,
    table: 1,
    along: Along::Depth,
};

pub(super) static RULES: &[Rule] = &[
    Rule::onnx("ScatterElements", &ScatterElements)
        .flow(Flow::Scattered)
        .picks(&[BY_AXIS]),
    Rule::onnx("Scatter", &ScatterElements)
        .flow(Flow::Scattered)
        .picks(&[BY_AXIS]),
    Rule::onnx("ScatterND", &ScatterND)
        .flow(Flow::Scattered)
        .picks(&[BY_POSITION]),
    Rule::onnx("TensorScatter", &TensorScatter),
    Rule::onnx("OneHot", &OneHot).picks(&[BY_DEPTH]),
    Rule::onnx("ReverseSequence", &ReverseSequence).flow(Flow::Moved),
];

#[cfg(test)]
mod tests {
    use crate::ops::case::OpCase;

    #[test]
    fn scattering_fixes_the_axes_it_writes_along() {
        let elements = OpCase::op("ScatterElements")
            .input("bx8x5")
            .input("i64:bx3x5")
            .input("bx3x5")
            .int("axis", 1);
        elements
            .expect_shapes("bx8x5")
            .expect_relation("data[a, b, d] indices[a, c, d] updates[a, c, d] → y[a, b, d]");
        let slices = OpCase::op("ScatterND")
            .input("7x8x64")
            .input("i64:nx2")
            .input("nx64");
        slices
            .expect_shapes("7x8x64")
            .expect_relation("data[a, b, d] indices[c, 2] updates[c, d] → y[a, b, d]");
        let cache = OpCase::op("TensorScatter")
            .at(24)
            .input("bx8x512x64")
            .input("bx8xsx64")
            .input("i64:b");
        cache
            .expect_shapes("bx8x512x64")
            .expect_relation("cache[a, b, c, e] update[a, b, d, e] position[a] → y[a, b, c, e]");
    }

    #[test]
    fn codes_and_sequences() {
        let code = OpCase::op("OneHot").input("i64:bxs").number(10).input("2");
        code.expect_shapes("bxsx10")
            .expect_relation("indices[a, b] depth[] values[2] → y[a, b, c]");
        OpCase::op("OneHot")
            .number(-2)
            .number(3)
            .list(&[1, 7])
            .expect_shapes("3")
            .expect_contents(&[1, 7, 1]);
        OpCase::op("OneHot")
            .input("i64:b")
            .input("i64:")
            .input("2")
            .int("axis", 0)
            .expect_shapes("?out0.0xb");
        let reversed = OpCase::op("ReverseSequence").input("sxbx8").input("i64:b");
        reversed
            .expect_shapes("sxbx8")
            .expect_relation("x[a, b, c] lengths[b] → y[a, b, c]");
    }
}
