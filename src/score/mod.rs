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
mod table;
mod taylor;
#[cfg(test)]
mod tests;
mod variance;
mod wanda;
mod weights;

use crate::analysis::{Analysis, Group};
use crate::calibrate::{MaskDerivatives, Statistics};
use crate::linear::Linear;
use crate::model::Model;

pub use bn::BatchNorm;
pub use curve::Curve;
pub use geometric_median::GeometricMedian;
pub use given::{Given, GivenError};
pub use lamp::Lamp;
pub use norm::Norm;
pub use obs::readers;
pub use random::Random;
pub use swap::improve as swap_units;
pub use table::{Needs, SCORES, ScoreEntry, Scorer};
pub use taylor::Taylor;

/// What scores are computed from.
#[derive(Clone, Copy, Debug)]
pub struct Evidence<'a> {
    /// The model with its weights.
    pub model: &'a Model,
    /// Which slices of which weights a unit holds.
    #[doc(hidden)]
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
    /// Derivatives by masks on what those products read, where a score needs them.
    #[doc(hidden)]
    pub derivatives: Option<&'a MaskDerivatives>,
}

/// What a score says of a group by what its readers get.
#[doc(hidden)]
#[derive(Clone, Debug)]
pub enum ByReaders {
    /// It does not go by activations.
    Unused,
    /// Nothing: no product with constant weights reads the group.
    Silent,
    /// A curve.
    Curve(Curve),
}

impl From<Option<Curve>> for ByReaders {
    fn from(curve: Option<Curve>) -> Self {
        curve.map_or(ByReaders::Silent, ByReaders::Curve)
    }
}

/// A way to rank the units of all groups.
pub trait Score: std::fmt::Debug + Send + Sync {
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

    /// What is lost of a group by what its readers get, where the score goes by activations: then [`score`](Self::score) and
    /// [`curves`](Self::curves) only stand in for it where there are none.
    #[doc(hidden)]
    fn by_readers(&self, _calibrated: &Calibrated, _group: &Group) -> ByReaders {
        ByReaders::Unused
    }

    /// Whether units that go are swapped for others where the readers then lose less.
    #[doc(hidden)]
    fn swaps(&self) -> bool {
        false
    }

    /// Whether it has numbers for a group; those without are not cut.
    #[doc(hidden)]
    fn covers(&self, _group: &Group) -> bool {
        true
    }

    /// Errors: it does not fit the groups of a model.
    #[doc(hidden)]
    fn check(&self, _groups: &[Group]) -> Result<(), GivenError> {
        Ok(())
    }

    /// The curve of the units of a group of the original that are left, where numbers are of the original alone.
    #[doc(hidden)]
    fn of_original(&self, _group: &Group, _left: &dyn Fn(u32) -> bool) -> Option<Curve> {
        None
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
