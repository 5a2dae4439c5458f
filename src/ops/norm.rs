//! Normalisations by statistics: which entries a mean spans decides what may go without loss.

use super::edit::set_extent;
use super::meaning::{Flow, StoredStatistics};
use super::operand::{self, aligned, describe_or_freeze, gives, layouts, per_axis};
use super::{Cut, InferError, NodeEdit, NodeView, Operator, RewriteError, Rule};
use crate::facts::{Dim, Fact};
use crate::relation::{LabelId, Layout, Port, Reason, Relation};

/// Why entries that statistics span go only at a loss.
pub(super) const SPANNED: Reason = Reason::operator("mean and variance span it");
const BATCH: Reason = Reason::operator("statistics of the batch");
const NEIGHBOURS: Reason = Reason::operator("each channel is divided by a sum over its neighbours");

/// The shape and type of an input.
pub(super) fn like(node: &NodeView, input: usize) -> Fact {
    Fact {
        contents: None,
        ..node.input(input).cloned().unwrap_or_default()
    }
}

/// BatchNormalization: every channel for itself.
struct BatchNormalization;

impl BatchNormalization {
    /// Errors: the parameters do not fit the channels. A tensor of one axis has one channel.
    fn fits(node: &NodeView) -> Result<(), InferError> {
        let one = [Dim::Num(1)];
        let places = match node.shape(0) {
            None => return Ok(()),
            Some([]) => return Err(InferError("a single number has no channels".into())),
            Some([_]) => &one,
            Some([_, places @ ..]) => places,
        };
        for (input, dims) in (1..5).filter_map(|input| Some((input, node.shape(input)?))) {
            let fits = !dims.is_empty()
                && dims.len() <= places.len()
                && dims
                    .iter()
                    .zip(places)
                    .all(|(dim, place)| !dim.differs(place));
            if !fits {
                return Err(InferError(format!(
                    "input {input} does not fit the channels"
                )));
            }
        }
        Ok(())
    }
}

impl Operator for BatchNormalization {
    fn infer(&self, node: &NodeView) -> Result<Vec<Fact>, InferError> {
        Self::fits(node)?;
        let statistic = |input| Fact {
            dtype: node.dtype(input).or(node.dtype(0)),
            ..like(node, input)
        };
        Ok(operand::outputs(
            node,
            [
                like(node, 0),
                statistic(3),
                statistic(4),
                statistic(3),
                statistic(4),
            ],
        ))
    }

    fn relate(&self, node: &NodeView) -> Relation {
        describe_or_freeze(node, |node, builder| {
            let dims = node.shape(0)?;
            let [batch, channels, positions @ ..] = dims else {
                return None;
            };
            let training =
                node.int("training_mode").unwrap_or(0) != 0 || (node.opset < 14 && gives(node, 1));
            let b = builder.free("b", batch.clone());
            let c = builder.free("c", channels.clone());
            let s = operand::free(builder, "s", positions);
            if training {
                builder.fix(b, BATCH);
                s.iter().for_each(|label| builder.fix(*label, BATCH));
            }
            let axes: Vec<LabelId> = [b, c].into_iter().chain(s).collect();
            builder.port(Port::In(0), "x", axes.clone());
            // Before version 9 `spatial = 0` asks for one parameter per channel and position.
            let parameter = |rank: usize| axes.get(1..1 + rank).map(layouts);
            for (input, name) in [(1, "scale"), (2, "bias"), (3, "mean"), (4, "var")] {
                let Some(rank) = node.shape(input).map(<[Dim]>::len) else {
                    continue;
                };
                let extents = dims.get(1..1 + rank)?;
                aligned(builder, input as u32, name, &parameter(rank)?, extents)?;
            }
            builder.port(Port::Out(0), "y", axes.clone());
            for (output, name) in [(1, "mean"), (2, "var"), (3, "saved_mean"), (4, "saved_var")] {
                if let Some(rank) = node.output_shape(output).map(<[Dim]>::len) {
                    builder.port(Port::Out(output as u32), name, parameter(rank)?);
                }
            }
            Some(())
        })
    }

    fn is_entrywise(&self) -> bool {
        true
    }
}

/// InstanceNormalization: every channel of every sample for itself.
struct InstanceNormalization;

impl Operator for InstanceNormalization {
    fn infer(&self, node: &NodeView) -> Result<Vec<Fact>, InferError> {
        operand::at_least(node, 0, 2)?;
        if let Some([_, channels, ..]) = node.shape(0) {
            operand::lists(node, 1..3, channels)?;
        }
        Ok(operand::outputs(node, [like(node, 0)]))
    }

    fn relate(&self, node: &NodeView) -> Relation {
        describe_or_freeze(node, |node, builder| {
            let [batch, channels, positions @ ..] = node.shape(0)? else {
                return None;
            };
            let (b, c) = (
                builder.free("b", batch.clone()),
                builder.free("c", channels.clone()),
            );
            let s = positions
                .iter()
                .map(|dim| builder.lossy("s", dim.clone(), SPANNED));
            let axes: Vec<LabelId> = [b, c].into_iter().chain(s).collect();
            builder.port(Port::In(0), "x", axes.clone());
            per_axis(builder, 1, "scale", &c.into(), channels)?;
            per_axis(builder, 2, "bias", &c.into(), channels)?;
            builder.port(Port::Out(0), "y", axes);
            Some(())
        })
    }
}

/// GroupNormalization: groups are normalised each for itself.
struct GroupNormalization;

impl Operator for GroupNormalization {
    fn infer(&self, node: &NodeView) -> Result<Vec<Fact>, InferError> {
        operand::at_least(node, 0, 2)?;
        let groups = Dim::Num(
            node.int("num_groups")
                .filter(|groups| *groups > 0)
                .ok_or_else(|| InferError("num_groups is missing".into()))?,
        );
        if let Some([_, channels, ..]) = node.shape(0) {
            operand::lists(node, 1..3, if node.opset < 21 { &groups } else { channels })?;
        }
        Ok(operand::outputs(node, [like(node, 0)]))
    }

    fn relate(&self, node: &NodeView) -> Relation {
        describe_or_freeze(node, |node, builder| {
            let [batch, channels, positions @ ..] = node.shape(0)? else {
                return None;
            };
            let groups = node.int("num_groups").filter(|groups| *groups > 0)?;
            let inner = channels.exact_div(&Dim::Num(groups))?;
            let b = builder.free("b", batch.clone());
            let g = builder.free("g", groups);
            let k = builder.lossy("k", inner, SPANNED);
            let s: Vec<LabelId> = positions
                .iter()
                .map(|dim| builder.lossy("s", dim.clone(), SPANNED))
                .collect();
            let axes = || {
                [Layout::from(b), Layout::product(&[g, k])]
                    .into_iter()
                    .chain(layouts(&s))
            };
            builder.port(Port::In(0), "x", axes());
            let (of, extent) = if node.opset < 21 {
                (Layout::from(g), Dim::Num(groups))
            } else {
                (Layout::product(&[g, k]), channels.clone())
            };
            per_axis(builder, 1, "scale", &of, &extent)?;
            per_axis(builder, 2, "bias", &of, &extent)?;
            builder.port(Port::Out(0), "y", axes());
            Some(())
        })
    }

    fn rewrite(
        &self,
        _node: &NodeView,
        cut: &Cut,
        edit: &mut NodeEdit,
    ) -> Result<(), RewriteError> {
        set_extent(cut, edit, "g", "num_groups")
    }
}

/// LRN: sums of squares over neighbouring channels.
struct Lrn;

impl Operator for Lrn {
    fn infer(&self, node: &NodeView) -> Result<Vec<Fact>, InferError> {
        operand::at_least(node, 0, 2)?;
        Ok(operand::outputs(node, [like(node, 0)]))
    }

    fn relate(&self, node: &NodeView) -> Relation {
        describe_or_freeze(node, |node, builder| {
            let [batch, channels, positions @ ..] = node.shape(0)? else {
                return None;
            };
            let b = builder.free("b", batch.clone());
            // What goes out of a sum is missing there, and those behind it move up: a statistic, like those of other norms.
            let c = builder.lossy("c", channels.clone(), NEIGHBOURS);
            let axes: Vec<LabelId> = [b, c]
                .into_iter()
                .chain(operand::free(builder, "s", positions))
                .collect();
            builder.port(Port::In(0), "x", axes.clone());
            builder.port(Port::Out(0), "y", axes);
            Some(())
        })
    }
}

/// MeanVarianceNormalization: over chosen axes.
struct MeanVariance;

impl Operator for MeanVariance {
    fn infer(&self, node: &NodeView) -> Result<Vec<Fact>, InferError> {
        if let Some(dims) = node.shape(0)
            && let Some(axis) = node
                .ints("axes")
                .unwrap_or(&[0, 2, 3])
                .iter()
                .find(|axis| NodeView::axis(**axis, dims.len()).is_none())
        {
            return Err(InferError(format!(
                "axis {axis} of a tensor of {} axes",
                dims.len()
            )));
        }
        Ok(operand::outputs(node, [like(node, 0)]))
    }

    fn relate(&self, node: &NodeView) -> Relation {
        describe_or_freeze(node, |node, builder| {
            let dims = node.shape(0)?;
            let spanned = node
                .ints("axes")
                .unwrap_or(&[0, 2, 3])
                .iter()
                .map(|axis| NodeView::axis(*axis, dims.len()));
            let spanned = spanned.collect::<Option<Vec<usize>>>()?;
            let axes: Vec<LabelId> = dims
                .iter()
                .enumerate()
                .map(|(at, dim)| match spanned.contains(&at) {
                    true => builder.lossy("s", dim.clone(), SPANNED),
                    false => builder.free("p", dim.clone()),
                })
                .collect();
            builder.port(Port::In(0), "x", axes.clone());
            builder.port(Port::Out(0), "y", axes);
            Some(())
        })
    }
}

/// The inputs of BatchNormalization.
const STATISTICS: StoredStatistics = StoredStatistics {
    scale: 1,
    shift: 2,
    mean: 3,
    variance: 4,
};

pub(super) static RULES: &[Rule] = &[
    Rule::onnx("BatchNormalization", &BatchNormalization)
        .flow(Flow::Normalised)
        .statistics(STATISTICS)
        .normalises(),
    Rule::onnx("InstanceNormalization", &InstanceNormalization).normalises(),
    Rule::onnx("GroupNormalization", &GroupNormalization).normalises(),
    Rule::onnx("LRN", &Lrn),
    Rule::onnx("MeanVarianceNormalization", &MeanVariance).normalises(),
];

#[cfg(test)]
mod tests {
    use crate::ops::case::OpCase;

    #[test]
    fn batch() {
        let start = |opset| {
            OpCase::op("BatchNormalization")
                .at(opset)
                .input("bx8xhxw")
                .weight("8")
                .weight("8")
                .weight("8")
                .weight("8")
        };
        let text = "x[b, c, s, s2] scale[c] bias[c] mean[c] var[c] → y[b, c, s, s2]";
        start(15).expect_shapes("bx8xhxw").expect_relation(text);
        start(9).expect_shapes("bx8xhxw").expect_relation(text);
        start(15)
            .int("training_mode", 1)
            .outputs(3)
            .expect_shapes("bx8xhxw 8 8")
            .expect_relation(&format!("{text} mean[c] var[c]"));
        start(9)
            .outputs(5)
            .expect_shapes("bx8xhxw 8 8 8 8")
            .expect_relation(&format!("{text} mean[c] var[c] saved_mean[c] saved_var[c]"));
        let start = OpCase::op("BatchNormalization")
            .at(7)
            .int("spatial", 0)
            .input("2x8x3")
            .weight("8x3")
            .weight("8x3");
        start
            .weight("8x3")
            .weight("8x3")
            .expect_shapes("2x8x3")
            .expect_relation("x[b, c, s] scale[c, s] bias[c, s] mean[c, s] var[c, s] → y[b, c, s]");
    }

    #[test]
    fn instance_and_group() {
        let start = OpCase::op("InstanceNormalization")
            .input("bx8xhxw")
            .weight("8")
            .weight("8");
        start
            .expect_shapes("bx8xhxw")
            .expect_relation("x[b, c, s, s2] scale[c] bias[c] → y[b, c, s, s2]");
        let group = |opset, of| {
            OpCase::op("GroupNormalization")
                .at(opset)
                .int("num_groups", 2)
                .input("bx8xhxw")
                .weight(of)
                .weight(of)
        };
        group(18, "2")
            .expect_shapes("bx8xhxw")
            .expect_relation("x[b, g·k, s, s2] scale[g] bias[g] → y[b, g·k, s, s2]");
        group(21, "8")
            .expect_shapes("bx8xhxw")
            .expect_relation("x[b, g·k, s, s2] scale[g·k] bias[g·k] → y[b, g·k, s, s2]");
    }

    #[test]
    fn a_norm_without_channels_or_with_too_few_numbers_is_a_misfit() {
        let norm = |input: &str, numbers: &str| {
            let start = OpCase::op("BatchNormalization").at(15).input(input);
            start
                .weight(numbers)
                .weight(numbers)
                .weight(numbers)
                .weight(numbers)
                .problem()
        };
        assert!(norm("", "8").is_some() && norm("8", "8").is_some() && norm("2x8", "7").is_some());
        assert_eq!(
            (norm("8", "1"), norm("2x8", "8"), norm("bx8xs", "8")),
            (None, None, None)
        );
        let instance = |input: &str| {
            OpCase::op("InstanceNormalization")
                .input(input)
                .weight("8")
                .weight("8")
                .problem()
        };
        assert!(
            instance("8").is_some() && instance("2x8x3").is_none() && instance("2x7x3").is_some()
        );
        assert!(
            OpCase::op("LRN")
                .input("8")
                .int("size", 3)
                .problem()
                .is_some()
        );
    }

    #[test]
    fn across_channels_and_chosen_axes() {
        OpCase::op("LRN")
            .input("1x8x4x4")
            .int("size", 3)
            .expect_shapes("1x8x4x4")
            .expect_relation("x[b, c, s, s2] → y[b, c, s, s2]");
        OpCase::op("MeanVarianceNormalization")
            .input("1x8x4x4")
            .expect_shapes("1x8x4x4")
            .expect_relation("x[s, p, s2, s3] → y[s, p, s2, s3]");
    }
}
