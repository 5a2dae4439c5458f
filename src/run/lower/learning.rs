//! Operators of ai.onnx.ml that tract lacks.

use super::rule::{Change, LoweringRule, Site};
use crate::model::TensorRef;
use crate::model::edit::NodeExt;
use crate::proto::{AttributeProto, Dtype, NodeProto};
use crate::run::Unverifiable;

pub(super) const RULES: &[LoweringRule] = &[
    LoweringRule::code("ai.onnx.ml", "ArrayFeatureExtractor", array_features),
    LoweringRule::code("ai.onnx.ml", "Scaler", scaler),
];

/// Entries of the last axis; a vector counts as one row.
fn array_features(node: &NodeProto, site: &mut Site) -> Result<Change, Unverifiable> {
    let (Some(x), Some(at)) = (node.input(0), node.input(1)) else {
        return Ok(Change::Unchanged);
    };
    let Some(rank) = site.shape(Some(x)).map(|dims| dims.len()) else {
        return Ok(Change::NeedsFacts);
    };
    let builder = &mut site.builder;
    let rows = if rank == 1 {
        builder.reshape(x, &[1, -1])
    } else {
        x.to_owned()
    };
    let at = builder.reshape(at, &[-1]);
    let chosen = builder.op(
        "Gather",
        &[&rows, &at],
        vec![AttributeProto::int("axis", (rank.max(2) - 1) as i64)],
    );
    builder.bind_output(&chosen, node, 0);
    Ok(Change::Replaced)
}

fn scaler(node: &NodeProto, site: &mut Site) -> Result<Change, Unverifiable> {
    let Some(x) = node.input(0) else {
        return Ok(Change::Unchanged);
    };
    let (offset, scale) = (
        node.floats("offset").unwrap_or(&[]),
        node.floats("scale").unwrap_or(&[]),
    );
    let builder = &mut site.builder;
    let mut value = builder.cast(x, Dtype::Float);
    for (op, numbers) in [("Sub", offset), ("Mul", scale)] {
        if !numbers.is_empty() {
            let numbers = builder.constant(&TensorRef::from_f32(vec![numbers.len()], numbers));
            value = builder.op(op, &[&value, &numbers], Vec::new());
        }
    }
    builder.bind_output(&value, node, 0);
    Ok(Change::Replaced)
}
