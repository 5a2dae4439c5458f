//! ONNX Runtime's operators on quantized values: dequantize, compute, quantize, which is how they are defined.

use super::node::{float, input, int_or, label, with_float};
use super::rules::{Entry, Outcome, Site};
use super::wire::Wire;
use crate::proto::NodeProto;
use crate::run::Unverifiable;

pub(super) const RULES: &[Entry] = &[
    ("com.microsoft", "QLinearAdd", binary),
    ("com.microsoft", "QLinearMul", binary),
    ("com.microsoft", "QLinearConcat", concat),
    ("com.microsoft", "QLinearGlobalAveragePool", unary),
    ("com.microsoft", "QLinearLeakyRelu", unary),
    ("com.microsoft", "QLinearSigmoid", unary),
];

/// A, its scale and zero point; B, likewise; the result's scale and zero point.
fn binary(node: &NodeProto, site: &mut Site) -> Result<Outcome, Unverifiable> {
    let wire = &mut site.wire;
    let (a, b) = (wire.dequantize(node, 0), wire.dequantize(node, 3));
    let op = node.op_type().trim_start_matches("QLinear");
    let value = wire.op(op, &[&a, &b], Vec::new());
    finish(node, wire, &value, 6)
}

/// X, its scale and zero point; the result's.
fn unary(node: &NodeProto, site: &mut Site) -> Result<Outcome, Unverifiable> {
    if int_or(node, "channels_last", 0) != 0 {
        return Err(Unverifiable::new(format!("{}: its channels stand last", label(node))));
    }
    let wire = &mut site.wire;
    let x = wire.dequantize(node, 0);
    let op = node.op_type().trim_start_matches("QLinear");
    let attributes = float(node, "alpha").map(|alpha| with_float("alpha", alpha)).into_iter().collect();
    let value = wire.op(op, &[&x], attributes);
    finish(node, wire, &value, 3)
}

/// The result's scale and zero point, then each operand with its own.
fn concat(node: &NodeProto, site: &mut Site) -> Result<Outcome, Unverifiable> {
    let wire = &mut site.wire;
    let parts: Vec<String> =
        (2..node.input.len()).step_by(3).filter(|at| input(node, *at).is_some()).map(|at| wire.dequantize(node, at)).collect();
    let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
    let value = super::contrib::concat(wire, &parts, int_or(node, "axis", 0));
    finish(node, wire, &value, 0)
}

fn finish(node: &NodeProto, wire: &mut Wire, value: &str, at: usize) -> Result<Outcome, Unverifiable> {
    let value = wire.quantize(value, node, at);
    wire.give(&value, node, 0);
    Ok(Outcome::Done)
}
