//! Weights quantized block by block become floats.

use super::rule::{Change, Site, refusal};
use crate::model::TensorRef;
use crate::model::edit::NodeExt;
use crate::proto::NodeProto;
use crate::run::Unverifiable;

pub(super) fn blocked(node: &NodeProto, site: &mut Site) -> Result<Change, Unverifiable> {
    let size = node.int_or("block_size", 0);
    if size == 0 {
        return Ok(Change::Unchanged);
    }
    let (weight, scale) = (site.tensor(node.input(0)), site.tensor(node.input(1)));
    let zero = site.tensor(node.input(2));
    let dense = match (weight, scale) {
        (Some(weight), Some(scale)) if node.input(2).is_none() || zero.is_some() => {
            dequantize(&weight, &scale, zero.as_ref(), node.int_or("axis", 1), size)
        }
        _ => {
            return Err(refusal(node, "blocks of a computed value"));
        }
    };
    let dense = dense.ok_or_else(|| refusal(node, "blocks do not fit the weight"))?;
    let dense = site.builder.constant(&dense);
    site.builder.bind_output(&dense, node, 0);
    Ok(Change::Replaced)
}

/// Block after block along an axis, as floats.
pub(super) fn dequantize(
    weight: &TensorRef,
    scale: &TensorRef,
    zero: Option<&TensorRef>,
    axis: i64,
    size: i64,
) -> Option<TensorRef> {
    let rank = weight.dims.len();
    let axis = usize::try_from(if axis < 0 { axis + rank as i64 } else { axis })
        .ok()
        .filter(|axis| *axis < rank)?;
    let size = usize::try_from(size).ok().filter(|size| *size > 0)?;
    let (extent, blocks) = (*weight.dims.get(axis)?, *scale.dims.get(axis)?);
    let inner: usize = weight.dims.get(axis + 1..)?.iter().product();
    let (numbers, scales) = (weight.to_f64()?, scale.to_f64()?);
    let zeros = match zero {
        Some(zero) => zero.to_f64()?,
        None => vec![0.0; scales.len()],
    };
    if blocks < extent.div_ceil(size) {
        return None;
    }
    let place = |at: usize| {
        let (outer, position, inside) = (at / (inner * extent), at / inner % extent, at % inner);
        (outer * blocks + position / size) * inner + inside
    };
    let dense = numbers.iter().enumerate().map(|(at, number)| {
        let block = place(at);
        // As floats, in the order of the standard: the difference first.
        Some((*number as f32 - *zeros.get(block)? as f32) * *scales.get(block)? as f32)
    });
    Some(TensorRef::from_f32(
        weight.dims.clone(),
        &dense.collect::<Option<Vec<_>>>()?,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_block_has_its_scale_and_zero() {
        let weight = TensorRef::from_i64(vec![3, 2], &[1, 2, 3, 4, 5, 6]);
        let scale = TensorRef::from_f32(vec![2, 2], &[1.0, 2.0, 10.0, 20.0]);
        let zero = TensorRef::from_i64(vec![2, 2], &[0, 1, 0, 1]);
        let dense = dequantize(&weight, &scale, Some(&zero), 0, 2).unwrap();
        assert_eq!(dense.to_f32().unwrap(), [1.0, 2.0, 3.0, 6.0, 50.0, 100.0]);
    }
}
