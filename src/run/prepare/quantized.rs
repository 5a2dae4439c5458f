//! ONNX Runtime's operators on quantized values: dequantize, compute, quantize, which is how they are defined.

use super::node::{float, input, int_or, label, with_int};
use super::rules::{Entry, Outcome, Site};
use super::wire::Wire;
use crate::proto::{AttributeProto, Dtype, NodeProto};
use crate::run::Unverifiable;

pub(super) const RULES: &[Entry] = &[
    ("com.microsoft", "QGemm", gemm),
    ("com.microsoft", "QLinearAveragePool", unary),
    ("com.microsoft", "QLinearReduceMean", unary),
    ("com.microsoft", "QLinearSoftmax", softmax),
    ("com.microsoft", "QLinearWhere", choice),
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
        return Err(Unverifiable::new(format!(
            "{}: its channels stand last",
            label(node)
        )));
    }
    let wire = &mut site.wire;
    let x = wire.dequantize(node, 0);
    let op = node.op_type().trim_start_matches("QLinear");
    let own = |attribute: &&AttributeProto| attribute.name() != "channels_last";
    let value = wire.op(
        op,
        &[&x],
        node.attribute.iter().filter(own).cloned().collect(),
    );
    finish(node, wire, &value, 3)
}

/// The result's scale and zero point, then each operand with its own.
fn concat(node: &NodeProto, site: &mut Site) -> Result<Outcome, Unverifiable> {
    let wire = &mut site.wire;
    let parts: Vec<String> = (2..node.input.len())
        .step_by(3)
        .filter(|at| input(node, *at).is_some())
        .map(|at| wire.dequantize(node, at))
        .collect();
    let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
    let value = super::contrib::concat(wire, &parts, int_or(node, "axis", 0));
    finish(node, wire, &value, 0)
}

/// X, its scale and zero point; the result's. The version of Softmax is an attribute: before 13 it runs over all axes behind
/// one, which is the same where that is the last.
fn softmax(node: &NodeProto, site: &mut Site) -> Result<Outcome, Unverifiable> {
    let Some(dims) = site.shape(input(node, 0)) else {
        return Ok(Outcome::NeedsFacts);
    };
    let (axis, rank) = (int_or(node, "axis", -1), dims.len() as i64);
    if int_or(node, "opset", site.wire.opset) < 13 && axis != -1 && axis != rank - 1 {
        return Err(Unverifiable::new(format!(
            "{}: runs over several axes",
            label(node)
        )));
    }
    let wire = &mut site.wire;
    let x = wire.dequantize(node, 0);
    // Written for version 13 or for the last axis, both read as the last axis.
    let value = wire.op(
        "Softmax",
        &[&x],
        vec![with_int("axis", if axis < 0 { axis + rank } else { axis })],
    );
    finish(node, wire, &value, 3)
}

/// The condition; X, its scale and zero point; Y, likewise; the result's.
fn choice(node: &NodeProto, site: &mut Site) -> Result<Outcome, Unverifiable> {
    let wire = &mut site.wire;
    let (x, y) = (wire.dequantize(node, 1), wire.dequantize(node, 4));
    let value = wire.op(
        "Where",
        &[input(node, 0).unwrap_or_default(), &x, &y],
        Vec::new(),
    );
    finish(node, wire, &value, 7)
}

/// A, its scale and zero point; B, likewise; a bias in steps of the product of both; the result's scale and zero point, or
/// none: then it stays a float.
fn gemm(node: &NodeProto, site: &mut Site) -> Result<Outcome, Unverifiable> {
    let wire = &mut site.wire;
    let (a, columns) = (
        wire.dequantize(node, 0),
        i64::from(int_or(node, "transB", 0) == 0),
    );
    let b = wire.dequantize_along(node, 3, columns);
    let mut value = wire.op("Gemm", &[&a, &b], node.attribute.clone());
    if let (Some(bias), Some(a_scale), Some(b_scale)) =
        (input(node, 6), input(node, 1), input(node, 4))
    {
        let alpha = wire.scalar(float(node, "alpha").unwrap_or(1.0));
        let step = wire.op("Mul", &[a_scale, b_scale], Vec::new());
        let step = wire.op("Mul", &[&step, &alpha], Vec::new());
        let bias = wire.cast(bias, Dtype::Float);
        let bias = wire.op("Mul", &[&bias, &step], Vec::new());
        value = wire.op("Add", &[&value, &bias], Vec::new());
    }
    if input(node, 7).is_some() {
        return finish(node, wire, &value, 7);
    }
    wire.give(&value, node, 0);
    Ok(Outcome::Done)
}

fn finish(
    node: &NodeProto,
    wire: &mut Wire,
    value: &str,
    at: usize,
) -> Result<Outcome, Unverifiable> {
    let value = wire.quantize(value, node, at);
    wire.give(&value, node, 0);
    Ok(Outcome::Done)
}
