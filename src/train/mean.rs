//! The mean of the weights over the last part of the steps (Izmailov et al., *Averaging weights leads to wider optima and better
//! generalization*, 2018): steps still wander about a minimum, and their mean is nearer to it.

use rayon::prelude::*;

use crate::gradient::FloatArray;

/// The share of the steps, the last ones, that the mean is taken over.
const LAST: f64 = 0.25;

/// A mean that grows step by step.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct WeightMean {
    /// The last step that is not counted.
    from: usize,
    /// Steps that were counted.
    pub count: usize,
    /// Their mean; empty before the first.
    pub weights: Vec<FloatArray>,
}

impl WeightMean {
    /// Of the last of so many steps.
    pub fn new(steps: usize) -> Self {
        WeightMean {
            from: steps - (steps as f64 * LAST) as usize,
            count: 0,
            weights: Vec::new(),
        }
    }

    /// Counts the weights after a step, if it is one of the last.
    pub fn add(&mut self, step: usize, weights: &[FloatArray]) {
        if step <= self.from {
            return;
        }
        self.count += 1;
        if self.count == 1 {
            self.weights = weights.to_vec();
            return;
        }
        let share = 1.0 / self.count as f32;
        let pairs = self.weights.par_iter_mut().zip(weights);
        pairs.for_each(|(mean, weight)| {
            for (mean, weight) in mean.data.iter_mut().zip(&weight.data) {
                *mean += share * (weight - *mean);
            }
        });
    }

    /// The mean, where it is of more than one step.
    pub fn found(&self) -> Option<&[FloatArray]> {
        (self.count > 1).then_some(&*self.weights)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_quarter_is_averaged() {
        let mut mean = WeightMean::new(8);
        let weights = |number: f32| [FloatArray::new(vec![2], vec![number, 0.0])];
        for step in 1..=7 {
            mean.add(step, &weights(step as f32));
        }
        assert_eq!((mean.count, mean.found()), (1, None));
        mean.add(8, &weights(8.0));
        // What is zero in all stays exactly so.
        assert_eq!(mean.found().unwrap()[0].data, [7.5, 0.0]);
    }
}
