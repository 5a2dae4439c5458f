//! Pools over windows and regions: every channel for itself.

use super::constant;
use super::fit::expect;
use super::meaning::Positions;
use super::operand::{self, describe_or_freeze, fixed, gives, scalars};
use super::window::{Geometry, SPATIAL};
use super::{Cut, InferError, NodeEdit, NodeView, Operator, RewriteError, Rule};
use crate::facts::{Dim, Fact};
use crate::proto::Dtype;
use crate::relation::{Builder, LabelId, Port, Reason, Relation};

/// Why channels stay where positions are counted through all of them.
pub const POSITIONS: Reason = Reason::operator("positions counted through all channels");
/// Why the axes of a region stay.
const REGION: Reason = Reason::operator("positions within the region");
/// Why the images that regions are taken from stay.
const CHOSEN: Reason = Reason::operator("images chosen by number");

/// Batch, channels and positions of an activation, wherever its channel axis stands.
pub(super) fn parts(dims: &[Dim], last: bool) -> Option<(&Dim, &Dim, &[Dim])> {
    match (last, dims) {
        (false, [batch, channels, positions @ ..]) | (true, [batch, positions @ .., channels]) => {
            Some((batch, channels, positions))
        }
        _ => None,
    }
}

/// The reverse of [`parts`].
pub(super) fn join<T: Clone>(batch: T, channels: T, positions: &[T], last: bool) -> Vec<T> {
    let mut axes = vec![batch];
    axes.extend_from_slice(positions);
    axes.insert(if last { axes.len() } else { 1 }, channels);
    axes
}

/// A pool over a sliding window.
struct Pool {
    /// Whether the channel axis is the last one (else the attribute `channels_last` says).
    channels_last: bool,
    /// Scales and zero points.
    singles: &'static [(u32, &'static str)],
}

const FLOAT: Pool = Pool {
    channels_last: false,
    singles: &[],
};
const NHWC: Pool = Pool {
    channels_last: true,
    singles: &[],
};
const QUANTIZED: Pool = Pool {
    channels_last: false,
    singles: &[(1, "x_scale"), (2, "x_zero"), (3, "y_scale"), (4, "y_zero")],
};

impl Pool {
    fn last(&self, node: &NodeView) -> bool {
        self.channels_last || node.int("channels_last") == Some(1)
    }
}

impl Operator for Pool {
    fn infer(&self, node: &NodeView) -> Result<Vec<Fact>, InferError> {
        let dtype = node.dtype(0);
        let fact = |dtype, shape: &Option<Vec<Dim>>| Fact {
            dtype,
            shape: shape.clone(),
            contents: None,
        };
        let shape = match node.shape(0) {
            None => None,
            Some(dims) => {
                let last = self.last(node);
                let (batch, channels, positions) = parts(dims, last)
                    .ok_or_else(|| InferError("the input has no channel axis".into()))?;
                let kernel = node
                    .ints("kernel_shape")
                    .ok_or_else(|| InferError("kernel_shape is missing".into()))?;
                let positions = Geometry::read(node, kernel.to_vec())?.slide(positions)?;
                Some(join(batch.clone(), channels.clone(), &positions, last))
            }
        };
        Ok(operand::outputs(
            node,
            [fact(dtype, &shape), fact(Some(Dtype::Int64), &shape)],
        ))
    }

    fn relate(&self, node: &NodeView) -> Relation {
        describe_or_freeze(node, |node, builder| {
            let last = self.last(node);
            let (batch, channels, positions) = parts(node.shape(0)?, last)?;
            let (_, _, places) = parts(node.output_shape(0)?, last)?;
            let (b, c) = (
                builder.free("b", batch.clone()),
                builder.free("c", channels.clone()),
            );
            let s = fixed(builder, "s", positions, &SPATIAL);
            let t = fixed(builder, "t", places, &SPATIAL);
            builder.port(Port::In(0), "x", join(b, c, &s, last));
            scalars(builder, self.singles)?;
            builder.port(Port::Out(0), "y", join(b, c, &t, last));
            if gives(node, 1) {
                builder.fix(b, POSITIONS);
                builder.fix(c, POSITIONS);
                builder.port(Port::Out(1), "indices", join(b, c, &t, last));
            }
            Some(())
        })
    }
}

/// Puts maxima back where they were.
struct MaxUnpool;

impl MaxUnpool {
    fn shape(node: &NodeView) -> Result<Option<Vec<Dim>>, InferError> {
        let Some(dims) = node.shape(0) else {
            return Ok(None);
        };
        if node.has_input(2) {
            let given = node
                .contents(2)
                .and_then(|contents| contents.dims())
                .filter(|given| given.len() == dims.len());
            return Ok(Some(given.unwrap_or_else(|| {
                (0..dims.len()).map(|axis| node.unknown(0, axis)).collect()
            })));
        }
        let [batch, channels, positions @ ..] = dims else {
            return Err(InferError("the input has no channel axis".into()));
        };
        let kernel = node
            .ints("kernel_shape")
            .ok_or_else(|| InferError("kernel_shape is missing".into()))?;
        let places = Geometry::read(node, kernel.to_vec())?.spread(node, positions)?;
        Ok(Some(join(batch.clone(), channels.clone(), &places, false)))
    }
}

impl Operator for MaxUnpool {
    fn infer(&self, node: &NodeView) -> Result<Vec<Fact>, InferError> {
        Ok(operand::output(node, node.dtype(0), Self::shape(node)?))
    }

    fn relate(&self, node: &NodeView) -> Relation {
        describe_or_freeze(node, |node, builder| {
            let data = node.shape(0)?;
            let [batch, channels, positions @ ..] = data else {
                return None;
            };
            let [out_batch, out_channels, places @ ..] = node.output_shape(0)? else {
                return None;
            };
            // There is an index for each element.
            expect(node, 1, &data.iter().collect::<Vec<_>>()).ok()?;
            if out_batch.differs(batch) || out_channels.differs(channels) {
                return None;
            }
            let (b, c) = (
                builder.fixed("b", batch.clone(), POSITIONS),
                builder.fixed("c", channels.clone(), POSITIONS),
            );
            let (s, t) = (
                fixed(builder, "s", positions, &SPATIAL),
                fixed(builder, "t", places, &SPATIAL),
            );
            builder.port(Port::In(0), "x", join(b, c, &s, false));
            builder.port(Port::In(1), "indices", join(b, c, &s, false));
            if let Some([length]) = node.shape(2) {
                let axis = builder.fixed("", length.clone(), Reason::operator("a shape"));
                builder.port(Port::In(2), "output_shape", [axis]);
            }
            builder.port(Port::Out(0), "y", join(b, c, &t, false));
            Some(())
        })
    }

    fn rewrite(&self, node: &NodeView, cut: &Cut, edit: &mut NodeEdit) -> Result<(), RewriteError> {
        if let (true, Some(dims)) = (node.has_input(2) && cut.touches(), cut.dims(Port::Out(0))) {
            let changed = |(dim, old): (Dim, &Dim)| (dim != *old).then_some(dim);
            edit.demand(
                2,
                dims.into_iter()
                    .zip(node.output_shape(0).unwrap_or_default())
                    .map(changed)
                    .collect(),
            );
        }
        Ok(())
    }

    fn shape_inputs(&self, _node: &NodeView) -> Vec<u32> {
        vec![2]
    }
}

/// Pools over regions of numbered images.
enum Roi {
    /// MaxRoiPool: a region is image number and corners.
    Max,
    /// RoiAlign: the image numbers stand apart.
    Align,
}

impl Roi {
    fn size(&self, node: &NodeView) -> Option<[i64; 2]> {
        match self {
            Roi::Max => node
                .ints("pooled_shape")
                .and_then(|size| size.try_into().ok()),
            Roi::Align => Some([
                node.int("output_height").unwrap_or(1),
                node.int("output_width").unwrap_or(1),
            ]),
        }
    }
}

impl Operator for Roi {
    fn infer(&self, node: &NodeView) -> Result<Vec<Fact>, InferError> {
        let shape = match (node.shape(0), node.shape(1)) {
            (Some([_, channels, _, _]), Some([regions, _])) => {
                let [height, width] = self
                    .size(node)
                    .ok_or_else(|| InferError("the size of the output is missing".into()))?;
                Some(vec![
                    regions.clone(),
                    channels.clone(),
                    Dim::Num(height),
                    Dim::Num(width),
                ])
            }
            (Some(_), Some(_)) => return Err(InferError("regions are taken from 4 axes".into())),
            _ => None,
        };
        Ok(operand::output(node, node.dtype(0), shape))
    }

    fn relate(&self, node: &NodeView) -> Relation {
        describe_or_freeze(node, |node, builder| {
            let ([batch, channels, image @ ..], [regions, corners]) =
                (node.shape(0)?, node.shape(1)?)
            else {
                return None;
            };
            let [_, _, places @ ..] = node.output_shape(0)? else {
                return None;
            };
            let b = builder.fixed("b", batch.clone(), CHOSEN);
            let (r, c) = (
                builder.free("r", regions.clone()),
                builder.free("c", channels.clone()),
            );
            let s = fixed(builder, "s", image, &SPATIAL);
            let t = fixed(builder, "t", places, &REGION);
            let q = builder.fixed(
                "q",
                corners.clone(),
                Reason::operator("corners of a region"),
            );
            builder.port(Port::In(0), "x", join(b, c, &s, false));
            builder.port(Port::In(1), "rois", [r, q]);
            builder.port(Port::In(2), "batch_indices", [r]);
            builder.port(Port::Out(0), "y", join(r, c, &t, false));
            Some(())
        })
    }
}

/// A mean over all positions, of quantized numbers.
struct QLinearGlobalAveragePool;

impl Operator for QLinearGlobalAveragePool {
    fn infer(&self, node: &NodeView) -> Result<Vec<Fact>, InferError> {
        let last = node.int("channels_last") == Some(1);
        let shape = match node.shape(0).map(|dims| {
            parts(dims, last).ok_or_else(|| InferError("the input has no channel axis".into()))
        }) {
            None => None,
            Some(found) => {
                let (batch, channels, positions) = found?;
                Some(join(
                    batch.clone(),
                    channels.clone(),
                    &vec![Dim::Num(1); positions.len()],
                    last,
                ))
            }
        };
        Ok(operand::output(
            node,
            node.dtype(4).or(node.dtype(0)),
            shape,
        ))
    }

    fn relate(&self, node: &NodeView) -> Relation {
        describe_or_freeze(node, |node, builder| {
            let last = node.int("channels_last") == Some(1);
            let (batch, channels, positions) = parts(node.shape(0)?, last)?;
            let (b, c) = (
                builder.free("b", batch.clone()),
                builder.free("c", channels.clone()),
            );
            let s = fixed(builder, "s", positions, &SPATIAL);
            let t: Vec<LabelId> = s.iter().map(|_| builder.fill(1i64)).collect();
            builder.port(Port::In(0), "x", join(b, c, &s, last));
            quantization(builder)?;
            builder.port(Port::Out(0), "y", join(b, c, &t, last));
            Some(())
        })
    }
}

fn quantization(builder: &mut Builder) -> Option<()> {
    scalars(builder, QUANTIZED.singles)
}

pub(super) static RULES: &[Rule] = &[
    Rule::onnx("MaxPool", &FLOAT)
        .positions(Positions::Given(1))
        .constant(constant::same),
    Rule::onnx("AveragePool", &FLOAT).constant(constant::mean),
    Rule::onnx("LpPool", &FLOAT).constant(constant::zero),
    Rule::onnx("MaxUnpool", &MaxUnpool).positions(Positions::Read(1)),
    Rule::onnx("MaxRoiPool", &Roi::Max).constant(constant::zero),
    Rule::onnx("RoiAlign", &Roi::Align).constant(constant::zero),
    Rule::microsoft("NhwcMaxPool", &NHWC).constant(constant::same),
    Rule::microsoft("QLinearAveragePool", &QUANTIZED).counts_steps(),
    Rule::microsoft("QLinearGlobalAveragePool", &QLinearGlobalAveragePool).counts_steps(),
];

#[cfg(test)]
mod tests {
    use crate::ops::Operator;
    use crate::ops::case::OpCase;

    #[test]
    fn windows() {
        let pool = |input: &str| {
            OpCase::op("MaxPool")
                .input(input)
                .ints("kernel_shape", &[3, 3])
                .ints("strides", &[2, 2])
        };
        pool("bx8xhx8")
            .ints("pads", &[1; 4])
            .expect_shapes("bx8xfloor((h + 1)/(2))x4")
            .expect_relation("x[b, c, s, s2] → y[b, c, t, t2]");
        pool("1x8x8x9").int("ceil_mode", 1).expect_shapes("1x8x4x4");
        pool("1x8xhx9")
            .int("ceil_mode", 1)
            .expect_shapes("1x8xfloor((h)/(2))x4");
        pool("1x8x8x9")
            .ints("dilations", &[2, 3])
            .expect_shapes("1x8x2x2");
        pool("1x8x8x9")
            .text("auto_pad", "SAME_UPPER")
            .expect_shapes("1x8x4x5");
        OpCase::op("AveragePool")
            .input("1x8x10")
            .ints("kernel_shape", &[4])
            .expect_shapes("1x8x7")
            .expect_relation("x[b, c, s] → y[b, c, t]");
        OpCase::op("LpPool")
            .input("1x8x4x5x6")
            .ints("kernel_shape", &[2, 2, 2])
            .expect_shapes("1x8x3x4x5");
    }

    #[test]
    fn a_window_that_starts_in_the_last_padding_is_left_out() {
        let pool = || {
            OpCase::op("AveragePool")
                .ints("kernel_shape", &[2])
                .ints("strides", &[3])
                .ints("pads", &[1, 1])
                .int("ceil_mode", 1)
        };
        pool().input("1x1x5").expect_shapes("1x1x2");
        pool().input("1x1x6").expect_shapes("1x1x3");
    }

    #[test]
    fn indices_fix_the_channels() {
        let pool = OpCase::op("MaxPool")
            .input("1x8x8x8")
            .ints("kernel_shape", &[2, 2])
            .ints("strides", &[2, 2])
            .outputs(2);
        let pool = pool
            .expect_shapes("1x8x4x4 1x8x4x4")
            .expect_relation("x[b, c, s, s2] → y[b, c, t, t2] indices[b, c, t, t2]");
        let relation = pool.view(|view| crate::ops::Operator::relate(&super::FLOAT, view));
        let fixed = relation
            .labels
            .iter()
            .all(|label| matches!(label.fate, crate::relation::Fate::Fixed(_)));
        assert!(fixed);
        let unpool = OpCase::op("MaxUnpool")
            .input("1x8x4x4")
            .input("i64:1x8x4x4")
            .ints("kernel_shape", &[2, 2])
            .ints("strides", &[2, 2]);
        // What does not fit is frozen, without a place for its indices.
        let described = |case: &OpCase| {
            let relation = case.view(|view| super::MaxUnpool.relate(view));
            relation.named("t").is_some()
        };
        assert!(described(&unpool));
        unpool
            .expect_shapes("1x8x8x8")
            .expect_relation("x[b, c, s, s2] indices[b, c, s, s2] → y[b, c, t, t2]");
        for indices in ["i64:8", "i64:1x4x4x4", "i64:2x8x4x4"] {
            let misfit = OpCase::op("MaxUnpool")
                .input("1x8x4x4")
                .input(indices)
                .ints("kernel_shape", &[2, 2]);
            assert!(!described(&misfit), "{indices}");
        }
    }

    #[test]
    fn regions() {
        let align = OpCase::op("RoiAlign")
            .input("2x8x9x9")
            .input("rx4")
            .input("i64:r")
            .int("output_height", 3)
            .int("output_width", 5);
        align
            .expect_shapes("rx8x3x5")
            .expect_relation("x[b, c, s, s2] rois[r, q] batch_indices[r] → y[r, c, t, t2]");
        let pool = OpCase::op("MaxRoiPool")
            .input("2x8x9x9")
            .input("7x5")
            .ints("pooled_shape", &[3, 3]);
        pool.expect_shapes("7x8x3x3")
            .expect_relation("x[b, c, s, s2] rois[r, q] → y[r, c, t, t2]");
    }

    #[test]
    fn quantized() {
        let start = |op| {
            OpCase::op(op)
                .domain("com.microsoft")
                .at(1)
                .input("u8:1x8x5x5")
                .weight("")
                .weight("u8:")
                .weight("")
                .weight("u8:")
        };
        start("QLinearGlobalAveragePool")
            .expect_shapes("1x8x1x1")
            .expect_relation(
                "x[b, c, s, s2] x_scale[] x_zero[] y_scale[] y_zero[] → y[b, c, 1, 1]",
            );
        start("QLinearAveragePool")
            .ints("kernel_shape", &[2, 2])
            .expect_shapes("1x8x4x4");
        let nhwc = OpCase::op("NhwcMaxPool")
            .domain("com.microsoft")
            .at(1)
            .input("u8:1x5x5x8")
            .ints("kernel_shape", &[2, 2]);
        nhwc.expect_shapes("1x4x4x8")
            .expect_relation("x[b, s, s2, c] → y[b, t, t2, c]");
    }
}
