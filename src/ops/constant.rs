//! What operators of one input make of one number: where that input is the same number everywhere that a stretch of the output is
//! computed from, so is that stretch. `None`: it is not, or not for this number.

use crate::model::edit::NodeExt;
use crate::proto::NodeProto;

fn attribute(node: &NodeProto, name: &str, default: f64) -> f64 {
    node.float(name).map_or(default, f64::from)
}

/// Nothing is known but that zero stays zero.
pub(super) fn zero(_: &NodeProto, x: f64) -> Option<f64> {
    (x == 0.0).then_some(0.0)
}

/// The same where there are no further inputs.
pub(super) fn zero_alone(node: &NodeProto, x: f64) -> Option<f64> {
    (node.input.len() == 1).then(|| zero(node, x))?
}

/// The same where nothing else is put beyond the border.
pub(super) fn zero_within(node: &NodeProto, x: f64) -> Option<f64> {
    (attribute(node, "extrapolation_value", 0.0) == 0.0).then(|| zero(node, x))?
}

pub(super) fn same(_: &NodeProto, x: f64) -> Option<f64> {
    Some(x)
}

/// The mean within a window, unless that counts zeros beyond the border.
pub(super) fn mean(node: &NodeProto, x: f64) -> Option<f64> {
    let counts = ["count_include_pad", "ceil_mode"]
        .iter()
        .any(|name| node.int_or(name, 0) != 0);
    (x == 0.0 || !counts).then_some(x)
}

pub(super) fn negated(_: &NodeProto, x: f64) -> Option<f64> {
    Some(-x)
}

pub(super) fn root(_: &NodeProto, x: f64) -> Option<f64> {
    (x >= 0.0).then(|| x.sqrt())
}

pub(super) fn exponential(_: &NodeProto, x: f64) -> Option<f64> {
    Some(x.exp())
}

pub(super) fn sigmoid(_: &NodeProto, x: f64) -> Option<f64> {
    Some(1.0 / (1.0 + (-x).exp()))
}

pub(super) fn tangent(_: &NodeProto, x: f64) -> Option<f64> {
    Some(x.tanh())
}

pub(super) fn softplus(_: &NodeProto, x: f64) -> Option<f64> {
    Some(x.exp().ln_1p())
}

pub(super) fn softsign(_: &NodeProto, x: f64) -> Option<f64> {
    Some(x / (1.0 + x.abs()))
}

pub(super) fn mish(node: &NodeProto, x: f64) -> Option<f64> {
    Some(x * softplus(node, x)?.tanh())
}

/// x · sigmoid(α x).
pub(super) fn swish(node: &NodeProto, x: f64) -> Option<f64> {
    Some(x * sigmoid(node, attribute(node, "alpha", 1.0) * x)?)
}

pub(super) fn hard_sigmoid(node: &NodeProto, x: f64) -> Option<f64> {
    let (slope, shift) = (attribute(node, "alpha", 0.2), attribute(node, "beta", 0.5));
    Some((slope * x + shift).clamp(0.0, 1.0))
}

pub(super) fn hard_swish(_: &NodeProto, x: f64) -> Option<f64> {
    Some(x * (x / 6.0 + 0.5).clamp(0.0, 1.0))
}

pub(super) fn leaky(node: &NodeProto, x: f64) -> Option<f64> {
    let slope = attribute(node, "alpha", 0.01);
    Some(if x < 0.0 { slope * x } else { x })
}

pub(super) fn elu(node: &NodeProto, x: f64) -> Option<f64> {
    let most = attribute(node, "alpha", 1.0);
    Some(if x < 0.0 { most * x.exp_m1() } else { x })
}
