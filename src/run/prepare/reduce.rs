//! Sums over whole rows as products with a vector: tract's own are several times slower where an axis of extent 1 is reduced
//! beside the rows or lies behind them, as in weight standardisation.

use super::node::{input, int_or, ints};
use super::rules::{Entry, Outcome, Site};
use super::wire::Wire;
use crate::model::TensorRef;
use crate::proto::{Dtype, NodeProto};
use crate::run::Unverifiable;

pub(super) const RULES: &[Entry] = &[("", "ReduceMean", over_rows), ("", "ReduceSum", over_rows)];

/// Shapes that nothing else needed are not asked for.
fn over_rows(node: &NodeProto, site: &mut Site) -> Result<Outcome, Unverifiable> {
    let x = input(node, 0).unwrap_or_default();
    let axes = ints(node, "axes")
        .map(<[i64]>::to_vec)
        .or_else(|| site.tensor(input(node, 1))?.to_i64());
    let (Some(dims), Some(axes), Some(Dtype::Float)) =
        (site.shape(Some(x)), axes, site.dtype(Some(x)))
    else {
        return Ok(Outcome::Leave);
    };
    let keep = int_or(node, "keepdims", 1) != 0;
    let Some(value) = sums(&mut site.wire, node.op_type(), (x, &dims), &axes, keep) else {
        return Ok(Outcome::Leave);
    };
    site.wire.give(&value, node, 0);
    Ok(Outcome::Done)
}

/// `ReduceMean` or `ReduceSum` of a value of type float; `None` where some of what is reduced lies before what is kept, axes of
/// extent 1 aside.
pub(super) fn sums(
    wire: &mut Wire,
    op: &str,
    x: (&str, &[i64]),
    axes: &[i64],
    keep: bool,
) -> Option<String> {
    let (x, dims) = x;
    let rank = dims.len() as i64;
    let reduced: Vec<bool> = (0..rank)
        .map(|axis| axes.contains(&axis) || axes.contains(&(axis - rank)))
        .collect();
    let wide: Vec<bool> = reduced
        .iter()
        .zip(dims)
        .filter(|(_, dim)| **dim != 1)
        .map(|(reduced, _)| *reduced)
        .collect();
    // A reshape to an extent of 0 would mean another.
    if dims.contains(&0) || !wide.is_sorted() || wide.last() != Some(&true) {
        return None;
    }
    let (mut rows, mut length, mut kept) = (1, 1, Vec::new());
    for (dim, reduced) in dims.iter().zip(&reduced) {
        *(if *reduced { &mut length } else { &mut rows }) *= dim;
        match (reduced, keep) {
            (false, _) => kept.push(*dim),
            (true, true) => kept.push(1),
            (true, false) => {}
        }
    }
    let width = usize::try_from(length).ok()?;
    let factor = if op == "ReduceMean" {
        1.0 / length as f32
    } else {
        1.0
    };
    let factors = wire.constant(&TensorRef::from_f32(vec![width, 1], &vec![factor; width]));
    let matrix = wire.reshape(x, &[rows, length]);
    let sums = wire.op("MatMul", &[&matrix, &factors], Vec::new());
    Some(wire.reshape(&sums, &kept))
}
