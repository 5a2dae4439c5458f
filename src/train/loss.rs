//! What training makes small: how far outputs, and sums inside, are from the original's, relative to how much the original's
//! vary.

use super::measure::ErrorMeasure;
use crate::gradient::FloatArray;

/// One value that is held against the original's.
#[derive(Clone, Debug)]
pub(super) struct LossTerm {
    /// How much its error counts.
    pub weight: f64,
    /// What stays of each axis of the original's value; `None`: all.
    pub kept: Vec<Option<Vec<u32>>>,
    /// What its error is.
    pub measure: ErrorMeasure,
    /// How much the original's value varies by that measure.
    pub variation: f64,
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

    /// weight · error / variation, and its derivative by the value.
    pub fn error(&self, value: &FloatArray, target: &FloatArray) -> (f64, FloatArray) {
        let scale = self.weight / self.variation;
        self.measure.error(value, target, scale)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_term_keeps_what_stays() {
        let term = LossTerm {
            weight: 2.0,
            kept: vec![None, Some(vec![0, 2])],
            measure: ErrorMeasure::Squared,
            variation: 4.0,
        };
        let original = FloatArray::new(vec![2, 3], vec![0.0, 1.0, 2.0, 3.0, 4.0, 5.0]);
        let target = term.of(&original);
        assert_eq!(
            (target.dims.clone(), target.data.clone()),
            (vec![2, 2], vec![0.0, 2.0, 3.0, 5.0])
        );
        let value = target.map(|x| x + 1.0);
        let (error, gradient) = term.error(&value, &target);
        assert_eq!((error, gradient.data), (0.5, vec![0.25; 4]));
    }
}
