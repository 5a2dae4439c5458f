//! Wanda's norms of weights and activations (Sun et al., "A Simple and Effective Pruning Approach for Large Language
//! Models", 2024), for whole structures.

use super::columns::energies;
use super::{Calibrated, Curve};
use crate::analysis::Group;

/// Squares of `‖X‖₂ · |W|`, added over the weights of a unit's columns in all readers, each reader relative to its whole.
/// `None`: no reader of the group with statistics.
pub fn curve(calibrated: &Calibrated, group: &Group) -> Option<Curve> {
    let norm = |moments: &crate::calibrate::Moments, number: usize, column: usize| {
        moments.square(number, column)
    };
    Some(Curve::from_losses(&energies(calibrated, group, norm)?))
}
