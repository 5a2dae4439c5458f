//! The norm of all weights of a unit.

use std::collections::{BTreeMap, BTreeSet};

use rayon::prelude::*;

use super::{Evidence, Score, normalise};
use crate::analysis::{ClassId, Group, Kind};
use crate::model::{TensorRef, ValueId};
use crate::proto::Dtype;

/// Group-L1 or group-L2 norm of all weights of a unit, divided by its mean over the group (Torch-Pruning's
/// `GroupMagnitudeImportance`, with every slice of every weight counted once).
#[derive(Clone, Copy, Debug)]
pub enum Norm {
    /// Sum of absolute values.
    L1,
    /// Root of the sum of squares.
    L2,
}

impl Score for Norm {
    fn score(&self, evidence: Evidence, groups: &[Group]) -> Vec<Vec<f64>> {
        let mut slices: Vec<(ValueId, usize)> = Vec::new();
        for group in groups {
            // Vectors (biases, statistics) say little of a channel's weight; they count only where there is nothing else.
            let rank = |value: &ValueId| {
                evidence
                    .model
                    .tensor_proto(*value)
                    .map_or(0, |tensor| tensor.dims.len())
            };
            let matrices = group.weights.iter().any(|(value, _)| rank(value) > 1);
            let counts = |value: &ValueId| !matrices || rank(value) > 1;
            // Of quantized experts the scales say how large weights are, and their bytes nothing.
            let is_float = |value: &ValueId| {
                let tensor = evidence.model.tensor_proto(*value);
                tensor
                    .and_then(|tensor| Dtype::from_code(tensor.data_type()))
                    .is_none_or(Dtype::is_float)
            };
            let measured = |value: &ValueId| group.kind != Kind::Experts || is_float(value);
            let weights = group.weights.iter();
            slices.extend(weights.filter(|(value, _)| counts(value) && measured(value)));
        }
        let total = self.by_class(evidence, slices);
        let unit = |unit: &Vec<(ClassId, u32)>| {
            let sum: f64 = unit
                .iter()
                .filter_map(|(class, element)| total.get(class)?.get(*element as usize))
                .sum();
            match self {
                Norm::L1 => sum,
                Norm::L2 => sum.sqrt(),
            }
        };
        groups
            .iter()
            .map(|group| normalise(group.units.iter().map(unit).collect()))
            .collect()
    }
}

impl Norm {
    /// Sums over what the elements of each class hold on some axes of some weights; squares are not rooted.
    pub(super) fn by_class(
        self,
        evidence: Evidence,
        slices: Vec<(ValueId, usize)>,
    ) -> BTreeMap<ClassId, Vec<f64>> {
        let mut axes: BTreeMap<ValueId, BTreeSet<usize>> = BTreeMap::new();
        for (value, axis) in slices {
            axes.entry(value).or_default().insert(axis);
        }
        let jobs: Vec<(ValueId, Vec<usize>)> = axes
            .into_iter()
            .map(|(value, axes)| (value, axes.into_iter().collect()))
            .collect();
        let sums: Vec<BTreeMap<ClassId, Vec<f64>>> = jobs
            .par_iter()
            .map(|(value, axes)| self.of_tensor(evidence, *value, axes))
            .collect();
        let mut total: BTreeMap<ClassId, Vec<f64>> = BTreeMap::new();
        for (class, sums) in sums.into_iter().flatten() {
            match total.get_mut(&class) {
                Some(total) => total
                    .iter_mut()
                    .zip(sums)
                    .for_each(|(total, sum)| *total += sum),
                None => {
                    total.insert(class, sums);
                }
            }
        }
        total
    }

    fn of_tensor(
        self,
        evidence: Evidence,
        value: ValueId,
        axes: &[usize],
    ) -> BTreeMap<ClassId, Vec<f64>> {
        let mut sums: BTreeMap<ClassId, Vec<f64>> = BTreeMap::new();
        let Some(tensor) = evidence.model.constant(value) else {
            return sums;
        };
        let analysis = evidence.analysis;
        for axis in axes {
            let Some(by_index) = self.by_index(&tensor, *axis) else {
                continue;
            };
            let Some(space) = analysis.spaces.axis(value, *axis) else {
                continue;
            };
            for (at, piece) in analysis.spaces.get(space).pieces.iter().enumerate() {
                let Some(factor) = analysis.classes.carrier(space, at) else {
                    continue;
                };
                let extent = analysis.classes.get(factor.class).extent as usize;
                let sums = sums
                    .entry(factor.class)
                    .or_insert_with(|| vec![0.0; extent]);
                for place in 0..piece.size().count().unwrap_or(0) {
                    let sum = by_index
                        .get(piece.index(place as u64) as usize)
                        .copied()
                        .unwrap_or(0.0);
                    sums[place / factor.stride as usize % extent] += sum;
                }
            }
        }
        sums
    }

    /// For each index of an axis the sum over all other axes.
    fn by_index(self, tensor: &TensorRef, axis: usize) -> Option<Vec<f64>> {
        let length = *tensor.dims.get(axis)?;
        let block = tensor.dims[axis + 1..].iter().product::<usize>();
        let mut sums = vec![0.0f64; length];
        if tensor.dtype == Dtype::Float {
            // The common case reads the mapped bytes as they lie.
            let element =
                |bytes: &[u8]| f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
            if block == 1 {
                for row in tensor.bytes.chunks_exact(4 * length.max(1)) {
                    for (sum, bytes) in sums.iter_mut().zip(row.chunks_exact(4)) {
                        *sum += f64::from(self.of(element(bytes)));
                    }
                }
            } else {
                for (row, bytes) in tensor.bytes.chunks_exact(4 * block.max(1)).enumerate() {
                    // Eight partial sums, so that the loop runs in vector registers.
                    let mut lanes = [0.0f32; 8];
                    let chunks = bytes.chunks_exact(32);
                    let rest: f32 = chunks
                        .remainder()
                        .chunks_exact(4)
                        .map(|bytes| self.of(element(bytes)))
                        .sum();
                    for chunk in chunks {
                        for (lane, bytes) in lanes.iter_mut().zip(chunk.chunks_exact(4)) {
                            *lane += self.of(element(bytes));
                        }
                    }
                    sums[row % length] += f64::from(rest + lanes.iter().sum::<f32>());
                }
            }
            return Some(sums);
        }
        for (at, element) in tensor.to_f32()?.into_iter().enumerate() {
            sums[at / block.max(1) % length] += f64::from(self.of(element));
        }
        Some(sums)
    }

    fn of(self, element: f32) -> f32 {
        match self {
            Norm::L1 => element.abs(),
            Norm::L2 => element * element,
        }
    }
}
