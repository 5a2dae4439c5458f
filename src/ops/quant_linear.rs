//! ONNX Runtime's operators on several quantized tensors: sums, products, choices, Concat.

use super::operand::{self, aligned, describe_or_freeze, layouts, scalars};
use super::{InferError, NodeView, Operator, Rule};
use crate::facts::{Dim, Fact};
use crate::relation::{LabelId, Layout, Port, Reason, Relation};

/// An element-wise operator whose tensors broadcast.
struct Broadcast {
    tensors: &'static [(u32, &'static str)],
    /// Scales and zero points.
    singles: &'static [(u32, &'static str)],
}

const BINARY: Broadcast = Broadcast {
    tensors: &[(0, "a"), (3, "b")],
    singles: &[
        (1, "a_scale"),
        (2, "a_zero"),
        (4, "b_scale"),
        (5, "b_zero"),
        (6, "y_scale"),
        (7, "y_zero"),
    ],
};
const WHERE: Broadcast = Broadcast {
    tensors: &[(0, "condition"), (1, "a"), (4, "b")],
    singles: &[
        (2, "a_scale"),
        (3, "a_zero"),
        (5, "b_scale"),
        (6, "b_zero"),
        (7, "y_scale"),
        (8, "y_zero"),
    ],
};

impl Broadcast {
    fn shape(&self, node: &NodeView) -> Result<Option<Vec<Dim>>, InferError> {
        let mut shape: Vec<Dim> = Vec::new();
        for (input, name) in self.tensors {
            let Some(dims) = node.shape(*input as usize) else {
                return Ok(None);
            };
            while shape.len() < dims.len() {
                shape.insert(0, Dim::Num(1));
            }
            for (extent, dim) in shape.iter_mut().rev().zip(dims.iter().rev()) {
                if !extent.is_one() && !dim.is_one() && extent.differs(dim) {
                    return Err(InferError(format!(
                        "{name} does not broadcast: {extent} and {dim}"
                    )));
                }
                *extent = extent.broadcast(dim);
            }
        }
        Ok(Some(shape))
    }
}

impl Operator for Broadcast {
    fn infer(&self, node: &NodeView) -> Result<Vec<Fact>, InferError> {
        let first = self
            .tensors
            .iter()
            .rev()
            .map(|(input, _)| *input as usize)
            .find_map(|input| node.dtype(input));
        Ok(operand::output(node, first, self.shape(node)?))
    }

    fn relate(&self, node: &NodeView) -> Relation {
        describe_or_freeze(node, |node, builder| {
            let shape = self.shape(node).ok().flatten()?;
            let axes = operand::free(builder, "p", &shape);
            for (input, name) in self.tensors {
                aligned(builder, *input, name, &layouts(&axes), &shape)?;
            }
            scalars(builder, self.singles)?;
            builder.port(Port::Out(0), "y", axes);
            Some(())
        })
    }
}

/// QLinearConcat: scale and zero point of the output, then tensor, scale and zero point of each part.
struct QLinearConcat;

impl QLinearConcat {
    /// The numbers of the inputs that are parts.
    fn parts(node: &NodeView) -> impl Iterator<Item = usize> + use<> {
        (2..node.inputs.len()).step_by(3)
    }

    fn axis(node: &NodeView, rank: usize) -> Option<usize> {
        NodeView::axis(node.int("axis")?, rank)
    }
}

impl Operator for QLinearConcat {
    fn infer(&self, node: &NodeView) -> Result<Vec<Fact>, InferError> {
        let dtype = node.dtype(1).or(node.dtype(2));
        let mut shape: Option<Vec<Dim>> = None;
        for part in Self::parts(node) {
            let Some(dims) = node.shape(part) else {
                return Ok(operand::output(node, dtype, None));
            };
            let Some(sum) = &mut shape else {
                shape = Some(dims.to_vec());
                continue;
            };
            let axis = Self::axis(node, sum.len()).filter(|_| dims.len() == sum.len());
            let axis =
                axis.ok_or_else(|| InferError("parts that do not fit, or no axis".into()))?;
            if let (Some(extent), Some(dim)) = (sum.get_mut(axis), dims.get(axis)) {
                *extent = &*extent + dim;
            }
        }
        Ok(operand::output(node, dtype, shape))
    }

    fn relate(&self, node: &NodeView) -> Relation {
        describe_or_freeze(node, |node, builder| {
            let dims = node.output_shape(0)?;
            let axis = Self::axis(node, dims.len())?;
            let mut rest = operand::free(builder, "p", dims.get(..axis)?);
            rest.extend(operand::free(builder, "p", dims.get(axis + 1..)?));
            let axes = |own: Layout| {
                let mut axes = layouts(&rest);
                axes.insert(axis, own);
                axes
            };
            scalars(builder, &[(0, "y_scale"), (1, "y_zero")])?;
            let mut sum: Vec<LabelId> = Vec::new();
            for part in Self::parts(node) {
                let label = builder.free("u", node.shape(part)?.get(axis)?.clone());
                sum.push(label);
                let part = part as u32;
                builder.port(Port::In(part), format!("x{}", part / 3), axes(label.into()));
                scalars(builder, &[(part + 1, "x_scale"), (part + 2, "x_zero")])?;
            }
            builder.port(Port::Out(0), "y", axes(Layout::sum(&sum)));
            Some(())
        })
    }
}

/// QLinearReduceMean: a mean over chosen axes.
struct QLinearReduceMean;

impl QLinearReduceMean {
    fn reduced(node: &NodeView, rank: usize) -> Option<Vec<bool>> {
        let Some(axes) = node.ints("axes").filter(|axes| !axes.is_empty()) else {
            return Some(vec![true; rank]);
        };
        let mut reduced = vec![false; rank];
        for axis in axes {
            *reduced.get_mut(NodeView::axis(*axis, rank)?)? = true;
        }
        Some(reduced)
    }

    fn keeps(node: &NodeView) -> bool {
        node.int("keepdims").unwrap_or(1) != 0
    }
}

impl Operator for QLinearReduceMean {
    fn infer(&self, node: &NodeView) -> Result<Vec<Fact>, InferError> {
        let dtype = node.dtype(4).or(node.dtype(0));
        let Some(dims) = node.shape(0) else {
            return Ok(operand::output(node, dtype, None));
        };
        let reduced = Self::reduced(node, dims.len())
            .ok_or_else(|| InferError("axes are out of range".into()))?;
        let shape = dims
            .iter()
            .zip(reduced)
            .filter_map(|(dim, gone)| match gone {
                false => Some(dim.clone()),
                true => Self::keeps(node).then_some(Dim::Num(1)),
            });
        Ok(operand::output(node, dtype, Some(shape.collect())))
    }

    fn relate(&self, node: &NodeView) -> Relation {
        describe_or_freeze(node, |node, builder| {
            let dims = node.shape(0)?;
            let reduced = Self::reduced(node, dims.len())?;
            let (mut x, mut y) = (Vec::new(), Vec::new());
            for (dim, gone) in dims.iter().zip(reduced) {
                if gone {
                    x.push(builder.lossy("r", dim.clone(), Reason::operator("a mean over it")));
                    y.extend(Self::keeps(node).then(|| builder.fill(1i64)));
                } else {
                    let label = builder.free("p", dim.clone());
                    x.push(label);
                    y.push(label);
                }
            }
            builder.port(Port::In(0), "x", x);
            scalars(
                builder,
                &[(1, "x_scale"), (2, "x_zero"), (3, "y_scale"), (4, "y_zero")],
            )?;
            builder.port(Port::Out(0), "y", y);
            Some(())
        })
    }
}

pub(super) static RULES: &[Rule] = &[
    Rule::microsoft("QLinearAdd", &BINARY).counts_steps(),
    Rule::microsoft("QLinearMul", &BINARY).counts_steps(),
    Rule::microsoft("QLinearWhere", &WHERE).counts_steps(),
    Rule::microsoft("QLinearConcat", &QLinearConcat).counts_steps(),
    Rule::microsoft("QLinearReduceMean", &QLinearReduceMean).counts_steps(),
];

#[cfg(test)]
mod tests {
    use crate::ops::case::OpCase;

    fn start(op: &str) -> OpCase {
        OpCase::op(op).domain("com.microsoft").at(1)
    }

    #[test]
    fn sums() {
        let add = start("QLinearAdd")
            .input("u8:bx8x4x4")
            .weight("")
            .weight("u8:")
            .input("u8:8x1x1")
            .weight("")
            .weight("u8:");
        add.weight("")
            .weight("u8:")
            .expect_shapes("bx8x4x4")
            .expect_relation("a[p, p2, p3, p4] a_scale[] a_zero[] b[p2, 1, 1] b_scale[] b_zero[] y_scale[] y_zero[] → y[p, p2, p3, p4]");
    }

    #[test]
    fn concat() {
        let concat = start("QLinearConcat")
            .weight("")
            .weight("u8:")
            .input("u8:bx8")
            .weight("")
            .weight("u8:")
            .input("u8:bx6");
        concat
            .weight("")
            .weight("u8:")
            .int("axis", 1)
            .expect_shapes("bx14")
            .expect_relation("y_scale[] y_zero[] x0[p, u] x_scale[] x_zero[] x1[p, u2] x_scale[] x_zero[] → y[p, u+u2]");
    }

    #[test]
    fn means() {
        let mean = start("QLinearReduceMean")
            .input("u8:bx8x4x4")
            .weight("")
            .weight("u8:")
            .weight("")
            .weight("u8:");
        mean.ints("axes", &[2, 3])
            .int("keepdims", 0)
            .expect_shapes("bx8")
            .expect_relation("x[p, p2, r, r2] x_scale[] x_zero[] y_scale[] y_zero[] → y[p, p2]");
    }
}
