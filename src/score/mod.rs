//! A number per unit: how much would be lost with it.
//!
//! Invariant: knows weights and statistics, no protobuf, no budgets.

mod bn;
mod columns;
mod curve;
mod geometric_median;
mod given;
mod lamp;
mod norm;
mod obs;
mod random;
mod swap;
#[cfg(test)]
mod tests;
mod variance;
mod wanda;

use crate::analysis::{Analysis, Group};
use crate::calibrate::Statistics;
use crate::linear::Linear;
use crate::model::Model;

pub use bn::BatchNorm;
pub use curve::Curve;
pub use geometric_median::GeometricMedian;
pub use given::{Given, GivenError};
pub use lamp::Lamp;
pub use norm::Norm;
pub use obs::{curve as obs_curve, readers};
pub use random::Random;
pub use swap::improve as swap_units;
pub use variance::curve as variance_curve;
pub use wanda::curve as wanda_curve;

/// What scores are computed from.
#[derive(Clone, Copy, Debug)]
pub struct Evidence<'a> {
    /// The model with its weights.
    pub model: &'a Model,
    /// Which slices of which weights a unit holds.
    pub analysis: &'a Analysis,
}

/// What curves are computed from.
#[derive(Clone, Copy, Debug)]
pub struct Calibrated<'a> {
    /// The model and what is known of it.
    pub evidence: Evidence<'a>,
    /// Its products with constant weights.
    pub views: &'a [Linear],
    /// Moments of their inputs, where there is data.
    pub statistics: Option<&'a Statistics>,
}

/// A way to rank the units of all groups.
pub trait Score: Sync {
    /// One saliency per unit of each group; larger means more is lost. Comparable between groups.
    fn score(&self, evidence: Evidence, groups: &[Group]) -> Vec<Vec<f64>>;

    /// One curve for each group. Saliencies are taken for amplitudes: their squares add up.
    fn curves(&self, evidence: Evidence, groups: &[Group]) -> Vec<Curve> {
        let curve = |saliency: Vec<f64>| {
            Curve::from_energy(
                &saliency
                    .iter()
                    .map(|saliency| saliency * saliency)
                    .collect::<Vec<_>>(),
            )
        };
        self.score(evidence, groups)
            .into_iter()
            .map(curve)
            .collect()
    }

    /// The groups (places in the list) that the score has nothing to say of; they are ranked by [`Norm::L2`].
    fn silent(&self, _evidence: Evidence, _groups: &[Group]) -> Vec<usize> {
        Vec::new()
    }
}

/// Divides by the mean, so that groups of different scale and size can be ranked together.
fn normalise(mut saliency: Vec<f64>) -> Vec<f64> {
    let mean = saliency.iter().sum::<f64>() / saliency.len().max(1) as f64;
    if mean > 0.0 {
        saliency.iter_mut().for_each(|saliency| *saliency /= mean);
    }
    saliency
}
