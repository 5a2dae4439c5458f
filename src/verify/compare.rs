//! How far two sets of outputs are apart.

use std::borrow::Cow;

use crate::model::{Ends, TensorRef};
use crate::proto::Dtype;

/// The largest difference of two tensors relative to the largest magnitude of the first, or of `reference` where that is
/// larger (an output that collapsed to almost nothing is judged on the scale that it had). Values that are no numbers must
/// agree in kind. Tensors of whole numbers (class ids, sorted positions) flip where two scores nearly tie, so up to one
/// element in a hundred may differ; more counts as 1. Other shapes or types count as infinite.
pub fn relative_error(
    expected: &TensorRef,
    found: &TensorRef,
    reference: Option<&TensorRef>,
) -> f64 {
    if expected.dims != found.dims || expected.dtype.is_float() != found.dtype.is_float() {
        return f64::INFINITY;
    }
    if !expected.dtype.is_float() {
        let (Some(expected), Some(found)) = (expected.to_i64(), found.to_i64()) else {
            return if expected.bytes == found.bytes {
                0.0
            } else {
                1.0
            };
        };
        let different = expected.iter().zip(&found).filter(|(a, b)| a != b).count();
        return if different * 100 <= expected.len() {
            0.0
        } else {
            1.0
        };
    }
    let (Some(expected), Some(found)) = (expected.to_f64(), found.to_f64()) else {
        return f64::INFINITY;
    };
    let scale = reference
        .filter(|reference| reference.dtype.is_float())
        .and_then(TensorRef::to_f64)
        .unwrap_or_default();
    let mut largest = scale
        .iter()
        .filter(|value| value.is_finite())
        .fold(0.0f64, |largest, value| largest.max(value.abs()));
    let mut difference = 0.0f64;
    for (a, b) in expected.iter().zip(&found) {
        if a.is_finite() && b.is_finite() {
            largest = largest.max(a.abs());
            difference = difference.max((a - b).abs());
        } else if !(a == b || a.is_nan() && b.is_nan()) {
            return f64::INFINITY;
        }
    }
    if difference == 0.0 {
        0.0
    } else {
        difference / largest.max(f64::MIN_POSITIVE)
    }
}

/// The largest relative error over all outputs of a run; `reference` as for [`relative_error`].
pub fn largest_error(expected: &[TensorRef], found: &[TensorRef], reference: &[TensorRef]) -> f64 {
    if expected.len() != found.len() {
        return f64::INFINITY;
    }
    let one = |(at, (expected, found)): (usize, (&TensorRef, &TensorRef))| {
        relative_error(expected, found, reference.get(at))
    };
    expected
        .iter()
        .zip(found)
        .enumerate()
        .map(one)
        .fold(0.0, f64::max)
}

/// How far two tensors are apart as a whole: ‖found − expected‖₂ / ‖expected‖₂ over what is finite, and the root mean square of
/// `expected`. Other shapes count as infinite; `None` for what is no number.
pub fn distance(expected: &TensorRef, found: &TensorRef) -> Option<(f64, f64)> {
    let (mut apart, mut whole, mut count) = (0.0f64, 0.0f64, 0usize);
    let mut add = |a: f64, b: f64| {
        if a.is_finite() && b.is_finite() {
            apart += (a - b) * (a - b);
            whole += a * a;
            count += 1;
        } else if a.is_finite() != b.is_finite() {
            apart = f64::INFINITY;
        }
    };
    if expected.dims != found.dims {
        let (_, scale) = distance(expected, expected)?;
        return Some((f64::INFINITY, scale));
    }
    if expected.dtype == Dtype::Float && found.dtype == Dtype::Float {
        let (a, b) = (&expected.bytes, &found.bytes);
        let number = |bytes: &[u8]| {
            bytes
                .try_into()
                .map_or(f64::NAN, |bytes| f64::from(f32::from_le_bytes(bytes)))
        };
        a.chunks_exact(4)
            .zip(b.chunks_exact(4))
            .for_each(|(a, b)| add(number(a), number(b)));
    } else {
        let (a, b) = (expected.to_f64()?, found.to_f64()?);
        a.iter().zip(&b).for_each(|(a, b)| add(*a, *b));
    }
    let apart = if apart == 0.0 {
        0.0
    } else {
        (apart / whole.max(f64::MIN_POSITIVE)).sqrt()
    };
    Some((apart, (whole / count.max(1) as f64).sqrt()))
}

/// The same row by row of the first axis, and of these the median: behind a choice between numbers that are nearly the same,
/// single rows may differ. `None` where there is nothing to compare, other numbers of rows included.
pub fn median_distance(expected: &TensorRef, found: &TensorRef) -> Option<(f64, f64)> {
    let rows = expected
        .dims
        .first()
        .copied()
        .filter(|rows| *rows > 0 && expected.dims == found.dims)?;
    let row = |tensor: &TensorRef, at: usize| {
        let length = tensor.bytes.len() / rows;
        let bytes = tensor.bytes.slice(at * length..(at + 1) * length);
        TensorRef {
            dtype: tensor.dtype,
            dims: tensor.dims.iter().skip(1).copied().collect(),
            bytes,
        }
    };
    let mut all: Vec<(f64, f64)> = (0..rows)
        .filter_map(|at| distance(&row(expected, at), &row(found, at)))
        .collect();
    all.sort_by(|one, other| one.0.total_cmp(&other.0));
    all.get(all.len() / 2).copied()
}

/// What a model's ends leave of the original's outputs, run by run.
pub fn kept<'a>(
    ends: &Ends,
    names: &[String],
    outputs: &'a [Vec<TensorRef>],
) -> Cow<'a, [Vec<TensorRef>]> {
    if !names.iter().any(|name| ends.changes(name)) {
        return Cow::Borrowed(outputs);
    }
    let run = |run: &Vec<TensorRef>| {
        names
            .iter()
            .zip(run)
            .map(|(name, tensor)| ends.of(name, tensor).into_owned())
            .collect()
    };
    Cow::Owned(outputs.iter().map(run).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_relative_to_the_largest_value() {
        let a = TensorRef::from_f32(vec![3], &[100.0, 0.001, f32::NAN]);
        let b = TensorRef::from_f32(vec![3], &[100.0, 0.101, f32::NAN]);
        assert!((relative_error(&a, &b, None) - 1e-3).abs() < 1e-6);
        assert_eq!(
            relative_error(
                &a,
                &TensorRef::from_f32(vec![3], &[100.0, 0.001, 0.0]),
                None
            ),
            f64::INFINITY
        );
        assert_eq!(
            relative_error(&a, &TensorRef::from_f32(vec![1], &[100.0]), None),
            f64::INFINITY
        );
    }
}
