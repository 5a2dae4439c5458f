//! Products of ONNX Runtime that have an activation built in.

use super::builder::GraphBuilder;
use super::rule::{Change, LoweringRule, Site};
use crate::model::edit::NodeExt;
use crate::proto::{AttributeProto, NodeProto};
use crate::run::Unverifiable;

pub(super) const RULES: &[LoweringRule] = &[
    LoweringRule::code("com.microsoft", "FusedConv", fused_conv),
    LoweringRule::code("com.microsoft", "FusedGemm", fused_gemm),
];

fn given<'a>(node: &'a NodeProto, at: &[usize]) -> Vec<&'a str> {
    at.iter().map(|at| node.input(*at).unwrap_or("")).collect()
}

/// Attributes of the product itself.
fn own_attributes(node: &NodeProto) -> Vec<AttributeProto> {
    node.attribute
        .iter()
        .filter(|attribute| !attribute.name().starts_with("activation"))
        .cloned()
        .collect()
}

fn fused_conv(node: &NodeProto, site: &mut Site) -> Result<Change, Unverifiable> {
    let mut inputs = given(node, &[0, 1]);
    inputs.extend(node.input(2));
    let mut value = site.builder.op("Conv", &inputs, own_attributes(node));
    if let Some(sum) = node.input(3) {
        value = site.builder.op("Add", &[&value, sum], Vec::new());
    }
    let parameters = node.floats("activation_params").unwrap_or(&[]).to_vec();
    let value = activation(node, &mut site.builder, &value, &parameters)?;
    site.builder.bind_output(&value, node, 0);
    Ok(Change::Replaced)
}

fn fused_gemm(node: &NodeProto, site: &mut Site) -> Result<Change, Unverifiable> {
    let mut inputs = given(node, &[0, 1]);
    inputs.extend(node.input(2));
    let value = site.builder.op("Gemm", &inputs, own_attributes(node));
    let parameters: Vec<f32> = ["activation_alpha", "activation_beta"]
        .iter()
        .map_while(|name| node.float(name))
        .collect();
    let value = activation(node, &mut site.builder, &value, &parameters)?;
    site.builder.bind_output(&value, node, 0);
    Ok(Change::Replaced)
}

fn activation(
    node: &NodeProto,
    builder: &mut GraphBuilder,
    value: &str,
    parameters: &[f32],
) -> Result<String, Unverifiable> {
    let name = node.string("activation").unwrap_or_default();
    let parameter = |at: usize, default: f32| parameters.get(at).copied().unwrap_or(default);
    Ok(match name {
        "" => value.to_owned(),
        "Relu" | "Sigmoid" | "Tanh" => builder.op(name, &[value], Vec::new()),
        "LeakyRelu" => builder.op(
            "LeakyRelu",
            &[value],
            vec![AttributeProto::float("alpha", parameter(0, 0.01))],
        ),
        "HardSigmoid" => builder.op(
            "HardSigmoid",
            &[value],
            vec![
                AttributeProto::float("alpha", parameter(0, 0.2)),
                AttributeProto::float("beta", parameter(1, 0.5)),
            ],
        ),
        "Clip" if builder.opset < 11 => builder.op(
            "Clip",
            &[value],
            vec![
                AttributeProto::float("min", parameter(0, f32::MIN)),
                AttributeProto::float("max", parameter(1, f32::MAX)),
            ],
        ),
        "Clip" => {
            let (low, high) = (
                builder.scalar(parameter(0, f32::MIN)),
                builder.scalar(parameter(1, f32::MAX)),
            );
            builder.op("Clip", &[value, &low, &high], Vec::new())
        }
        _ => {
            return Err(Unverifiable::new(format!(
                "{}: activation {name} is not known",
                node.label()
            )));
        }
    })
}
