//! Convolutions: plain, transposed, with integers, and fused with what follows.
//!
//! The channel axis is always read as groups × channels of a group: a plain convolution has one group, a depthwise
//! one has groups of one channel, and neither is a case of its own.

use super::edit::set_extent;
use super::meaning::{BiasInput, ChannelAxis, LinearMap, WeightRows};
use super::operand::{self, fixed, per_axis, scalars};
use super::window::{Geometry, KERNEL, SPATIAL};
use super::{Cut, InferError, NodeEdit, NodeView, Operator, RewriteError, Rule};
use crate::facts::{Dim, Fact};
use crate::proto::Dtype;
use crate::relation::{Builder, LabelId, Layout, Port, Reason, Relation, Term};

/// A convolution, by where its operands stand.
pub(super) struct Conv {
    weight: u32,
    bias: Option<u32>,
    /// A tensor that is added to the output.
    residual: Option<u32>,
    /// The zero point of the weight.
    zero: Option<u32>,
    /// Operands of one element.
    singles: &'static [(u32, &'static str)],
    /// Operands of one element or one per output channel.
    per_channel: &'static [(u32, &'static str)],
    /// Where the output's element type comes from: the type of an input, or always this.
    dtype: Result<u32, Dtype>,
    transposed: bool,
    /// Whether the channel axis is the last one (else the attribute `channels_last` says).
    channels_last: bool,
}

pub(super) const PLAIN: Conv = Conv {
    weight: 1,
    bias: Some(2),
    residual: None,
    zero: None,
    singles: &[],
    per_channel: &[],
    dtype: Ok(0),
    transposed: false,
    channels_last: false,
};
const TRANSPOSED: Conv = Conv {
    transposed: true,
    ..PLAIN
};
const FUSED: Conv = Conv {
    residual: Some(3),
    ..PLAIN
};
const NHWC: Conv = Conv {
    channels_last: true,
    ..FUSED
};
const INTEGER: Conv = Conv {
    bias: None,
    zero: Some(3),
    singles: &[(2, "x_zero")],
    per_channel: &[(3, "w_zero")],
    dtype: Err(Dtype::Int32),
    ..PLAIN
};
const QUANTIZED: Conv = Conv {
    weight: 3,
    bias: Some(8),
    zero: Some(5),
    singles: &[(1, "x_scale"), (2, "x_zero"), (6, "y_scale"), (7, "y_zero")],
    per_channel: &[(4, "w_scale"), (5, "w_zero")],
    dtype: Ok(7),
    ..PLAIN
};

/// The same with offsets before the bias.
pub(super) const OFFSET: Conv = Conv {
    bias: Some(3),
    ..PLAIN
};

/// Why a filter's axis loses indices at a loss.
const NEIGHBOURS: Reason = Reason::operator("neighbours are filtered together");

/// Shapes of the two operands, read once.
pub(super) struct ConvOperands<'a> {
    batch: &'a Dim,
    spatial: &'a [Dim],
    kernel: &'a [Dim],
    group: i64,
    /// Input channels of a group.
    inner: Dim,
    /// Output channels of a group.
    outer: Dim,
    last: bool,
}

impl Conv {
    pub(super) fn operands<'a>(
        &self,
        node: &NodeView<'a>,
    ) -> Result<Option<ConvOperands<'a>>, InferError> {
        let (Some(x), Some(w)) = (node.shape(0), node.shape(self.weight as usize)) else {
            return Ok(None);
        };
        let last = self.channels_last || node.int("channels_last") == Some(1);
        let (batch, channels, spatial) = match (last, x) {
            (false, [batch, channels, spatial @ ..]) | (true, [batch, spatial @ .., channels]) => {
                (batch, channels, spatial)
            }
            _ => return Err(InferError("the input has no channel axis".into())),
        };
        let [first, second, kernel @ ..] = w else {
            return Err(InferError("the weight has no channel axes".into()));
        };
        if kernel.is_empty() {
            return Err(InferError("a window without axes to slide over".into()));
        }
        if kernel.len() != spatial.len() {
            return Err(InferError(format!(
                "a weight of {} axes for an input of {}",
                w.len(),
                x.len()
            )));
        }
        let group = node.int("group").unwrap_or(1);
        let part = (group >= 1)
            .then(|| first.exact_div(&Dim::Num(group)))
            .flatten();
        let part = part.ok_or_else(|| InferError(format!("{first} channels in {group} groups")))?;
        let (inner, outer) = if self.transposed {
            (part, second.clone())
        } else {
            (second.clone(), part)
        };
        if channels.differs(&(&inner * &Dim::Num(group))) {
            return Err(InferError(format!(
                "{channels} input channels for a weight of {inner} in {group} groups"
            )));
        }
        Ok(Some(ConvOperands {
            batch,
            spatial,
            kernel,
            group,
            inner,
            outer,
            last,
        }))
    }
}

/// The window's size: from the attribute, else from the weight. `None` when it is not known.
fn geometry(node: &NodeView, kernel: &[Dim]) -> Result<Option<Geometry>, InferError> {
    let sizes: Option<Vec<i64>> = match node.ints("kernel_shape") {
        Some(sizes) if !sizes.is_empty() => Some(sizes.to_vec()),
        _ => kernel.iter().map(Dim::num).collect(),
    };
    sizes.map(|sizes| Geometry::read(node, sizes)).transpose()
}

/// The labels of a convolution.
pub(super) struct Labels {
    pub(super) b: LabelId,
    pub(super) g: LabelId,
    pub(super) i: LabelId,
    o: LabelId,
    s: Vec<LabelId>,
    k: Vec<LabelId>,
    pub(super) t: Vec<LabelId>,
}

/// Axes of an activation: batch, channels, positions, or the channels last.
fn activation(last: bool, b: LabelId, channels: &[LabelId], positions: &[LabelId]) -> Vec<Layout> {
    let mut axes = vec![Layout::from(b)];
    axes.extend(operand::layouts(positions));
    axes.insert(if last { axes.len() } else { 1 }, Layout::product(channels));
    axes
}

impl Operator for Conv {
    fn infer(&self, node: &NodeView) -> Result<Vec<Fact>, InferError> {
        let dtype = self.dtype.map_or_else(Some, |input| {
            node.dtype(input as usize).or_else(|| node.dtype(0))
        });
        let Some(at) = self.operands(node)? else {
            return Ok(operand::output(node, dtype, None));
        };
        let positions = match geometry(node, at.kernel)? {
            Some(geometry) if self.transposed => geometry.spread(node, at.spatial)?,
            Some(geometry) => geometry.slide(at.spatial)?,
            None => (0..at.spatial.len())
                .map(|axis| node.unknown(0, axis + if at.last { 1 } else { 2 }))
                .collect(),
        };
        let mut shape = vec![at.batch.clone()];
        shape.extend(positions);
        shape.insert(
            if at.last { shape.len() } else { 1 },
            &at.outer * &Dim::Num(at.group),
        );
        Ok(operand::output(node, dtype, Some(shape)))
    }

    fn relate(&self, node: &NodeView) -> Relation {
        operand::describe_or_freeze(node, |node, builder| {
            let at = self.operands(node).ok().flatten()?;
            let labels = self.labels(node, builder, &at)?;
            self.describe(node, builder, &at, &labels)?;
            builder.term(self.term(node, &at, &labels));
            Some(())
        })
    }

    fn rewrite(
        &self,
        _node: &NodeView,
        cut: &Cut,
        edit: &mut NodeEdit,
    ) -> Result<(), RewriteError> {
        set_extent(cut, edit, "g", "group")
    }
}

impl Conv {
    /// Whether this is a filter of one map, or of the greatest and the mean of several, whose every index gives one of the same
    /// place: channels that look at their neighbours (efficient channel attention; triplet attention, turned by a right angle).
    /// Without some, others are neighbours.
    fn filter(&self, node: &NodeView, at: &ConvOperands, positions: &[Dim]) -> bool {
        let few = at.inner.num().is_some_and(|maps| maps <= 2);
        let one = at.group == 1
            && few
            && at.outer.is_one()
            && !self.transposed
            && self.residual.is_none();
        let steps = node
            .ints("strides")
            .unwrap_or_default()
            .iter()
            .all(|stride| *stride == 1);
        one && steps && at.spatial == positions
    }

    pub(super) fn labels(
        &self,
        node: &NodeView,
        builder: &mut Builder,
        at: &ConvOperands,
    ) -> Option<Labels> {
        let positions = match (at.last, node.output_shape(0)?) {
            (false, [_, _, positions @ ..]) | (true, [_, positions @ .., _]) => positions,
            _ => return None,
        };
        let filter = self.filter(node, at, positions);
        let s = if filter {
            at.spatial
                .iter()
                .map(|extent| builder.lossy("s", extent.clone(), NEIGHBOURS))
                .collect()
        } else {
            fixed(builder, "s", at.spatial, &SPATIAL)
        };
        let t = if filter {
            s.clone()
        } else {
            fixed(builder, "t", positions, &SPATIAL)
        };
        Some(Labels {
            b: builder.free("b", at.batch.clone()),
            g: builder.free("g", at.group),
            i: builder.free("i", at.inner.clone()),
            o: builder.free("o", at.outer.clone()),
            s,
            k: fixed(builder, "k", at.kernel, &KERNEL),
            t,
        })
    }

    pub(super) fn describe(
        &self,
        node: &NodeView,
        builder: &mut Builder,
        at: &ConvOperands,
        labels: &Labels,
    ) -> Option<()> {
        let Labels {
            b,
            g,
            i,
            o,
            s,
            k,
            t,
        } = labels;
        let out = Layout::product(&[*g, *o]);
        let width = &at.outer * &Dim::Num(at.group);
        builder.port(Port::In(0), "x", activation(at.last, *b, &[*g, *i], s));
        let channels = if self.transposed {
            [Layout::product(&[*g, *i]), (*o).into()]
        } else {
            [out.clone(), (*i).into()]
        };
        builder.port(
            Port::In(self.weight),
            "w",
            channels.into_iter().chain(operand::layouts(k)),
        );
        scalars(builder, self.singles)?;
        for (input, name) in self.per_channel {
            per_axis(builder, *input, name, &out, &width)?;
        }
        if let Some(bias) = self.bias {
            per_axis(builder, bias, "bias", &out, &width)?;
        }
        let y = activation(at.last, *b, &[*g, *o], t);
        if let Some(residual) = self.residual {
            operand::aligned(builder, residual, "z", &y, node.output_shape(0)?)?;
        }
        builder.port(Port::Out(0), "y", y);
        Some(())
    }

    /// A convolution sums over channels and window. A transposed one sums over channels only, once for every position
    /// of the window and of the input, and then adds up what falls on the same place: no window slides over its input.
    pub(super) fn term(&self, node: &NodeView, at: &ConvOperands, labels: &Labels) -> Term {
        let Labels {
            b,
            g,
            i,
            o,
            s,
            k,
            t,
        } = labels;
        let positions = if self.transposed { s } else { t };
        let geometry = geometry(node, at.kernel)
            .ok()
            .flatten()
            .filter(|_| !self.transposed);
        Term {
            data: Port::In(0),
            weight: Some(Port::In(self.weight)),
            zero: self
                .zero
                .filter(|zero| node.has_input(*zero as usize))
                .map(Port::In),
            labels: [*b, *g, *o, *i]
                .iter()
                .chain(k)
                .chain(positions)
                .copied()
                .collect(),
            summed: if self.transposed {
                vec![*i]
            } else {
                std::iter::once(*i).chain(k.iter().copied()).collect()
            },
            window: geometry.map(|geometry| geometry.window(at.spatial)),
        }
    }
}

/// Sums over input channels and the window.
const PRODUCT: LinearMap = LinearMap {
    bias: Some(BiasInput {
        input: 2,
        factor: None,
    }),
    rows: WeightRows::First,
    channels: Some(ChannelAxis::Second),
};
/// The same with the weight's first two axes the other way round.
const TRANSPOSED_PRODUCT: LinearMap = LinearMap {
    rows: WeightRows::Grouped,
    ..PRODUCT
};

pub(super) static RULES: &[Rule] = &[
    Rule::onnx("Conv", &PLAIN).product(PRODUCT),
    Rule::onnx("ConvTranspose", &TRANSPOSED).product(TRANSPOSED_PRODUCT),
    Rule::onnx("ConvInteger", &INTEGER).counts_steps(),
    Rule::onnx("QLinearConv", &QUANTIZED).counts_steps(),
    Rule::microsoft("FusedConv", &FUSED),
    Rule::microsoft("NhwcConv", &NHWC),
    Rule::microsoft("NhwcFusedConv", &NHWC),
    Rule::microsoft("QLinearConv", &QUANTIZED).counts_steps(),
];

#[cfg(test)]
mod tests;
