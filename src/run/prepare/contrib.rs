//! ONNX Runtime's fused operators in the standard's operators.

use super::node::{float, floats, input, int_or, label, text, with_float, with_int};
use super::rules::{Entry, Outcome, Site};
use super::wire::Wire;
use crate::model::TensorRef;
use crate::proto::{Dtype, NodeProto};
use crate::run::Unverifiable;

pub(super) const RULES: &[Entry] = &[
    ("com.microsoft", "FusedConv", fused_conv),
    ("com.microsoft", "FusedGemm", fused_gemm),
    ("com.microsoft", "FusedMatMul", fused_matmul),
    ("com.microsoft", "TransposeMatMul", fused_matmul),
    ("com.microsoft", "DynamicQuantizeMatMul", dynamic_matmul),
    ("com.microsoft", "MatMulIntegerToFloat", integer_to_float),
    ("com.microsoft", "RotaryEmbedding", rotation),
    ("com.microsoft", "DequantizeLinear", standard),
    ("com.microsoft", "QuantizeLinear", standard),
];

/// The same operator under the standard's name.
fn standard(node: &NodeProto, site: &mut Site) -> Result<Outcome, Unverifiable> {
    site.wire.nodes.push(NodeProto {
        domain: None,
        ..node.clone()
    });
    Ok(Outcome::Done)
}

fn given<'a>(node: &'a NodeProto, at: &[usize]) -> Vec<&'a str> {
    at.iter().map(|at| input(node, *at).unwrap_or("")).collect()
}

fn fused_conv(node: &NodeProto, site: &mut Site) -> Result<Outcome, Unverifiable> {
    let attributes = node
        .attribute
        .iter()
        .filter(|attribute| !attribute.name().starts_with("activation"))
        .cloned()
        .collect();
    let mut inputs = given(node, &[0, 1]);
    inputs.extend(input(node, 2));
    let mut value = site.wire.op("Conv", &inputs, attributes);
    if let Some(sum) = input(node, 3) {
        value = site.wire.op("Add", &[&value, sum], Vec::new());
    }
    let parameters = floats(node, "activation_params").unwrap_or(&[]).to_vec();
    let value = activation(node, &mut site.wire, &value, &parameters)?;
    site.wire.give(&value, node, 0);
    Ok(Outcome::Done)
}

fn fused_gemm(node: &NodeProto, site: &mut Site) -> Result<Outcome, Unverifiable> {
    let attributes = node
        .attribute
        .iter()
        .filter(|attribute| !attribute.name().starts_with("activation"))
        .cloned()
        .collect();
    let mut inputs = given(node, &[0, 1]);
    inputs.extend(input(node, 2));
    let value = site.wire.op("Gemm", &inputs, attributes);
    let parameters: Vec<f32> = ["activation_alpha", "activation_beta"]
        .iter()
        .map_while(|name| float(node, name))
        .collect();
    let value = activation(node, &mut site.wire, &value, &parameters)?;
    site.wire.give(&value, node, 0);
    Ok(Outcome::Done)
}

fn activation(
    node: &NodeProto,
    wire: &mut Wire,
    value: &str,
    parameters: &[f32],
) -> Result<String, Unverifiable> {
    let name = text(node, "activation").unwrap_or_default();
    let parameter = |at: usize, default: f32| parameters.get(at).copied().unwrap_or(default);
    Ok(match name.as_str() {
        "" => value.to_owned(),
        "Relu" | "Sigmoid" | "Tanh" => wire.op(&name, &[value], Vec::new()),
        "LeakyRelu" => wire.op(
            "LeakyRelu",
            &[value],
            vec![with_float("alpha", parameter(0, 0.01))],
        ),
        "HardSigmoid" => wire.op(
            "HardSigmoid",
            &[value],
            vec![
                with_float("alpha", parameter(0, 0.2)),
                with_float("beta", parameter(1, 0.5)),
            ],
        ),
        "Clip" if wire.opset < 11 => wire.op(
            "Clip",
            &[value],
            vec![
                with_float("min", parameter(0, f32::MIN)),
                with_float("max", parameter(1, f32::MAX)),
            ],
        ),
        "Clip" => {
            let (low, high) = (
                wire.scalar(parameter(0, f32::MIN)),
                wire.scalar(parameter(1, f32::MAX)),
            );
            wire.op("Clip", &[value, &low, &high], Vec::new())
        }
        _ => {
            return Err(Unverifiable::new(format!(
                "{}: activation {name} is not known",
                label(node)
            )));
        }
    })
}

fn fused_matmul(node: &NodeProto, site: &mut Site) -> Result<Outcome, Unverifiable> {
    if int_or(node, "transBatchA", 0) != 0 || int_or(node, "transBatchB", 0) != 0 {
        return Err(Unverifiable::new(format!(
            "{}: transposes batch axes",
            label(node)
        )));
    }
    let mut operands = Vec::new();
    for (at, attribute) in [(0, "transA"), (1, "transB")] {
        let value = input(node, at).unwrap_or_default().to_owned();
        if int_or(node, attribute, 0) == 0 {
            operands.push(value);
            continue;
        }
        let Some(rank) = site.shape(Some(&value)).map(|dims| dims.len() as i64) else {
            return Ok(Outcome::NeedsFacts);
        };
        if rank < 2 {
            operands.push(value);
            continue;
        }
        let mut permutation: Vec<i64> = (0..rank).collect();
        permutation.swap(rank as usize - 2, rank as usize - 1);
        operands.push(site.wire.transpose(&value, &permutation));
    }
    let [a, b] = operands.as_slice() else {
        return Ok(Outcome::Leave);
    };
    let mut value = site.wire.op("MatMul", &[a, b], Vec::new());
    let alpha = float(node, "alpha").unwrap_or(1.0);
    if alpha != 1.0 {
        let alpha = site.wire.scalar(alpha);
        value = site.wire.op("Mul", &[&value, &alpha], Vec::new());
    }
    site.wire.give(&value, node, 0);
    Ok(Outcome::Done)
}

/// A · B with A quantized on the way: A, B, scale, zero point, bias.
fn dynamic_matmul(node: &NodeProto, site: &mut Site) -> Result<Outcome, Unverifiable> {
    let wire = &mut site.wire;
    let (a, scale, zero) = dynamic_quantize(wire, input(node, 0).unwrap_or_default());
    let operands = [
        &a,
        input(node, 1).unwrap_or_default(),
        &zero,
        input(node, 3).unwrap_or_default(),
    ];
    integer_product(node, wire, operands, &scale, 2, 4);
    Ok(Outcome::Done)
}

/// A · B of whole numbers: A, B, their scales, their zero points, bias.
fn integer_to_float(node: &NodeProto, site: &mut Site) -> Result<Outcome, Unverifiable> {
    let operands = given(node, &[0, 1, 4, 5]);
    let [a, b, a_zero, b_zero] = operands.as_slice() else {
        return Ok(Outcome::Leave);
    };
    integer_product(
        node,
        &mut site.wire,
        [a, b, a_zero, b_zero],
        input(node, 2).unwrap_or_default(),
        3,
        6,
    );
    Ok(Outcome::Done)
}

/// tract wants the number of heads, and a position for every token instead of the first one's.
fn rotation(node: &NodeProto, site: &mut Site) -> Result<Outcome, Unverifiable> {
    let (Some(x), Some(places)) = (input(node, 0), input(node, 1)) else {
        return Ok(Outcome::Leave);
    };
    let (Some(dims), Some(start), Some(table)) = (
        site.shape(Some(x)),
        site.shape(Some(places)),
        site.shape(input(node, 2)),
    ) else {
        return Ok(Outcome::NeedsFacts);
    };
    let heads = match (dims.as_slice(), table.as_slice()) {
        ([_, _, width], [_, half])
            if int_or(node, "num_heads", 0) == 0 && *half > 0 && width % (2 * half) == 0 =>
        {
            Some(width / (2 * half))
        }
        _ => None,
    };
    let first_only = start.as_slice() == [1] && dims.len() >= 3;
    if heads.is_none() && !first_only {
        return Ok(Outcome::Leave);
    }
    let mut rotated = node.clone();
    if let Some(heads) = heads {
        rotated
            .attribute
            .retain(|attribute| attribute.name() != "num_heads");
        rotated.attribute.push(with_int("num_heads", heads));
    }
    if let ([batch, .., length, _], true) = (dims.as_slice(), first_only) {
        let steps: Vec<i64> = (0..batch.saturating_mul(*length).min(1 << 24))
            .map(|at| at % length)
            .collect();
        let steps = site.wire.constant(&TensorRef::from_i64(
            vec![*batch as usize, *length as usize],
            &steps,
        ));
        rotated.input[1] = site.wire.op("Add", &[&steps, places], Vec::new());
    }
    site.wire.nodes.push(rotated);
    Ok(Outcome::Done)
}

/// Quantizes to bytes by the value's own range; gives the numbers, the scale and the zero point.
pub(super) fn dynamic_quantize(wire: &mut Wire, value: &str) -> (String, String, String) {
    let names: Vec<String> = ["quantized", "scale", "zero"]
        .iter()
        .map(|hint| wire.names.fresh(hint))
        .collect();
    let [y, scale, zero] = names.as_slice() else {
        return Default::default();
    };
    wire.node(
        "DynamicQuantizeLinear",
        &[value],
        &[y, scale, zero],
        Vec::new(),
    );
    (y.clone(), scale.clone(), zero.clone())
}

fn integer_product(
    node: &NodeProto,
    wire: &mut Wire,
    operands: [&str; 4],
    scale: &str,
    b_scale: usize,
    bias: usize,
) {
    let used = operands
        .iter()
        .rposition(|name| !name.is_empty())
        .map_or(0, |last| last + 1);
    let sum = wire.op(
        "MatMulInteger",
        operands.get(..used).unwrap_or(&operands),
        Vec::new(),
    );
    let sum = wire.cast(&sum, Dtype::Float);
    let scale = wire.op(
        "Mul",
        &[scale, input(node, b_scale).unwrap_or_default()],
        Vec::new(),
    );
    let mut value = wire.op("Mul", &[&sum, &scale], Vec::new());
    if let Some(bias) = input(node, bias) {
        value = wire.op("Add", &[&value, bias], Vec::new());
    }
    wire.give(&value, node, 0);
}

/// A node that concatenates.
pub(super) fn concat(wire: &mut Wire, values: &[&str], axis: i64) -> String {
    wire.op("Concat", values, vec![with_int("axis", axis)])
}
