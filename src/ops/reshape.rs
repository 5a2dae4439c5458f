//! Operators that keep all elements in order and divide them into other axes.

use super::axes::{Letters, axis_number, list, named, operand};
use super::meaning::Flow;
use super::refine::refine;
use super::{InferError, NodeView, Operator, Rule};
use crate::facts::{Dim, Fact};
use crate::relation::{Builder, Layout, Port, Reason, Relation};

struct Reshape;

impl Reshape {
    /// Elements of the target as they are written.
    fn target(node: &NodeView) -> Option<Vec<Option<Dim>>> {
        list(node, "", 1)
    }
}

/// What one open element takes: -1, or one that is not known. More than one cannot be told. Errors: the elements do not fit.
fn left_over(input: &[Dim], dims: &[Option<Dim>]) -> Result<Option<Dim>, InferError> {
    let open = dims.iter().filter(|dim| dim.is_none()).count();
    if open > 1 {
        return Ok(None);
    }
    let (total, told) = (Dim::product(input), Dim::product(dims.iter().flatten()));
    if open == 0 {
        return if total.differs(&told) {
            Err(InferError(format!(
                "{total} elements do not fit into {told}"
            )))
        } else {
            Ok(None)
        };
    }
    let rest = total.exact_div(&told);
    if rest.is_none() && total.num().is_some() && told.num().is_some_and(|told| told != 0) {
        return Err(InferError(format!(
            "{total} elements do not divide into {told}"
        )));
    }
    Ok(rest)
}

impl Operator for Reshape {
    fn infer(&self, node: &NodeView) -> Result<Vec<Fact>, InferError> {
        let untold = Fact::unranked(node.dtype(0));
        let Some(target) = Self::target(node) else {
            return Ok(vec![untold]);
        };
        let keeps_zero = node.int("allowzero") == Some(1);
        let input = node.shape(0);
        let mut dims: Vec<Option<Dim>> = Vec::with_capacity(target.len());
        for (axis, element) in target.into_iter().enumerate() {
            dims.push(match element {
                Some(Dim::Num(-1)) => None,
                Some(Dim::Num(0)) if !keeps_zero => match input {
                    None => Some(node.unknown(0, axis)),
                    Some(input) => Some(input.get(axis).cloned().ok_or_else(|| {
                        InferError(format!("0 in the target at {axis} copies no axis"))
                    })?),
                },
                Some(Dim::Num(number)) if number < 0 => {
                    return Err(InferError(format!("{number} in the target")));
                }
                element => element,
            });
        }
        let rest = input.map_or(Ok(None), |input| left_over(input, &dims))?;
        let dims = dims.into_iter().enumerate().map(|(axis, dim)| {
            dim.or_else(|| rest.clone())
                .unwrap_or_else(|| node.unknown(0, axis))
        });
        Ok(vec![
            Fact::new(node.dtype(0), dims.collect()).with_contents(node.contents(0).cloned()),
        ])
    }

    fn relate(&self, node: &NodeView) -> Relation {
        regroup(node, "shape")
    }

    fn shape_operand(&self, _node: &NodeView) -> Option<u32> {
        Some(1)
    }

    fn shape_inputs(&self, _node: &NodeView) -> Vec<u32> {
        vec![1]
    }
}

/// All axes before `axis` become one, and all from it on another.
struct Flatten;

impl Flatten {
    fn axis(node: &NodeView, rank: usize) -> Result<usize, InferError> {
        // Unlike other axes this one may be the rank itself.
        let axis = node.int("axis").unwrap_or(1);
        if axis == rank as i64 {
            Ok(rank)
        } else {
            axis_number(axis, rank)
        }
    }
}

impl Operator for Flatten {
    fn infer(&self, node: &NodeView) -> Result<Vec<Fact>, InferError> {
        let Some(shape) = node.shape(0) else {
            return Ok(vec![Fact::new(
                node.dtype(0),
                vec![node.unknown(0, 0), node.unknown(0, 1)],
            )]);
        };
        let axis = Self::axis(node, shape.len())?;
        let dims = vec![Dim::product(&shape[..axis]), Dim::product(&shape[axis..])];
        Ok(vec![
            Fact::new(node.dtype(0), dims).with_contents(node.contents(0).cloned()),
        ])
    }

    fn relate(&self, node: &NodeView) -> Relation {
        regroup(node, "")
    }
}

/// The relation of an operator that keeps all elements in order.
fn regroup(node: &NodeView, shape_name: &'static str) -> Relation {
    const NO_COMMON_FACTORS: Reason =
        Reason::operator("reshape whose blocks do not divide each other");
    let (Some(from), Some(to)) = (node.shape(0), node.output_shape(0)) else {
        return node.frozen(Reason::Dynamic);
    };
    let refinement = refine(from, to);
    let mut builder = node.relation();
    let mut letters = Letters::new();
    let mut labels = vec![None; refinement.factors.len()];
    let mut layout = |builder: &mut Builder, axis: &[usize]| -> Layout {
        if axis.is_empty() {
            return builder.fill(Dim::Num(1)).into();
        }
        let label = |at: &usize| {
            let factor = &refinement.factors[*at];
            *labels[*at].get_or_insert_with(|| match factor.common {
                true => letters.free(builder, &factor.extent),
                false => letters.fixed(builder, &factor.extent, &NO_COMMON_FACTORS),
            })
        };
        Layout::product(&axis.iter().map(label).collect::<Vec<_>>())
    };
    let x: Vec<Layout> = refinement
        .from
        .iter()
        .map(|axis| layout(&mut builder, axis))
        .collect();
    let y: Vec<Layout> = refinement
        .to
        .iter()
        .map(|axis| layout(&mut builder, axis))
        .collect();
    builder.port(Port::In(0), "x", x);
    operand(&mut builder, 1, shape_name);
    builder.port(Port::Out(0), "y", y);
    builder.finish()
}

/// Channels become squares of positions (`DepthToSpace`), or the other way round.
struct Blocks {
    to_space: bool,
}

impl Blocks {
    fn size(node: &NodeView) -> Result<Dim, InferError> {
        match node.int("blocksize") {
            Some(size) if size > 0 => Ok(Dim::Num(size)),
            _ => Err(InferError("blocksize is missing or not positive".into())),
        }
    }

    /// Batch, channels, height and width once the block is taken out of them; `None` when that cannot be told.
    fn parts(&self, node: &NodeView, shape: &[Dim]) -> Result<Option<[Dim; 4]>, InferError> {
        let [b, c, h, w] = shape else {
            return Err(InferError(format!("rank {} instead of 4", shape.len())));
        };
        let size = Self::size(node)?;
        let divide = |dim: &Dim, by: &Dim| match dim.exact_div(by) {
            None if dim.num().is_some() => Err(InferError(format!(
                "{dim} does not divide into blocks of {by}"
            ))),
            rest => Ok(rest),
        };
        if self.to_space {
            let rest = divide(c, &(&size * &size))?;
            return Ok(rest.map(|rest| [b.clone(), rest, h.clone(), w.clone()]));
        }
        let (h, w) = (divide(h, &size)?, divide(w, &size)?);
        Ok(h.zip(w).map(|(h, w)| [b.clone(), c.clone(), h, w]))
    }
}

impl Operator for Blocks {
    fn infer(&self, node: &NodeView) -> Result<Vec<Fact>, InferError> {
        let Some(shape) = node.shape(0) else {
            return Ok(vec![Fact::new(
                node.dtype(0),
                (0..4).map(|axis| node.unknown(0, axis)).collect(),
            )]);
        };
        let size = Self::size(node)?;
        let dims = match self.parts(node, shape)? {
            Some([b, c, h, w]) if self.to_space => vec![b, c, &h * &size, &w * &size],
            Some([b, c, h, w]) => vec![b, &c * &(&size * &size), h, w],
            None => shape
                .iter()
                .take(1)
                .cloned()
                .chain((1..4).map(|axis| node.unknown(0, axis)))
                .collect(),
        };
        Ok(vec![Fact::new(node.dtype(0), dims)])
    }

    fn relate(&self, node: &NodeView) -> Relation {
        const BLOCK: Reason = Reason::operator("position in a block");
        let parts = node.shape(0).map(|shape| self.parts(node, shape));
        let (Some(Ok(Some([b, c, h, w]))), Ok(size)) = (parts, Self::size(node)) else {
            return node.frozen(Reason::Dynamic);
        };
        let mut builder = node.relation();
        let (b, c) = (named(&mut builder, "b", &b), named(&mut builder, "c", &c));
        let (h, w) = (named(&mut builder, "h", &h), named(&mut builder, "w", &w));
        let (r, q) = (
            builder.fixed("r", size.clone(), BLOCK),
            builder.fixed("q", size, BLOCK),
        );
        let deep = if node.string("mode") == Some("CRD") {
            [c, r, q]
        } else {
            [r, q, c]
        };
        let coarse = [Layout::from(b), Layout::product(&deep), h.into(), w.into()];
        let fine = [
            Layout::from(b),
            c.into(),
            Layout::product(&[h, r]),
            Layout::product(&[w, q]),
        ];
        let (x, y) = if self.to_space {
            (coarse, fine)
        } else {
            (fine, coarse)
        };
        builder.port(Port::In(0), "x", x);
        builder.port(Port::Out(0), "y", y);
        builder.finish()
    }
}

pub(super) static RULES: &[Rule] = &[
    Rule::onnx("Reshape", &Reshape).flow(Flow::Reshaped),
    Rule::onnx("Flatten", &Flatten).flow(Flow::Reshaped),
    Rule::onnx("DepthToSpace", &Blocks { to_space: true }).flow(Flow::Moved),
    Rule::onnx("SpaceToDepth", &Blocks { to_space: false }).flow(Flow::Moved),
];

#[cfg(test)]
mod tests {
    use super::Reshape;
    use crate::facts::Dim;
    use crate::ops::Operator;
    use crate::ops::case::OpCase;

    #[test]
    fn reshape_splits_and_merges_axes() {
        let heads = OpCase::op("Reshape").input("bxsx768").list(&[0, 0, 12, 64]);
        heads
            .expect_shapes("bxsx12x64")
            .expect_relation("x[a, b, c·d] shape[4] → y[a, b, c, d]");
        let flat = OpCase::op("Reshape").input("bx64x7x7").list(&[0, -1]);
        flat.expect_shapes("bx3136")
            .expect_relation("x[a, b, c, d] shape[2] → y[a, b·c·d]");
        let back = OpCase::op("Reshape").input("bx12x64").list(&[-1, 768]);
        back.expect_shapes("bx768")
            .expect_relation("x[a, b, c] shape[2] → y[a, b·c]");
        OpCase::op("Reshape")
            .input("6x4")
            .list(&[8, 3])
            .expect_shapes("8x3")
            .expect_relation("x[a, b] shape[2] → y[c, d]");
        OpCase::op("Reshape")
            .input("1x6")
            .list(&[2, 1, 3])
            .expect_shapes("2x1x3")
            .expect_relation("x[1, a·b] shape[3] → y[a, 1, b]");
        OpCase::op("Reshape")
            .input("0x6")
            .list(&[0, 3])
            .int("allowzero", 1)
            .expect_shapes("0x3");
    }

    #[test]
    fn a_computed_target_may_be_symbolic() {
        let (b, s) = (Dim::symbol("b"), Dim::symbol("s"));
        let target = [b, s, Dim::Num(-1), Dim::Num(64)];
        let heads = OpCase::op("Reshape").input("bxsx768").computed(&target);
        heads
            .expect_shapes("bxsx12x64")
            .expect_relation("x[a, b, c·d] shape[4] → y[a, b, c, d]");
        OpCase::op("Reshape")
            .input("2x6")
            .input("i64:2")
            .expect_shapes("?out0.0x?out0.1");
        OpCase::op("Reshape")
            .list(&[1, 2, 3, 4])
            .list(&[2, 2])
            .expect_shapes("2x2")
            .expect_contents(&[1, 2, 3, 4]);
    }

    #[test]
    fn the_target_may_be_made_to_hold_others() {
        let heads = OpCase::op("Reshape").input("bxsx12").list(&[0, 0, 4, 3]);
        assert_eq!(heads.view(|view| Reshape.shape_operand(view)), Some(1));
        // The 0 copies an axis of equal length that is not the same axis, which the relation does not hide.
        let shifted = OpCase::op("Reshape").input("2x6x3").list(&[1, 0, 6]);
        shifted
            .expect_shapes("1x6x6")
            .expect_relation("x[a, b·c, d] shape[3] → y[1, a·b, c·d]");
    }

    #[test]
    fn flatten_merges_axes() {
        OpCase::op("Flatten")
            .input("bx64x7x7")
            .expect_shapes("bx3136")
            .expect_relation("x[a, b, c, d] → y[a, b·c·d]");
        OpCase::op("Flatten")
            .input("2x3x4")
            .int("axis", 3)
            .expect_shapes("24x1")
            .expect_relation("x[a, b, c] → y[a·b·c, 1]");
        OpCase::op("Flatten")
            .input("2x3x4")
            .int("axis", 0)
            .expect_shapes("1x24")
            .expect_relation("x[a, b, c] → y[1, a·b·c]");
        OpCase::op("Flatten")
            .input("2x3x4")
            .int("axis", -1)
            .expect_shapes("6x4");
        OpCase::op("Flatten").input("5").expect_shapes("5x1");
    }

    #[test]
    fn blocks_of_channels_become_positions() {
        let dcr = OpCase::op("DepthToSpace")
            .input("bx64x7xw")
            .int("blocksize", 2);
        dcr.expect_shapes("bx16x14x2*w")
            .expect_relation("x[b, r·q·c, h, w] → y[b, c, h·r, w·q]");
        let crd = OpCase::op("DepthToSpace")
            .input("bx64x7x7")
            .int("blocksize", 2)
            .text("mode", "CRD");
        crd.expect_shapes("bx16x14x14")
            .expect_relation("x[b, c·r·q, h, w] → y[b, c, h·r, w·q]");
        let depth = OpCase::op("SpaceToDepth")
            .input("bx3x8x8")
            .int("blocksize", 4);
        depth
            .expect_shapes("bx48x2x2")
            .expect_relation("x[b, c, h·r, w·q] → y[b, r·q·c, h, w]");
    }
}
