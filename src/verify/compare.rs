//! How far two sets of outputs are apart.

use std::borrow::Cow;

use crate::model::{Ends, TensorRef};

/// The largest difference of two tensors relative to the largest magnitude of the first, or of `reference` where that is
/// larger (an output that collapsed to almost nothing is judged on the scale that it had). Values that are no numbers must
/// agree in kind. Tensors of whole numbers (class ids, sorted positions) flip where two scores nearly tie, so up to one
/// element in a hundred may differ; more counts as 1. Other shapes or types count as infinite.
pub fn relative_error(expected: &TensorRef, found: &TensorRef, reference: Option<&TensorRef>) -> f64 {
    if expected.dims != found.dims || expected.dtype.is_float() != found.dtype.is_float() {
        return f64::INFINITY;
    }
    if !expected.dtype.is_float() {
        let (Some(expected), Some(found)) = (expected.to_i64(), found.to_i64()) else {
            return if expected.bytes == found.bytes { 0.0 } else { 1.0 };
        };
        let different = expected.iter().zip(&found).filter(|(a, b)| a != b).count();
        return if different * 100 <= expected.len() { 0.0 } else { 1.0 };
    }
    let (Some(expected), Some(found)) = (expected.to_f64(), found.to_f64()) else { return f64::INFINITY };
    let scale = reference.filter(|reference| reference.dtype.is_float()).and_then(TensorRef::to_f64).unwrap_or_default();
    let mut largest = scale.iter().filter(|value| value.is_finite()).fold(0.0f64, |largest, value| largest.max(value.abs()));
    let mut difference = 0.0f64;
    for (a, b) in expected.iter().zip(&found) {
        if a.is_finite() && b.is_finite() {
            largest = largest.max(a.abs());
            difference = difference.max((a - b).abs());
        } else if !(a == b || a.is_nan() && b.is_nan()) {
            return f64::INFINITY;
        }
    }
    if difference == 0.0 { 0.0 } else { difference / largest.max(f64::MIN_POSITIVE) }
}

/// The largest relative error over all outputs of a run; `reference` as for [`relative_error`].
pub fn largest_error(expected: &[TensorRef], found: &[TensorRef], reference: &[TensorRef]) -> f64 {
    if expected.len() != found.len() {
        return f64::INFINITY;
    }
    let one = |(at, (expected, found)): (usize, (&TensorRef, &TensorRef))| relative_error(expected, found, reference.get(at));
    expected.iter().zip(found).enumerate().map(one).fold(0.0, f64::max)
}

/// What a model's ends leave of the original's outputs, run by run.
pub fn kept<'a>(ends: &Ends, names: &[String], outputs: &'a [Vec<TensorRef>]) -> Cow<'a, [Vec<TensorRef>]> {
    if !names.iter().any(|name| ends.changes(name)) {
        return Cow::Borrowed(outputs);
    }
    let run = |run: &Vec<TensorRef>| names.iter().zip(run).map(|(name, tensor)| ends.of(name, tensor).into_owned()).collect();
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
        assert_eq!(relative_error(&a, &TensorRef::from_f32(vec![3], &[100.0, 0.001, 0.0]), None), f64::INFINITY);
        assert_eq!(relative_error(&a, &TensorRef::from_f32(vec![1], &[100.0]), None), f64::INFINITY);
    }
}
