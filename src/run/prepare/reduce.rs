//! Sums over whole rows as products with a vector: tract's own are several times slower where an axis of extent 1 is reduced
//! beside the rows or lies behind them, as in weight standardisation.

use super::node::{input, int_or, ints};
use super::rules::{Entry, Outcome, Site};
use crate::model::TensorRef;
use crate::proto::{Dtype, NodeProto};
use crate::run::Unverifiable;

pub(super) const RULES: &[Entry] = &[("", "ReduceMean", over_rows), ("", "ReduceSum", over_rows)];

/// Where what is reduced lies behind what is kept, axes of extent 1 aside. Shapes that nothing else needed are not asked for.
fn over_rows(node: &NodeProto, site: &mut Site) -> Result<Outcome, Unverifiable> {
    let x = input(node, 0).unwrap_or_default();
    let axes = ints(node, "axes").map(<[i64]>::to_vec).or_else(|| site.tensor(input(node, 1))?.to_i64());
    let (Some(dims), Some(axes), Some(Dtype::Float)) = (site.shape(Some(x)), axes, site.dtype(Some(x))) else { return Ok(Outcome::Leave) };
    let rank = dims.len() as i64;
    let reduced: Vec<bool> = (0..rank).map(|axis| axes.contains(&axis) || axes.contains(&(axis - rank))).collect();
    let wide: Vec<bool> = (0..dims.len()).filter(|axis| dims[*axis] != 1).map(|axis| reduced[axis]).collect();
    if !wide.is_sorted() || wide.last() != Some(&true) {
        return Ok(Outcome::Leave);
    }
    let keeps = int_or(node, "keepdims", 1) != 0;
    let (mut rows, mut length, mut kept) = (1, 1, Vec::new());
    for (dim, reduced) in dims.iter().zip(&reduced) {
        *(if *reduced { &mut length } else { &mut rows }) *= dim;
        match (reduced, keeps) {
            (false, _) => kept.push(*dim),
            (true, true) => kept.push(1),
            (true, false) => {}
        }
    }
    let factor = if node.op_type() == "ReduceMean" { 1.0 / length as f32 } else { 1.0 };
    let wire = &mut site.wire;
    let factors = wire.constant(&TensorRef::from_f32(vec![length as usize, 1], &vec![factor; length as usize]));
    let matrix = wire.reshape(x, &[rows, length]);
    let sums = wire.op("MatMul", &[&matrix, &factors], Vec::new());
    let value = wire.reshape(&sums, &kept);
    site.wire.give(&value, node, 0);
    Ok(Outcome::Done)
}
