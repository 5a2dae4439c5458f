//! A number per unit: how much would be lost with it.
//!
//! Invariant: knows weights and statistics, no protobuf, no budgets.

mod norm;
mod random;

use crate::analysis::{Analysis, Group};
use crate::model::Model;

pub use norm::Norm;
pub use random::Random;

/// What scores are computed from.
#[derive(Clone, Copy, Debug)]
pub struct Evidence<'a> {
    /// The model with its weights.
    pub model: &'a Model,
    /// Which slices of which weights a unit holds.
    pub analysis: &'a Analysis,
}

/// A way to rank the units of all groups.
pub trait Score: Sync {
    /// One saliency per unit of each group; larger means more is lost. Comparable between groups.
    fn score(&self, evidence: Evidence, groups: &[Group]) -> Vec<Vec<f64>>;
}

/// Divides by the mean, so that groups of different scale and size can be ranked together.
fn normalise(mut saliency: Vec<f64>) -> Vec<f64> {
    let mean = saliency.iter().sum::<f64>() / saliency.len().max(1) as f64;
    if mean > 0.0 {
        saliency.iter_mut().for_each(|saliency| *saliency /= mean);
    }
    saliency
}
