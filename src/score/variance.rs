//! FLAP's fluctuation: how much what a unit gives its readers varies (An et al., "Fluctuation-based Adaptive Structured
//! Pruning for Large Language Models", 2024). What does not vary, a bias can stand in for.

use super::columns::energies;
use super::{Calibrated, Curve};
use crate::analysis::Group;

/// Variance of a column's input times the squared norm of its weights, added over the columns of a unit in all readers,
/// each reader relative to its whole. `None`: no reader of the group with statistics.
pub fn curve(calibrated: &Calibrated, group: &Group) -> Option<Curve> {
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
