//! Operators that reorder axes, or add and take away axes of 1.

use super::axes::{Letters, axis_numbers, operand};
use super::elements::{ElementGrid, compose};
use super::meaning::Flow;
use super::{Cut, InferError, NodeEdit, NodeView, Operator, RewriteError, Rule};
use crate::facts::{Dim, Fact};
use crate::relation::{LabelId, Port, Reason, Relation};

const UNKNOWN_AXES: Reason = Reason::operator("its axes are known only at run time");

struct Transpose;

impl Transpose {
    fn permutation(node: &NodeView, rank: usize) -> Result<Vec<usize>, InferError> {
        match node.ints("perm") {
            None => Ok((0..rank).rev().collect()),
            Some(perm) if perm.len() == rank => axis_numbers(perm, rank),
            Some(perm) => Err(InferError(format!(
                "perm has {} axes, the input {rank}",
                perm.len()
            ))),
        }
    }
}

impl Operator for Transpose {
    fn infer(&self, node: &NodeView) -> Result<Vec<Fact>, InferError> {
        let Some(shape) = node.shape(0) else {
            return Ok(vec![untold(node)]);
        };
        let perm = Self::permutation(node, shape.len())?;
        let dims: Vec<Dim> = perm.iter().map(|axis| shape[*axis].clone()).collect();
        let contents = ElementGrid::input(node, 0).and_then(|grid| {
            compose(&dims, |index| {
                let mut source = vec![0; index.len()];
                perm.iter()
                    .zip(index)
                    .for_each(|(axis, at)| source[*axis] = *at);
                grid.at(&source)
            })
        });
        Ok(vec![Fact::new(node.dtype(0), dims).with_contents(contents)])
    }

    fn relate(&self, node: &NodeView) -> Relation {
        let mut builder = node.relation();
        let Some(shape) = node.shape(0) else {
            return node.frozen(Reason::Dynamic);
        };
        let Ok(perm) = Self::permutation(node, shape.len()) else {
            return node.frozen(UNKNOWN_AXES);
        };
        let labels = Letters::new().all(&mut builder, shape);
        builder.port(Port::Out(0), "y", perm.iter().map(|axis| labels[*axis]));
        builder.port(Port::In(0), "x", labels);
        builder.finish()
    }

    fn is_entrywise(&self) -> bool {
        true
    }
}

/// Takes axes of 1 away.
struct Squeeze;

impl Squeeze {
    /// The axes that go; `None` when they cannot be told.
    fn axes(node: &NodeView, shape: &[Dim]) -> Result<Option<Vec<usize>>, InferError> {
        match node.ints_or_input("axes", 1) {
            Err(()) => Ok(None),
            Ok(Some(axes)) => {
                let axes = axis_numbers(&axes, shape.len())?;
                match axes.iter().find(|axis| shape[**axis].differs(&Dim::Num(1))) {
                    Some(axis) => Err(InferError(format!(
                        "axis {axis} of {} can not be squeezed",
                        shape[*axis]
                    ))),
                    None => Ok(Some(axes)),
                }
            }
            // Every axis of 1 goes: a symbolic extent may be one.
            Ok(None) if shape.iter().any(|dim| dim.num().is_none()) => Ok(None),
            Ok(None) => Ok(Some(
                (0..shape.len())
                    .filter(|axis| shape[*axis].is_one())
                    .collect(),
            )),
        }
    }
}

impl Operator for Squeeze {
    fn infer(&self, node: &NodeView) -> Result<Vec<Fact>, InferError> {
        let Some(shape) = node.shape(0) else {
            return Ok(vec![untold(node)]);
        };
        let Some(axes) = Self::axes(node, shape)? else {
            return Ok(vec![untold(node)]);
        };
        let dims = shape
            .iter()
            .enumerate()
            .filter(|(axis, _)| !axes.contains(axis))
            .map(|(_, dim)| dim.clone())
            .collect();
        Ok(vec![
            Fact::new(node.dtype(0), dims).with_contents(node.contents(0).cloned()),
        ])
    }

    fn relate(&self, node: &NodeView) -> Relation {
        const GOES: Reason = Reason::operator("squeezed away");
        let mut builder = node.relation();
        let Some(shape) = node.shape(0) else {
            return node.frozen(Reason::Dynamic);
        };
        let Ok(Some(axes)) = Self::axes(node, shape) else {
            return node.frozen(UNKNOWN_AXES);
        };
        let mut letters = Letters::new();
        let (mut x, mut y): (Vec<LabelId>, Vec<LabelId>) = (Vec::new(), Vec::new());
        for (axis, dim) in shape.iter().enumerate() {
            if axes.contains(&axis) {
                x.push(letters.fixed(&mut builder, dim, &GOES));
            } else {
                let label = letters.free(&mut builder, dim);
                x.push(label);
                y.push(label);
            }
        }
        builder.port(Port::In(0), "x", x);
        operand(&mut builder, 1, "axes");
        builder.port(Port::Out(0), "y", y);
        builder.finish()
    }

    /// Without axes every axis of 1 goes, so that one that is cut down to 1 would go as well.
    fn rewrite(
        &self,
        node: &NodeView,
        _cut: &Cut,
        edit: &mut NodeEdit,
    ) -> Result<(), RewriteError> {
        let Some(shape) = node
            .shape(0)
            .filter(|_| matches!(node.ints_or_input("axes", 1), Ok(None)))
        else {
            return Ok(());
        };
        let axes = (0..shape.len())
            .filter(|axis| shape[*axis].is_one())
            .map(|axis| axis as i64);
        match node.opset < 13 {
            true => edit.set_ints("axes", axes.collect()),
            false => edit.demand(1, axes.map(|axis| Some(Dim::Num(axis))).collect()),
        }
        Ok(())
    }

    fn shape_inputs(&self, _node: &NodeView) -> Vec<u32> {
        vec![1]
    }
}

/// Adds axes of 1.
struct Unsqueeze;

impl Unsqueeze {
    /// The new axes, numbered as in the output; `None` when they cannot be told.
    fn axes(node: &NodeView, rank: usize) -> Result<Option<Vec<usize>>, InferError> {
        match node.ints_or_input("axes", 1) {
            Err(()) => Ok(None),
            Ok(None) => Err(InferError("its axes are missing".into())),
            Ok(Some(axes)) => axis_numbers(&axes, rank + axes.len()).map(Some),
        }
    }
}

impl Operator for Unsqueeze {
    fn infer(&self, node: &NodeView) -> Result<Vec<Fact>, InferError> {
        let Some(shape) = node.shape(0) else {
            return Ok(vec![untold(node)]);
        };
        let Some(axes) = Self::axes(node, shape.len())? else {
            return Ok(vec![untold(node)]);
        };
        let mut old = shape.iter().cloned();
        let dims = (0..shape.len() + axes.len())
            .map(|axis| {
                if axes.contains(&axis) {
                    Some(Dim::Num(1))
                } else {
                    old.next()
                }
            })
            .collect::<Option<_>>();
        let dims = dims.ok_or_else(|| InferError("its axes do not fit".into()))?;
        Ok(vec![
            Fact::new(node.dtype(0), dims).with_contents(node.contents(0).cloned()),
        ])
    }

    fn relate(&self, node: &NodeView) -> Relation {
        let mut builder = node.relation();
        let Some(shape) = node.shape(0) else {
            return node.frozen(Reason::Dynamic);
        };
        let Ok(Some(axes)) = Self::axes(node, shape.len()) else {
            return node.frozen(UNKNOWN_AXES);
        };
        let labels = Letters::new().all(&mut builder, shape);
        let mut old = labels.iter().copied();
        let mut y = Vec::with_capacity(shape.len() + axes.len());
        for axis in 0..shape.len() + axes.len() {
            let label = if axes.contains(&axis) {
                None
            } else {
                old.next()
            };
            y.push(label.unwrap_or_else(|| builder.fill(Dim::Num(1))));
        }
        builder.port(Port::In(0), "x", labels);
        operand(&mut builder, 1, "axes");
        builder.port(Port::Out(0), "y", y);
        builder.finish()
    }

    fn shape_inputs(&self, _node: &NodeView) -> Vec<u32> {
        vec![1]
    }
}

/// What is known of the output when its rank is not.
fn untold(node: &NodeView) -> Fact {
    Fact::unranked(node.dtype(0))
}

pub(super) static RULES: &[Rule] = &[
    Rule::onnx("Transpose", &Transpose).flow(Flow::Permuted),
    Rule::onnx("Squeeze", &Squeeze).flow(Flow::Reshaped),
    Rule::onnx("Unsqueeze", &Unsqueeze).flow(Flow::Reshaped),
];

#[cfg(test)]
mod tests {
    use crate::facts::Dim;
    use crate::ops::case::OpCase;

    #[test]
    fn transpose_reorders_labels_and_contents() {
        OpCase::op("Transpose")
            .input("bx12x1x64")
            .ints("perm", &[0, 2, 3, 1])
            .expect_shapes("bx1x64x12")
            .expect_relation("x[a, b, 1, c] → y[a, 1, c, b]");
        OpCase::op("Transpose")
            .input("2x3")
            .expect_shapes("3x2")
            .expect_relation("x[a, b] → y[b, a]");
        OpCase::op("Transpose")
            .list(&[4, 5])
            .expect_shapes("2")
            .expect_contents(&[4, 5]);
    }

    #[test]
    fn squeeze_takes_axes_from_attribute_or_input() {
        OpCase::op("Squeeze")
            .at(11)
            .input("bx64x1x1")
            .ints("axes", &[2, -1])
            .expect_shapes("bx64")
            .expect_relation("x[a, b, 1, 1] → y[a, b]");
        // What is cut down to 1 must not go too.
        let edit = OpCase::op("Squeeze")
            .input("3x1x64x1")
            .edit(&[("b", &[7])])
            .unwrap();
        assert_eq!(
            (edit.demands[0].input, edit.demands[0].elements.len()),
            (1, 2)
        );
        let edit = OpCase::op("Squeeze")
            .at(11)
            .input("3x1x64x1")
            .edit(&[("b", &[7])])
            .unwrap();
        assert_eq!(edit.settings[0].0, "axes");
        OpCase::op("Squeeze")
            .input("bx1x64")
            .list(&[1])
            .expect_shapes("bx64")
            .expect_relation("x[a, 1, b] axes[1] → y[a, b]");
        OpCase::op("Squeeze")
            .input("3x1x64x1")
            .expect_shapes("3x64")
            .expect_relation("x[a, 1, b, 1] → y[a, b]");
        OpCase::op("Squeeze")
            .input("bx1x64")
            .expect_shapes("?")
            .expect_relation("input 0[b, 1, 64]");
        OpCase::op("Squeeze")
            .input("bxn")
            .list(&[1])
            .expect_shapes("b")
            .expect_relation("x[a, b] axes[1] → y[a]");
        OpCase::op("Squeeze")
            .list(&[7])
            .list(&[0])
            .expect_shapes("")
            .expect_contents(&[7]);
    }

    #[test]
    fn unsqueeze_adds_axes_of_one() {
        OpCase::op("Unsqueeze")
            .at(11)
            .input("bx64")
            .ints("axes", &[-1, 1])
            .expect_shapes("bx1x64x1")
            .expect_relation("x[a, b] → y[a, 1, b, 1]");
        OpCase::op("Unsqueeze")
            .input("bx64")
            .list(&[0])
            .expect_shapes("1xbx64")
            .expect_relation("x[a, b] axes[1] → y[1, a, b]");
        OpCase::op("Unsqueeze")
            .number(5)
            .list(&[0])
            .expect_shapes("1")
            .expect_contents(&[5]);
        let symbolic = OpCase::op("Unsqueeze")
            .computed(&[Dim::symbol("s")])
            .list(&[0])
            .facts();
        assert_eq!(
            symbolic[0]
                .contents
                .as_ref()
                .and_then(|contents| contents.dims()),
            Some(vec![Dim::symbol("s")])
        );
    }
}
