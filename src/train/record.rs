//! How a model is to be retrained, and how that went.

use super::measure::OutputLoss;
use super::place::Checkpoint;
use crate::inputs::{Augment, Batches};
use crate::model::Model;

/// How plans name weights that were trained.
pub const TRAINED: &str = "distill";

/// How to retrain.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Training {
    /// Steps of a batch; chosen by the model's size where `None`.
    pub steps: Option<usize>,
    /// Seed of batches and views.
    pub seed: u64,
    /// Whether single weights that are zero stay so.
    pub keeps_zeros: bool,
    /// What outputs are held against the original's by; by what they are where `None`.
    pub loss: Option<OutputLoss>,
    /// Whether true classes are learnt from too, where the data have them.
    pub labelled: bool,
    /// Over how many courses the steps are spread, where a model is trained several times; 0 and 1 are the same.
    pub courses: usize,
    /// Where the state is kept while training goes on; `None`: nowhere.
    pub checkpoint: Option<Checkpoint>,
    /// Which views inputs are learnt from in.
    pub augment: Augment,
}

/// What is learnt from.
#[derive(Clone, Copy, Debug)]
pub struct TrainingData<'a> {
    /// Inputs, one batch a run.
    pub inputs: &'a dyn Batches,
    /// Class ids of all their rows, in order.
    pub labels: Option<&'a [i64]>,
}

/// A point of the learning curve.
#[derive(Clone, Copy, Debug, Default, PartialEq, serde::Serialize)]
#[non_exhaustive]
pub struct Lesson {
    /// Steps done.
    pub step: usize,
    /// Mean loss of the steps since the point before, sums inside included.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub loss: Option<f64>,
    /// Error of the outputs on inputs that were not learnt from, relative to how much the original's vary.
    pub held_out: f64,
    /// The same of the mean of the weights over the last part of the steps.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub averaged: Option<f64>,
}

impl Lesson {
    /// The lesser of the two errors.
    pub(crate) fn least(&self) -> f64 {
        self.averaged.unwrap_or(f64::INFINITY).min(self.held_out)
    }
}

/// How a model was retrained, and what came of it.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize)]
#[non_exhaustive]
pub struct TrainingRecord {
    /// Steps that were taken.
    pub steps: usize,
    /// Inputs of a step.
    pub batch: usize,
    /// The largest learning rate.
    pub rate: f64,
    /// What outputs were held against the original's by.
    pub loss: String,
    /// ClassRows whose true classes were learnt from, too.
    pub labelled: usize,
    /// In which views inputs were learnt from.
    pub views: String,
    /// Inputs that were not learnt from, by which the best weights were chosen.
    pub judged_by: usize,
    /// The learning curve, from before the first step.
    pub curve: Vec<Lesson>,
    /// Nodes without a derivative, before which weights stay as they are.
    pub stops: Vec<String>,
    /// The same of rounds before.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub earlier: Vec<TrainingRecord>,
}

impl TrainingRecord {
    /// Steps that were taken, those of rounds before included.
    pub(crate) fn all_steps(&self) -> usize {
        self.steps
            + self
                .earlier
                .iter()
                .map(|record| record.steps)
                .sum::<usize>()
    }

    /// Error before the first step, and the least that was found.
    pub(crate) fn errors(&self) -> (f64, f64) {
        let first = self.curve.first().map_or(0.0, |lesson| lesson.held_out);
        let least = self.curve.iter().map(Lesson::least);
        (first, least.fold(f64::INFINITY, f64::min))
    }
}

impl std::fmt::Display for TrainingRecord {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (before, after) = self.errors();
        let classes = match self.labelled {
            0 => "",
            _ => " and their true classes",
        };
        for record in &self.earlier {
            let (before, after) = record.errors();
            write!(
                f,
                "trained for {} steps, {before:.4} → {after:.4}; then cut and ",
                record.steps
            )?;
        }
        write!(
            f,
            "trained for {} steps of {} inputs (views: {}; rate {:.0e}): {} of the outputs{classes} on {} inputs that were not learnt from \
             {before:.4} → {after:.4} of their variance",
            self.steps, self.batch, self.views, self.rate, self.loss, self.judged_by
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
