//! The causal convolution of state-space models, which carries its past from call to call.

use super::operand::{self, along};
use super::window::{KERNEL, SPATIAL};
use super::{InferError, NodeView, Operator, Rule};
use crate::facts::{Dim, Fact};
use crate::relation::{Port, Reason, Relation, Term};

/// A depthwise convolution over the past, which it hands on.
struct CausalConv;

impl CausalConv {
    fn state(node: &NodeView) -> Option<Vec<Dim>> {
        let ([batch, channels, _], [_, _, kernel]) = (node.shape(0)?, node.shape(1)?) else { return None };
        Some(vec![batch.clone(), channels.clone(), kernel - &Dim::Num(1)])
    }
}

impl Operator for CausalConv {
    fn infer(&self, node: &NodeView) -> Result<Vec<Fact>, InferError> {
        let dtype = node.dtype(0);
        let windowed = node.int("state_window").unwrap_or(0) != 0;
        let state = Self::state(node).filter(|_| !windowed);
        Ok(operand::outputs(
            node,
            [Fact { dtype, shape: node.shape(0).map(<[Dim]>::to_vec), contents: None }, Fact { dtype, shape: state, contents: None }],
        ))
    }

    fn relate(&self, node: &NodeView) -> Relation {
        operand::placed(node, |node, builder| {
            let ([batch, channels, length], [_, one, kernel]) = (node.shape(0)?, node.shape(1)?) else { return None };
            let past = Self::state(node).filter(|_| node.int("state_window").unwrap_or(0) == 0)?;
            let (b, c) = (builder.free("b", batch.clone()), builder.free("c", channels.clone()));
            let s = builder.fixed("s", length.clone(), SPATIAL);
            let i = builder.fixed("i", one.clone(), Reason::operator("a depthwise weight"));
            let k = builder.fixed("k", kernel.clone(), KERNEL);
            let q = builder.fixed("q", past.last()?.clone(), SPATIAL);
            builder.port(Port::In(0), "x", [b, c, s]);
            builder.port(Port::In(1), "w", [c, i, k]);
            along(builder, 2, "bias", &c.into(), channels)?;
            builder.port(Port::In(3), "past", [b, c, q]);
            builder.port(Port::Out(0), "y", [b, c, s]);
            builder.port(Port::Out(1), "present", [b, c, q]);
            builder.term(Term {
                data: Port::In(0),
                weight: Some(Port::In(1)),
                zero: None,
                labels: vec![b, c, k, s],
                summed: vec![k],
                window: None,
            });
            Some(())
        })
    }
}

pub(super) static RULES: &[Rule] = &[Rule::onnx("CausalConvWithState", &CausalConv), Rule::microsoft("CausalConvWithState", &CausalConv)];

#[cfg(test)]
mod tests {
    use crate::ops::prove::Prove;

    #[test]
    fn causal() {
        let start = Prove::op("CausalConvWithState").at(27).input("bx8xn").weight("8x1x4").weight("8").input("bx8x3").outputs(2);
        start.gives("bx8xn bx8x3").relates("x[b, c, s] w[c, i, k] bias[c] past[b, c, q] → y[b, c, s] present[b, c, q]  Σ k");
    }
}
