//! Wanda's norms of weights and activations (Sun et al., "A Simple and Effective Pruning Approach for Large Language
//! Models", 2024), for whole structures.

use super::columns::energies;
use super::{ByReaders, Calibrated, Curve, Evidence, Norm, Score};
use crate::analysis::Group;

/// Squared norms of inputs times weights of a unit's readers. Without statistics it ranks by [`Norm::L2`].
#[derive(Clone, Copy, Debug)]
pub struct Wanda;

impl Score for Wanda {
    fn score(&self, evidence: Evidence, groups: &[Group]) -> Vec<Vec<f64>> {
        Norm::L2.score(evidence, groups)
    }

    fn by_readers(&self, calibrated: &Calibrated, group: &Group) -> ByReaders {
        curve(calibrated, group).into()
    }
}

/// Squares of `‖X‖₂ · |W|`, added over the weights of a unit's columns in all readers, each reader relative to its whole.
/// `None`: no reader of the group with statistics.
pub(super) fn curve(calibrated: &Calibrated, group: &Group) -> Option<Curve> {
    let norm = |moments: &crate::calibrate::Moments, number: usize, column: usize| {
        moments.square(number, column)
    };
    Some(Curve::from_losses(&energies(calibrated, group, norm)?))
}
