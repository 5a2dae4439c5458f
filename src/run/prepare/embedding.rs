//! com.microsoft EmbedLayerNormalization: three embeddings added, then normalised.

use super::node::{float, input, label, output, with_int};
use super::rules::{Entry, Outcome, Site};
use crate::model::TensorRef;
use crate::proto::{Dtype, NodeProto};
use crate::run::Unverifiable;

pub(super) const RULES: &[Entry] = &[("com.microsoft", "EmbedLayerNormalization", embed)];

/// Inputs: ids, segments, word, position and segment tables, scale, bias, mask, positions.
fn embed(node: &NodeProto, site: &mut Site) -> Result<Outcome, Unverifiable> {
    let (Some(ids), Some(words), Some(positions), Some(scale), Some(bias)) = (
        input(node, 0),
        input(node, 2),
        input(node, 3),
        input(node, 5),
        input(node, 6),
    ) else {
        return Err(Unverifiable::new(format!(
            "{}: lacks an input",
            label(node)
        )));
    };
    let dims = match site.shape(Some(ids)).as_deref() {
        Some([batch, length]) => Some((*batch, *length)),
        _ => None,
    };
    if dims.is_none() && (input(node, 8).is_none() || output(node, 1).is_some()) {
        return Ok(Outcome::NeedsFacts);
    }
    let (batch, length) = dims.unwrap_or_default();
    let wire = &mut site.wire;
    let row = |wire: &mut super::wire::Wire, table: &str, at: &str| {
        wire.op("Gather", &[table, at], vec![with_int("axis", 0)])
    };
    let mut sum = row(wire, words, ids);
    let place = match input(node, 8) {
        Some(given) => row(wire, positions, given),
        None => {
            let range: Vec<i64> = (0..length).collect();
            let range = wire.constant(&TensorRef::from_i64(vec![1, range.len()], &range));
            row(wire, positions, &range)
        }
    };
    sum = wire.op("Add", &[&sum, &place], Vec::new());
    if let (Some(segments), Some(table)) = (input(node, 1), input(node, 4)) {
        let segment = row(wire, table, segments);
        sum = wire.op("Add", &[&sum, &segment], Vec::new());
    }
    let normal = wire.layer_norm(&sum, scale, bias, float(node, "epsilon").unwrap_or(1e-12));
    wire.give(&normal, node, 0);
    if output(node, 1).is_some() {
        // Where each sample's tokens end, counted from the mask; zeros without one.
        let ends = match input(node, 7) {
            Some(mask) => {
                let mask = wire.cast(mask, Dtype::Int32);
                wire.reduce("ReduceSum", &mask, &[1], false)
            }
            None => {
                let zeros = vec![0; usize::try_from(batch).unwrap_or(0)];
                let zeros = wire.constant(&TensorRef::from_i64(vec![zeros.len()], &zeros));
                wire.cast(&zeros, Dtype::Int32)
            }
        };
        wire.give(&ends, node, 1);
    }
    wire.give(&sum, node, 2);
    Ok(Outcome::Done)
}
