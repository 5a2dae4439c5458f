//! FLAP's fluctuation: how much what a unit gives its readers varies (An et al., "Fluctuation-based Adaptive Structured
//! Pruning for Large Language Models", 2024). What does not vary, a bias can stand in for.

use super::columns::energies;
use super::{ByReaders, Calibrated, Curve, Evidence, Norm, Score};
use crate::analysis::Group;

/// The variance of what goes through a unit into its readers. Without statistics it ranks by [`Norm::L2`].
#[derive(Clone, Copy, Debug)]
pub struct Variance;

impl Score for Variance {
    fn score(&self, evidence: Evidence, groups: &[Group]) -> Vec<Vec<f64>> {
        Norm::L2.score(evidence, groups)
    }

    fn by_readers(&self, calibrated: &Calibrated, group: &Group) -> ByReaders {
        curve(calibrated, group).into()
    }
}

/// Variance of a column's input times the squared norm of its weights, added over the columns of a unit in all readers,
/// each reader relative to its whole. `None`: no reader of the group with statistics.
pub(super) fn curve(calibrated: &Calibrated, group: &Group) -> Option<Curve> {
    let variance = |moments: &crate::calibrate::Moments, number: usize, column: usize| {
        let rows = moments.rows.max(1.0);
        let mean = moments
            .sum
            .get(number * moments.columns() + column)
            .map_or(0.0, |sum| sum / rows);
        moments.square(number, column) / rows - mean * mean
    };
    Some(Curve::from_losses(&energies(calibrated, group, variance)?))
}
