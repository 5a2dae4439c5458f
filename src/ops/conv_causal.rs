//! The causal convolution of state-space models, which carries its past from call to call.

use super::operand::{self, per_axis};
use super::window::{KERNEL, SPATIAL};
use super::{InferError, NodeView, Operator, Rule};
use crate::facts::{Dim, Fact};
use crate::relation::{Builder, LabelId, Layout, Port, Reason, Relation, Term};

/// A depthwise convolution over the past, which it hands on.
struct CausalConv;

/// Where channels and positions are.
struct Axes<'a> {
    batch: &'a Dim,
    channels: &'a [Dim],
    positions: &'a [Dim],
    kernel: &'a [Dim],
    /// Whether channels come behind the positions.
    last: bool,
    /// How many positions the state holds.
    held: Dim,
    /// States of as many last positions; 0: of the last one only, without an axis of their own.
    window: i64,
}

impl<'a> Axes<'a> {
    fn of(node: &NodeView<'a>) -> Option<Self> {
        let ([batch, rest @ ..], [_, _, kernel @ ..]) = (node.shape(0)?, node.shape(1)?) else {
            return None;
        };
        let set = |name, usual| node.int(name).unwrap_or(usual) != usual;
        // A slice of the channels, or another state.
        if [
            ("state_update_capacity", 0),
            ("state_channels_last", -1),
            ("state_length", 0),
            ("input_channel_offset", 0),
            ("input_channels", 0),
        ]
        .into_iter()
        .any(|(name, usual)| set(name, usual))
        {
            return None;
        }
        let last = set("channels_last", 0);
        let (positions, channels) = match last {
            true => rest.split_at_checked(1)?,
            false => rest
                .split_at_checked(1)
                .map(|(channels, positions)| (positions, channels))?,
        };
        let held = &(kernel.last()? - &Dim::Num(1)) * &Dim::Num(node.int("dilation").unwrap_or(1));
        let window = node.int("state_window").unwrap_or(0).max(0);
        (positions.len() == kernel.len() && !channels.is_empty()).then_some(Axes {
            batch,
            channels,
            positions,
            kernel,
            last,
            held,
            window,
        })
    }

    /// The extents of a state.
    fn state(&self) -> Vec<Dim> {
        let window = (self.window > 0).then_some(Dim::Num(self.window));
        let before = self
            .positions
            .split_last()
            .map_or(&[][..], |(_, before)| before);
        let held = before.iter().chain([&self.held]);
        let rest: Vec<&Dim> = if self.last {
            held.chain(self.channels).collect()
        } else {
            self.channels.iter().chain(held).collect()
        };
        window
            .into_iter()
            .chain([self.batch.clone()])
            .chain(rest.into_iter().cloned())
            .collect()
    }
}

impl Axes<'_> {
    /// How many channels each row of the weight sums over. `None`: weights or states are others.
    fn depthwise(&self, node: &NodeView) -> Option<Dim> {
        let expected = self.state();
        let fits = |dims: &[Dim]| {
            dims.len() == expected.len()
                && !dims
                    .iter()
                    .zip(&expected)
                    .any(|(dim, state)| dim.differs(state))
        };
        let states = [node.shape(3), node.output_shape(1)];
        if states.into_iter().flatten().any(|dims| !fits(dims)) {
            return None;
        }
        let [rows, one, ..] = node.shape(1)? else {
            return None;
        };
        (!rows.differs(&Dim::product(self.channels))).then(|| one.clone())
    }

    /// Describes ports and sums; a row of the weight sums over `one` channel.
    fn describe(&self, builder: &mut Builder, one: Dim) -> Option<()> {
        let b = builder.free("b", self.batch.clone());
        let c = operand::free(builder, "c", self.channels);
        let s = operand::fixed(builder, "s", self.positions, &SPATIAL);
        let i = builder.fixed("i", one, Reason::operator("a depthwise weight"));
        let k = operand::fixed(builder, "k", self.kernel, &KERNEL);
        let q = builder.fixed("q", self.held.clone(), SPATIAL);
        let w = (self.window > 0).then(|| builder.fixed("w", self.window, SPATIAL));
        let before = s.split_last().map_or(&[][..], |(_, before)| before);
        let order = |positions: &[LabelId]| {
            if self.last {
                [positions, &c].concat()
            } else {
                [&c, positions].concat()
            }
        };
        let data: Vec<LabelId> = [vec![b], order(&s)].concat();
        let state: Vec<LabelId> = w
            .into_iter()
            .chain([b])
            .chain(order(&[before, &[q]].concat()))
            .collect();
        let all = Layout::product(&c);
        builder.port(Port::In(0), "x", data.clone());
        builder.port(
            Port::In(1),
            "w",
            [all.clone(), i.into()]
                .into_iter()
                .chain(k.iter().map(|label| Layout::from(*label))),
        );
        per_axis(builder, 2, "bias", &all, &Dim::product(self.channels))?;
        builder.port(Port::In(3), "past", state.clone());
        builder.port(Port::Out(0), "y", data.clone());
        builder.port(Port::Out(1), "present", state);
        let labels = [data, k.clone()].concat();
        builder.term(Term {
            data: Port::In(0),
            weight: Some(Port::In(1)),
            zero: None,
            labels,
            summed: k,
            window: None,
        });
        Some(())
    }
}

impl Operator for CausalConv {
    fn infer(&self, node: &NodeView) -> Result<Vec<Fact>, InferError> {
        let dtype = node.dtype(0);
        let axes = Axes::of(node);
        let shape = node
            .shape(0)
            .filter(|_| axes.is_some() || node.int("input_channels").unwrap_or(0) == 0)
            .map(<[Dim]>::to_vec);
        // Where the state of several axes lies is not said.
        let state = axes
            .filter(|axes| axes.positions.len() == 1)
            .map(|axes| axes.state());
        Ok(operand::outputs(
            node,
            [
                Fact {
                    dtype,
                    shape,
                    contents: None,
                },
                Fact {
                    dtype,
                    shape: state,
                    contents: None,
                },
            ],
        ))
    }

    fn relate(&self, node: &NodeView) -> Relation {
        operand::describe_or_freeze(node, |node, builder| {
            let axes = Axes::of(node)?;
            let one = axes.depthwise(node)?;
            axes.describe(builder, one)
        })
    }
}

pub(super) static RULES: &[Rule] = &[
    Rule::onnx("CausalConvWithState", &CausalConv),
    Rule::microsoft("CausalConvWithState", &CausalConv),
];

#[cfg(test)]
mod tests {
    use crate::ops::case::OpCase;

    #[test]
    fn causal() {
        let start = OpCase::op("CausalConvWithState")
            .at(27)
            .input("bx8xn")
            .weight("8x1x4")
            .weight("8")
            .input("bx8x3")
            .outputs(2);
        start.expect_shapes("bx8xn bx8x3").expect_relation(
            "x[b, c, s] w[c, i, k] bias[c] past[b, c, q] → y[b, c, s] present[b, c, q]  Σ k",
        );
    }

    #[test]
    fn channels_last_and_dilated() {
        let start = || {
            OpCase::op("CausalConvWithState")
                .domain("com.microsoft")
                .at(1)
                .outputs(2)
        };
        let last = start()
            .int("channels_last", 1)
            .int("dilation", 2)
            .int("state_window", 2)
            .input("bxnx2x4")
            .weight("8x1x4")
            .none();
        last.input("2xbx6x2x4")
            .expect_shapes("bxnx2x4 2xbx6x2x4")
            .expect_relation("x[b, s, c, c2] w[c·c2, i, k] past[w, b, q, c, c2] → y[b, s, c, c2] present[w, b, q, c, c2]  Σ k");
        let plane = start()
            .int("ndim", 2)
            .input("bx8x5xn")
            .weight("8x1x3x3")
            .expect_shapes("bx8x5xn ?");
        plane.expect_relation("x[b, c, s, s2] w[c, i, k, k2] → y[b, c, s, s2]  Σ k,k2");
    }
}
