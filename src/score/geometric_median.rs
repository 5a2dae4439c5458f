//! Distance from the geometric median (He et al., "Filter Pruning via Geometric Median for Deep Neural Networks
//! Acceleration", 2019): a unit near the middle of its group is one that the others can stand in for.

use std::collections::BTreeMap;

use faer::linalg::matmul::matmul;
use faer::{Accum, Mat, Par};

use super::{Evidence, Norm, Score, normalise};
use crate::analysis::{ClassId, Group};
use crate::model::ValueId;

/// The sum of the distances of a unit's weights from those of all others of its group, divided by its mean over the group.
/// Groups whose units hold no comparable slices are ranked by [`Norm::L2`].
#[derive(Clone, Copy, Debug)]
pub struct GeometricMedian;

impl Score for GeometricMedian {
    fn score(&self, evidence: Evidence, groups: &[Group]) -> Vec<Vec<f64>> {
        let norms = Norm::L2.score(evidence, groups);
        groups
            .iter()
            .zip(norms)
            .map(|(group, norms)| distances(evidence, group).map_or(norms, normalise))
            .collect()
    }

    fn silent(&self, evidence: Evidence, groups: &[Group]) -> Vec<usize> {
        let vectors = |group: &Group| {
            group
                .weights
                .iter()
                .any(|slice| indices(evidence, group, *slice).is_some())
        };
        groups
            .iter()
            .enumerate()
            .filter(|(_, group)| !vectors(group))
            .map(|(place, _)| place)
            .collect()
    }
}

/// The sum of each unit's distances from the others; `None`: there are no vectors to compare.
fn distances(evidence: Evidence, group: &Group) -> Option<Vec<f64>> {
    let count = group.units.len();
    let mut products: Option<Mat<f64>> = None;
    for slice in &group.weights {
        let Some(indices) = indices(evidence, group, *slice) else {
            continue;
        };
        let Some(vectors) = vectors(evidence, &indices, *slice) else {
            continue;
        };
        let products = products.get_or_insert_with(|| Mat::zeros(count, count));
        matmul(
            products.as_mut(),
            Accum::Add,
            &vectors,
            vectors.transpose(),
            1.0,
            Par::Seq,
        );
    }
    let products = products?;
    let distance = |a: usize, b: usize| {
        (products[(a, a)] + products[(b, b)] - 2.0 * products[(a, b)])
            .max(0.0)
            .sqrt()
    };
    Some(
        (0..count)
            .map(|a| (0..count).filter(|b| *b != a).map(|b| distance(a, b)).sum())
            .collect(),
    )
}

/// For each unit the indices that it has on an axis, all of one number. `None`: they are not, or the weight is a vector.
fn indices(
    evidence: Evidence,
    group: &Group,
    (value, axis): (ValueId, usize),
) -> Option<Vec<Vec<usize>>> {
    let rank = |value: ValueId| {
        evidence
            .model
            .tensor_proto(value)
            .map_or(0, |tensor| tensor.dims.len())
    };
    let matrices = group.weights.iter().any(|(value, _)| rank(*value) > 1);
    if matrices && rank(value) < 2 {
        return None;
    }
    let unit_of: BTreeMap<(ClassId, u32), usize> = group
        .units
        .iter()
        .enumerate()
        .flat_map(|(at, unit)| unit.iter().map(move |slice| (*slice, at)))
        .collect();
    let analysis = evidence.analysis;
    let space = analysis.spaces.axis(value, axis)?;
    let mut indices = vec![Vec::new(); group.units.len()];
    for (at, piece) in analysis.spaces.get(space).pieces.iter().enumerate() {
        let Some(factor) = analysis.classes.carrier(space, at) else {
            continue;
        };
        let extent = u64::from(analysis.classes.get(factor.class).extent.max(1));
        for place in 0..piece.size().count().unwrap_or(0) as u64 {
            let element = (place / factor.stride.max(1) % extent) as u32;
            if let Some(unit) = unit_of.get(&(factor.class, element)) {
                indices[*unit].push(piece.index(place) as usize);
            }
        }
    }
    indices
        .iter_mut()
        .for_each(|indices| indices.sort_unstable());
    let length = indices.first().map_or(0, Vec::len);
    (length > 0 && indices.iter().all(|indices| indices.len() == length)).then_some(indices)
}

/// The units' slices of a weight, a row each.
fn vectors(
    evidence: Evidence,
    indices: &[Vec<usize>],
    (value, axis): (ValueId, usize),
) -> Option<Mat<f64>> {
    let tensor = evidence.model.constant(value)?;
    let numbers = tensor.to_f32()?;
    let extent = *tensor.dims.get(axis)?;
    let block: usize = tensor.dims[axis + 1..].iter().product();
    let outer: usize = tensor.dims[..axis].iter().product();
    let mut rows: Vec<Vec<f64>> = Vec::with_capacity(indices.len());
    for indices in indices {
        let mut row = Vec::with_capacity(outer * indices.len() * block);
        for before in 0..outer {
            for index in indices {
                let start = (before * extent + index) * block;
                row.extend(
                    numbers
                        .get(start..start + block)?
                        .iter()
                        .map(|number| f64::from(*number)),
                );
            }
        }
        rows.push(row);
    }
    let length = rows.first()?.len();
    Some(Mat::from_fn(rows.len(), length, |unit, at| rows[unit][at]))
}
