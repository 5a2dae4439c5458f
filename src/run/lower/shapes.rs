//! Operators on shapes whose defaults tract reads in another way.

use super::rule::{Change, LoweringRule, Site};
use crate::model::TensorRef;
use crate::model::edit::NodeExt;
use crate::proto::{AttributeProto, NodeProto};
use crate::run::Unverifiable;

pub(super) const RULES: &[LoweringRule] = &[
    LoweringRule::code("", "ConstantOfShape", constant_of_shape),
    LoweringRule::code("", "Squeeze", squeeze),
];

/// Without a value it means zeros of type float; tract takes double.
fn constant_of_shape(node: &NodeProto, site: &mut Site) -> Result<Change, Unverifiable> {
    if node.attribute("value").is_some() {
        return Ok(Change::Unchanged);
    }
    let mut node = node.clone();
    node.attribute.push(AttributeProto::tensor(
        "value",
        &TensorRef::from_f32(vec![1], &[0.0]),
    ));
    site.builder.nodes.push(node);
    Ok(Change::Replaced)
}

/// Without axes it drops all that have extent 1.
fn squeeze(node: &NodeProto, site: &mut Site) -> Result<Change, Unverifiable> {
    if node.input(1).is_some() || node.ints("axes").is_some() {
        return Ok(Change::Unchanged);
    }
    let Some(dims) = site.shape(node.input(0)) else {
        return Ok(Change::NeedsFacts);
    };
    let axes: Vec<i64> = (0..dims.len() as i64)
        .zip(&dims)
        .filter(|(_, dim)| **dim == 1)
        .map(|(axis, _)| axis)
        .collect();
    let x = node.input(0).unwrap_or_default();
    let value = if axes.is_empty() {
        x.to_owned()
    } else {
        site.builder.squeeze(x, &axes)
    };
    site.builder.bind_output(&value, node, 0);
    Ok(Change::Replaced)
}
