//! Sums over whole rows as products with a vector.

use super::builder::GraphBuilder;
use crate::model::TensorRef;

/// `ReduceMean` or `ReduceSum` of a value of type float; `None` where some of what is reduced lies before what is kept, axes of
/// extent 1 aside.
pub(super) fn sums(
    builder: &mut GraphBuilder,
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
    let factors = builder.constant(&TensorRef::from_f32(vec![width, 1], &vec![factor; width]));
    let matrix = builder.reshape(x, &[rows, length]);
    let sums = builder.op("MatMul", &[&matrix, &factors], Vec::new());
    Some(builder.reshape(&sums, &kept))
}
