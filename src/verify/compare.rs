//! How far two sets of outputs are apart.

use crate::model::TensorRef;

/// The largest difference of two tensors relative to the largest magnitude of the first. Values that are no numbers must
/// agree in kind. Tensors of whole numbers (class ids, sorted positions) flip where two scores nearly tie, so up to one
/// element in a hundred may differ; more counts as 1. Other shapes or types count as infinite.
pub fn relative_error(expected: &TensorRef, found: &TensorRef) -> f64 {
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
    let (mut largest, mut difference) = (0.0f64, 0.0f64);
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

/// The largest relative error over all outputs of a run.
pub fn largest_error(expected: &[TensorRef], found: &[TensorRef]) -> f64 {
    if expected.len() != found.len() {
        return f64::INFINITY;
    }
    expected.iter().zip(found).map(|(expected, found)| relative_error(expected, found)).fold(0.0, f64::max)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_relative_to_the_largest_value() {
        let a = TensorRef::from_f32(vec![3], &[100.0, 0.001, f32::NAN]);
        let b = TensorRef::from_f32(vec![3], &[100.0, 0.101, f32::NAN]);
        assert!((relative_error(&a, &b) - 1e-3).abs() < 1e-6);
        assert_eq!(relative_error(&a, &TensorRef::from_f32(vec![3], &[100.0, 0.001, 0.0])), f64::INFINITY);
        assert_eq!(relative_error(&a, &TensorRef::from_f32(vec![1], &[100.0])), f64::INFINITY);
    }
}
