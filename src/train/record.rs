//! How a model is to be retrained, and how that went.

use crate::inputs::Augment;
use crate::model::Model;

/// How plans name weights that were trained.
pub const TRAINED: &str = "distill";

/// How to retrain.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Training {
    /// Steps of a batch; chosen by the model's size where `None`.
    pub steps: Option<usize>,
    /// Seed of batches and views.
    pub seed: u64,
    /// Whether single weights that are zero stay so.
    pub keeps_zeros: bool,
    /// Which views inputs are learnt from in.
    pub augment: Augment,
}

/// A point of the learning curve.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize)]
#[non_exhaustive]
pub struct Lesson {
    /// Steps done.
    pub step: usize,
    /// Error of the outputs on inputs that were not learnt from, relative to how much the original's vary.
    pub held_out: f64,
}

/// How a model was retrained, and what came of it.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
#[non_exhaustive]
pub struct TrainingRecord {
    /// Steps that were taken.
    pub steps: usize,
    /// Inputs of a step.
    pub batch: usize,
    /// In which views inputs were learnt from.
    pub views: String,
    /// Inputs that were not learnt from, by which the best weights were chosen.
    pub judged_by: usize,
    /// The learning curve, from before the first step.
    pub curve: Vec<Lesson>,
    /// Nodes without a derivative, before which weights stay as they are.
    pub stops: Vec<String>,
}

impl TrainingRecord {
    /// Error before the first step, and the least that was found.
    pub fn errors(&self) -> (f64, f64) {
        let errors = || self.curve.iter().map(|lesson| lesson.held_out);
        (
            errors().next().unwrap_or(0.0),
            errors().fold(f64::INFINITY, f64::min),
        )
    }
}

impl std::fmt::Display for TrainingRecord {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (before, after) = self.errors();
        write!(
            f,
            "trained for {} steps of {} inputs (views: {}): squared error of the outputs on {} inputs that were not learnt from \
             {before:.4} → {after:.4} of their variance",
            self.steps, self.batch, self.views, self.judged_by
        )?;
        match &self.stops[..] {
            [] => Ok(()),
            [only] => write!(
                f,
                "; what {only} reads stayed as it was, for it has no derivative"
            ),
            [first, more @ ..] => write!(
                f,
                "; what {first} and {} nodes more read stayed as it was, for they have no derivative",
                more.len()
            ),
        }
    }
}

/// What retraining came to.
#[derive(Debug)]
pub struct Trained {
    /// The model with the best weights; those that it came with where none were better.
    pub model: Model,
    /// How it came to them.
    pub record: TrainingRecord,
}
