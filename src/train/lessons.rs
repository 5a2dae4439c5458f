//! Where training stands: all that a step changes, and how it looks at inputs that are not learnt from.

use super::adamw::AdamW;
use super::course::Course;
use super::mean::WeightMean;
use super::{Lesson, TrainError};
use crate::gradient::FloatArray;

/// The largest rate.
const RATE: f64 = 1e-3;

/// All that steps change, beside the weights themselves.
#[derive(Clone, Debug)]
pub(super) struct CourseState {
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
        self.curve.push(lesson);
        Ok(lesson)
    }
}
