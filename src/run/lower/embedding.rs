//! com.microsoft EmbedLayerNormalization: three embeddings added, then normalised.

use super::rule::{Change, LoweringRule, Site, refusal};
use crate::model::TensorRef;
use crate::model::edit::NodeExt;
use crate::proto::{AttributeProto, Dtype, NodeProto};
use crate::run::Unverifiable;

pub(super) const RULES: &[LoweringRule] = &[LoweringRule::code(
    "com.microsoft",
    "EmbedLayerNormalization",
    embed,
)];

/// Inputs: ids, segments, word, position and segment tables, scale, bias, mask, positions.
fn embed(node: &NodeProto, site: &mut Site) -> Result<Change, Unverifiable> {
    let (Some(ids), Some(words), Some(positions), Some(scale), Some(bias)) = (
        node.input(0),
        node.input(2),
        node.input(3),
        node.input(5),
        node.input(6),
    ) else {
        return Err(refusal(node, "lacks an input"));
    };
    let dims = match site.shape(Some(ids)).as_deref() {
        Some([batch, length]) => Some((*batch, *length)),
        _ => None,
    };
    if dims.is_none() && (node.input(8).is_none() || node.output(1).is_some()) {
        return Ok(Change::NeedsFacts);
    }
    let (batch, length) = dims.unwrap_or_default();
    let builder = &mut site.builder;
    let row = |builder: &mut super::builder::GraphBuilder, table: &str, at: &str| {
        builder.op("Gather", &[table, at], vec![AttributeProto::int("axis", 0)])
    };
    let mut sum = row(builder, words, ids);
    let place = match node.input(8) {
        Some(given) => row(builder, positions, given),
        None => {
            let range: Vec<i64> = (0..length).collect();
            let range = builder.constant(&TensorRef::from_i64(vec![1, range.len()], &range));
            row(builder, positions, &range)
        }
    };
    sum = builder.op("Add", &[&sum, &place], Vec::new());
    if let (Some(segments), Some(table)) = (node.input(1), node.input(4)) {
        let segment = row(builder, table, segments);
        sum = builder.op("Add", &[&sum, &segment], Vec::new());
    }
    let normal = builder.layer_norm(&sum, scale, bias, node.float("epsilon").unwrap_or(1e-12));
    builder.bind_output(&normal, node, 0);
    if node.output(1).is_some() {
        // Where each sample's tokens end, counted from the mask; zeros without one.
        let ends = match node.input(7) {
            Some(mask) => {
                let mask = builder.cast(mask, Dtype::Int32);
                builder.reduce("ReduceSum", &mask, &[1], false)
            }
            None => {
                let zeros = vec![0; usize::try_from(batch).unwrap_or(0)];
                let zeros = builder.constant(&TensorRef::from_i64(vec![zeros.len()], &zeros));
                builder.cast(&zeros, Dtype::Int32)
            }
        };
        builder.bind_output(&ends, node, 1);
    }
    builder.bind_output(&sum, node, 2);
    Ok(Change::Replaced)
}
