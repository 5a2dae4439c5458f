//! Upsample, which Resize has replaced.

use super::builder::GraphBuilder;
use super::rule::{Change, LoweringRule, Site};
use crate::model::TensorRef;
use crate::model::edit::NodeExt;
use crate::proto::{AttributeProto, NodeProto};
use crate::run::Unverifiable;

pub(super) const RULES: &[LoweringRule] = &[LoweringRule::code("", "Upsample", upsample)];

/// Axis by axis: rows gathered, or a product with the weights of the linear interpolation.
fn upsample(node: &NodeProto, site: &mut Site) -> Result<Change, Unverifiable> {
    let scales = match node.floats("scales") {
        Some(scales) => scales.to_vec(),
        None => match site
            .tensor(node.input(1))
            .and_then(|scales| scales.to_f32())
        {
            Some(scales) => scales,
            None => return Ok(Change::NeedsFacts),
        },
    };
    let Some(dims) = site.shape(node.input(0)) else {
        return Ok(Change::NeedsFacts);
    };
    let linear = match node.string("mode") {
        None | Some("nearest") => false,
        Some("linear" | "bilinear") => true,
        Some(mode) => {
            return Err(Unverifiable::new(format!(
                "{}: mode {mode} is not known",
                node.label()
            )));
        }
    };
    let builder = &mut site.builder;
    let rank = dims.len() as i64;
    let mut value = node.input(0).unwrap_or_default().to_owned();
    for ((axis, dim), scale) in (0..rank).zip(&dims).zip(scales) {
        let (old, new) = (*dim, (*dim as f32 * scale).floor() as i64);
        if scale == 1.0 {
            continue;
        }
        const LONG: i64 = 1 << 16;
        if !(0..=LONG).contains(&new) || !(0..=LONG).contains(&old) {
            return Err(Unverifiable::new(format!(
                "{}: scales an axis to {new}",
                node.label()
            )));
        }
        let axis = ScaledAxis {
            axis,
            rank,
            old,
            new,
            scale,
        };
        value = if linear {
            interpolated(builder, &value, &axis)
        } else {
            repeated(builder, &value, &axis)
        };
    }
    builder.bind_output(&value, node, 0);
    Ok(Change::Replaced)
}

/// One of so many axes, its extents before and after, and its scale.
struct ScaledAxis {
    axis: i64,
    rank: i64,
    old: i64,
    new: i64,
    scale: f32,
}

impl ScaledAxis {
    /// Place in the old axis from which an index of the new one comes.
    fn source(&self, index: i64) -> f32 {
        index as f32 / self.scale
    }

    /// Weights of the linear interpolation, old × new.
    fn weights(&self) -> TensorRef {
        let (old, new) = (self.old, self.new);
        let mut weights = vec![0.0; usize::try_from(old * new).unwrap_or(0)];
        for index in 0..new {
            let from = self.source(index).clamp(0.0, (old - 1).max(0) as f32);
            let (low, part) = (from.floor() as i64, from.fract());
            for (row, weight) in [(low, 1.0 - part), ((low + 1).min(old - 1), part)] {
                let cell = usize::try_from(row * new + index).ok();
                if let Some(cell) = cell.and_then(|cell| weights.get_mut(cell)) {
                    *cell += weight;
                }
            }
        }
        TensorRef::from_f32(vec![old as usize, new as usize], &weights)
    }
}

/// A product along the axis with the weights of the interpolation.
fn interpolated(builder: &mut GraphBuilder, value: &str, axis: &ScaledAxis) -> String {
    let weights = builder.constant(&axis.weights());
    let mut permutation: Vec<i64> = (0..axis.rank).collect();
    permutation.swap(axis.axis as usize, axis.rank as usize - 1);
    let turned = builder.transpose(value, &permutation);
    let product = builder.op("MatMul", &[&turned, &weights], Vec::new());
    builder.transpose(&product, &permutation)
}

/// Rows gathered along the axis, the nearest below.
fn repeated(builder: &mut GraphBuilder, value: &str, axis: &ScaledAxis) -> String {
    let last = (axis.old - 1).max(0);
    let rows: Vec<i64> = (0..axis.new)
        .map(|index| (axis.source(index).floor() as i64).clamp(0, last))
        .collect();
    let rows = builder.ints(&rows);
    let along = vec![AttributeProto::int("axis", axis.axis)];
    builder.op("Gather", &[value, &rows], along)
}
