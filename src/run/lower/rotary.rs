//! com.microsoft RotaryEmbedding in the form that tract reads.

use super::rule::{Change, LoweringRule, Site};
use crate::model::TensorRef;
use crate::model::edit::NodeExt;
use crate::proto::{AttributeProto, NodeProto};
use crate::run::Unverifiable;

pub(super) const RULES: &[LoweringRule] = &[LoweringRule::code(
    "com.microsoft",
    "RotaryEmbedding",
    rotation,
)];

/// tract wants the number of heads, and a position for every token instead of the first one's.
fn rotation(node: &NodeProto, site: &mut Site) -> Result<Change, Unverifiable> {
    let (Some(x), Some(places)) = (node.input(0), node.input(1)) else {
        return Ok(Change::Unchanged);
    };
    let (Some(dims), Some(start), Some(table)) = (
        site.shape(Some(x)),
        site.shape(Some(places)),
        site.shape(node.input(2)),
    ) else {
        return Ok(Change::NeedsFacts);
    };
    let heads = match (dims.as_slice(), table.as_slice()) {
        ([_, _, width], [_, half])
            if node.int_or("num_heads", 0) == 0 && *half > 0 && width % (2 * half) == 0 =>
        {
            Some(width / (2 * half))
        }
        _ => None,
    };
    let first_only = start.as_slice() == [1] && dims.len() >= 3;
    if heads.is_none() && !first_only {
        return Ok(Change::Unchanged);
    }
    let mut rotated = node.clone();
    if let Some(heads) = heads {
        rotated
            .attribute
            .retain(|attribute| attribute.name() != "num_heads");
        rotated
            .attribute
            .push(AttributeProto::int("num_heads", heads));
    }
    if let ([batch, .., length, _], true) = (dims.as_slice(), first_only) {
        let steps: Vec<i64> = (0..batch.saturating_mul(*length).min(1 << 24))
            .map(|at| at % length)
            .collect();
        let steps = site.builder.constant(&TensorRef::from_i64(
            vec![*batch as usize, *length as usize],
            &steps,
        ));
        rotated.input[1] = site.builder.op("Add", &[&steps, places], Vec::new());
    }
    site.builder.nodes.push(rotated);
    Ok(Change::Replaced)
}
