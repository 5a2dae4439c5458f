//! What training makes small: the squared error of outputs, and of sums inside, relative to how much the original's vary.

use crate::gradient::FloatArray;

/// One value that is held against the original's.
#[derive(Clone, Debug)]
pub(super) struct LossTerm {
    /// How much its error counts.
    pub weight: f64,
    /// What stays of each axis of the original's value; `None`: all.
    pub kept: Vec<Option<Vec<u32>>>,
    /// The variance of the original's value, over all elements.
    pub variance: f64,
}

impl LossTerm {
    /// What the original gives, as far as it stays.
    pub fn of(&self, original: &FloatArray) -> FloatArray {
        let mut value = original.clone();
        for (axis, kept) in self.kept.iter().enumerate() {
            let Some(kept) = kept else { continue };
            let [before, extent, after] = value.around(axis);
            let mut data = Vec::with_capacity(before * kept.len() * after);
            for outer in 0..before {
                for index in kept {
                    let from = (outer * extent + *index as usize) * after;
                    data.extend_from_slice(&value.data[from..from + after]);
                }
            }
            let mut dims = value.dims.clone();
            dims[axis] = kept.len();
            value = FloatArray::new(dims, data);
        }
        value
    }

    /// weight · mean (y − t)² / variance, and its derivative by y.
    pub fn error(&self, value: &FloatArray, target: &FloatArray) -> (f64, FloatArray) {
        let count = value.data.len().max(1) as f64;
        let scale = self.weight / (count * self.variance.max(1e-12));
        let mut gradient = value.clone();
        let mut sum = 0.0;
        for (y, t) in gradient.data.iter_mut().zip(&target.data) {
            let off = *y - t;
            sum += f64::from(off * off);
            *y = (2.0 * scale) as f32 * off;
        }
        (scale * sum, gradient)
    }
}

/// The variance of all elements of an array.
pub(super) fn variance(array: &FloatArray) -> f64 {
    let count = array.data.len().max(1) as f64;
    let mean = array.data.iter().map(|x| f64::from(*x)).sum::<f64>() / count;
    array
        .data
        .iter()
        .map(|x| (f64::from(*x) - mean).powi(2))
        .sum::<f64>()
        / count
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_aim_keeps_what_stays() {
        let aim = LossTerm {
            weight: 2.0,
            kept: vec![None, Some(vec![0, 2])],
            variance: 4.0,
        };
        let original = FloatArray::new(vec![2, 3], vec![0.0, 1.0, 2.0, 3.0, 4.0, 5.0]);
        let target = aim.of(&original);
        assert_eq!(
            (target.dims.clone(), target.data.clone()),
            (vec![2, 2], vec![0.0, 2.0, 3.0, 5.0])
        );
        let value = target.map(|x| x + 1.0);
        let (error, gradient) = aim.error(&value, &target);
        assert_eq!((error, gradient.data), (0.5, vec![0.25; 4]));
        assert_eq!(
            variance(&FloatArray::new(vec![4], vec![1.0, 1.0, 3.0, 3.0])),
            1.0
        );
    }
}
