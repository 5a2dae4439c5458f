//! The scales of batch normalisation (Liu et al., "Learning Efficient Convolutional Networks through Network Slimming", 2017).

use super::{Evidence, Norm, Score, normalise};
use crate::analysis::Group;
use crate::model::ValueId;
use crate::ops::meaning;

/// `|γ|` of the BatchNormalization that holds a unit's channel (the sum, where several do), divided by its mean over the group.
/// Groups without one are ranked by [`Norm::L2`].
#[derive(Clone, Copy, Debug)]
pub struct BatchNorm;

impl Score for BatchNorm {
    fn score(&self, evidence: Evidence, groups: &[Group]) -> Vec<Vec<f64>> {
        let norms = Norm::L2.score(evidence, groups);
        groups
            .iter()
            .zip(norms)
            .map(|(group, norms)| scales(evidence, group).unwrap_or(norms))
            .collect()
    }

    fn silent(&self, evidence: Evidence, groups: &[Group]) -> Vec<usize> {
        groups
            .iter()
            .enumerate()
            .filter(|(_, group)| scales(evidence, group).is_none())
            .map(|(place, _)| place)
            .collect()
    }
}

/// `None`: some unit has no scale.
fn scales(evidence: Evidence, group: &Group) -> Option<Vec<f64>> {
    let scales = group
        .weights
        .iter()
        .copied()
        .filter(|(value, _)| is_scale(evidence, *value))
        .collect();
    let sums = Norm::L1.by_class(evidence, scales);
    let unit = |unit: &Vec<_>| {
        let found: Vec<f64> = unit
            .iter()
            .filter_map(|(class, element)| sums.get(class)?.get(*element as usize).copied())
            .collect();
        (!found.is_empty()).then(|| found.iter().sum())
    };
    group
        .units
        .iter()
        .map(unit)
        .collect::<Option<Vec<f64>>>()
        .map(normalise)
}

fn is_scale(evidence: Evidence, value: ValueId) -> bool {
    evidence
        .model
        .index()
        .value(value)
        .readers
        .iter()
        .any(|(node, slot)| {
            meaning(evidence.model.node(*node))
                .statistics
                .is_some_and(|statistics| statistics.scale == *slot)
        })
}
