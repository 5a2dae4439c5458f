//! ONNX Runtime's operators on quantized values: dequantize, compute, quantize, which is how they are defined.

use super::builder::GraphBuilder;
use super::rule::{Change, LoweringRule, Site, refusal, standard};
use crate::model::edit::NodeExt;
use crate::proto::{AttributeProto, Dtype, NodeProto};
use crate::run::Unverifiable;

pub(super) const RULES: &[LoweringRule] = &[
    LoweringRule::code("com.microsoft", "DequantizeLinear", standard),
    LoweringRule::code("com.microsoft", "QuantizeLinear", standard),
    LoweringRule::code("com.microsoft", "QGemm", gemm),
    LoweringRule::code("com.microsoft", "QLinearAveragePool", unary),
    LoweringRule::code("com.microsoft", "QLinearReduceMean", unary),
    LoweringRule::code("com.microsoft", "QLinearSoftmax", softmax),
    LoweringRule::code("com.microsoft", "QLinearWhere", choice),
    LoweringRule::code("com.microsoft", "QLinearAdd", binary),
    LoweringRule::code("com.microsoft", "QLinearMul", binary),
    LoweringRule::code("com.microsoft", "QLinearConcat", concat),
    LoweringRule::code("com.microsoft", "QLinearGlobalAveragePool", unary),
    LoweringRule::code("com.microsoft", "QLinearLeakyRelu", unary),
    LoweringRule::code("com.microsoft", "QLinearSigmoid", unary),
];

/// A, its scale and zero point; B, likewise; the result's scale and zero point.
fn binary(node: &NodeProto, site: &mut Site) -> Result<Change, Unverifiable> {
    let builder = &mut site.builder;
    let (a, b) = (builder.dequantize(node, 0), builder.dequantize(node, 3));
    let op = node.op_type().trim_start_matches("QLinear");
    let value = builder.op(op, &[&a, &b], Vec::new());
    finish(node, builder, &value, 6)
}

/// X, its scale and zero point; the result's.
fn unary(node: &NodeProto, site: &mut Site) -> Result<Change, Unverifiable> {
    if node.int_or("channels_last", 0) != 0 {
        return Err(refusal(node, "its channels stand last"));
    }
    let builder = &mut site.builder;
    let x = builder.dequantize(node, 0);
    let op = node.op_type().trim_start_matches("QLinear");
    let own = |attribute: &&AttributeProto| attribute.name() != "channels_last";
    let value = builder.op(
        op,
        &[&x],
        node.attribute.iter().filter(own).cloned().collect(),
    );
    finish(node, builder, &value, 3)
}

/// The result's scale and zero point, then each operand with its own.
fn concat(node: &NodeProto, site: &mut Site) -> Result<Change, Unverifiable> {
    let builder = &mut site.builder;
    let parts: Vec<String> = (2..node.input.len())
        .step_by(3)
        .filter(|at| node.input(*at).is_some())
        .map(|at| builder.dequantize(node, at))
        .collect();
    let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
    let value = builder.concat(&parts, node.int_or("axis", 0));
    finish(node, builder, &value, 0)
}

/// X, its scale and zero point; the result's. The version of Softmax is an attribute: before 13 it runs over all axes behind
/// one, which is the same where that is the last.
fn softmax(node: &NodeProto, site: &mut Site) -> Result<Change, Unverifiable> {
    let Some(dims) = site.shape(node.input(0)) else {
        return Ok(Change::NeedsFacts);
    };
    let (axis, rank) = (node.int_or("axis", -1), dims.len() as i64);
    if node.int_or("opset", site.builder.opset) < 13 && axis != -1 && axis != rank - 1 {
        return Err(refusal(node, "runs over several axes"));
    }
    let builder = &mut site.builder;
    let x = builder.dequantize(node, 0);
    // Written for version 13 or for the last axis, both read as the last axis.
    let value = builder.op(
        "Softmax",
        &[&x],
        vec![AttributeProto::int(
            "axis",
            if axis < 0 { axis + rank } else { axis },
        )],
    );
    finish(node, builder, &value, 3)
}

/// The condition; X, its scale and zero point; Y, likewise; the result's.
fn choice(node: &NodeProto, site: &mut Site) -> Result<Change, Unverifiable> {
    let builder = &mut site.builder;
    let (x, y) = (builder.dequantize(node, 1), builder.dequantize(node, 4));
    let value = builder.op(
        "Where",
        &[node.input(0).unwrap_or_default(), &x, &y],
        Vec::new(),
    );
    finish(node, builder, &value, 7)
}

/// A, its scale and zero point; B, likewise; a bias in steps of the product of both; the result's scale and zero point, or
/// none: then it stays a float.
fn gemm(node: &NodeProto, site: &mut Site) -> Result<Change, Unverifiable> {
    let builder = &mut site.builder;
    let (a, columns) = (
        builder.dequantize(node, 0),
        i64::from(node.int_or("transB", 0) == 0),
    );
    let b = builder.dequantize_along(node, 3, columns);
    let mut value = builder.op("Gemm", &[&a, &b], node.attribute.clone());
    if let (Some(bias), Some(a_scale), Some(b_scale)) =
        (node.input(6), node.input(1), node.input(4))
    {
        let alpha = builder.scalar(node.float("alpha").unwrap_or(1.0));
        let step = builder.op("Mul", &[a_scale, b_scale], Vec::new());
        let step = builder.op("Mul", &[&step, &alpha], Vec::new());
        let bias = builder.cast(bias, Dtype::Float);
        let bias = builder.op("Mul", &[&bias, &step], Vec::new());
        value = builder.op("Add", &[&value, &bias], Vec::new());
    }
    if node.input(7).is_some() {
        return finish(node, builder, &value, 7);
    }
    builder.bind_output(&value, node, 0);
    Ok(Change::Replaced)
}

fn finish(
    node: &NodeProto,
    builder: &mut GraphBuilder,
    value: &str,
    at: usize,
) -> Result<Change, Unverifiable> {
    let value = builder.quantize(value, node, at);
    builder.bind_output(&value, node, 0);
    Ok(Change::Replaced)
}
