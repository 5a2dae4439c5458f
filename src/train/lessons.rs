//! Where training stands: all that a step changes, and how it looks at inputs that are not learnt from.

use super::adamw::AdamW;
use super::course::Course;
use super::mean::WeightMean;
use super::rate::RATE;
use super::{Lesson, TrainError};
use crate::gradient::FloatArray;

/// The rate was too high where the error on inputs that are not learnt from is more than so many times what it was,
const WORSE: f64 = 1.5;
/// in so large a share of the steps, the first ones;
const EARLY: f64 = 0.25;
/// and is this many times what it was after that.
const SLOWER: f64 = 1.0 / 3.0;

/// All that steps change, beside the weights themselves.
#[derive(Clone, Debug)]
pub(super) struct CourseState {
    /// Steps that there are to be.
    steps: usize,
    /// Steps done.
    pub step: usize,
    pub adam: AdamW,
    pub mean: WeightMean,
    /// The best weights so far, and their error.
    pub best: Vec<FloatArray>,
    pub least: f64,
    pub curve: Vec<Lesson>,
    /// The sum of the losses since the last look, and of how many steps.
    pub loss: (f64, usize),
}

impl CourseState {
    /// Before the first of so many steps; `held_out` is the error of the weights as they are.
    pub fn new(weights: &[FloatArray], held_out: f64, steps: usize) -> Self {
        CourseState {
            steps,
            step: 0,
            adam: AdamW::new(weights, RATE, steps),
            mean: WeightMean::new(steps),
            best: weights.to_vec(),
            least: held_out,
            curve: vec![Lesson {
                held_out,
                ..Default::default()
            }],
            loss: (0.0, 0),
        }
    }

    /// Notes a step that was taken.
    pub fn took(&mut self, loss: f64, weights: &[FloatArray]) {
        self.step += 1;
        self.loss = (self.loss.0 + loss, self.loss.1 + 1);
        self.mean.add(self.step, weights);
    }

    /// Measures the weights, and their mean over the last steps, and keeps the best.
    pub fn look(&mut self, course: &mut Course) -> Result<Lesson, TrainError> {
        let held_out = course.held_out_error()?;
        if held_out < self.least {
            self.least = held_out;
            self.best.clone_from(&course.student.weights);
        }
        let mut averaged = None;
        if let Some(mean) = self.mean.found() {
            let error = course.held_out_error_of(mean)?;
            if error < self.least {
                self.least = error;
                self.best = mean.to_vec();
            }
            averaged = Some(error);
        }
        let (sum, count) = std::mem::take(&mut self.loss);
        let lesson = Lesson {
            step: self.step,
            loss: Some(sum / count.max(1) as f64),
            held_out,
            averaged,
        };
        if self.is_adrift(held_out) {
            self.fall_back(&mut course.student.weights);
        }
        self.curve.push(lesson);
        Ok(lesson)
    }

    /// Whether the first steps led away from what is wanted.
    fn is_adrift(&self, held_out: f64) -> bool {
        let start = self
            .curve
            .first()
            .map_or(f64::INFINITY, |first| first.held_out);
        self.step as f64 <= EARLY * self.steps as f64 && held_out > WORSE * start
    }

    /// Goes on from the best weights so far, at a lower rate.
    fn fall_back(&mut self, weights: &mut Vec<FloatArray>) {
        weights.clone_from(&self.best);
        self.adam.slow_down(SLOWER);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_that_leads_away_is_lowered_early() {
        let weights = vec![FloatArray::new(vec![2], vec![1.0, 2.0])];
        let mut state = CourseState::new(&weights, 0.1, 100);
        state.step = 5;
        assert!(state.is_adrift(0.16) && !state.is_adrift(0.14));
        let mut moved = vec![FloatArray::new(vec![2], vec![9.0, 9.0])];
        state.fall_back(&mut moved);
        assert_eq!(moved[0].data, weights[0].data);
        assert_eq!(state.adam.largest, RATE * SLOWER);
        // What is late has been slow for long, and a model without an error has nothing to learn.
        state.step = 30;
        assert!(!state.is_adrift(0.16));
        let perfect = CourseState::new(&weights, 0.0, 100);
        assert!(!perfect.is_adrift(0.0) && perfect.is_adrift(1e-9));
    }
}
