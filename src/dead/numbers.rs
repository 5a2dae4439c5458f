//! What is known of the numbers of a value: of all of them, and of the slices of each unit.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::interval::Interval;
use super::membership::Membership;
use crate::analysis::Analysis;
use crate::clean::is_constant;
use crate::model::{Model, TensorRef, ValueId};
use crate::proto::Dtype;

/// A constant of more elements than this that no unit is cut from is not read.
const LARGE: i64 = 1 << 16;

/// Bounds on the numbers of a value.
#[derive(Clone, Debug)]
pub(super) struct KnownNumbers {
    /// Of all of them.
    pub whole: Interval,
    /// By axis and group, of what lies at each unit's indices of that axis; where there is none, `whole` says all.
    pub slices: BTreeMap<(usize, usize), Arc<[Interval]>>,
}

impl KnownNumbers {
    pub const UNKNOWN: KnownNumbers = KnownNumbers {
        whole: Interval::ALL,
        slices: BTreeMap::new(),
    };

    /// Bounds on what lies at a unit's indices of an axis.
    pub fn slice(&self, axis: usize, group: usize, unit: usize) -> Interval {
        let units = self.slices.get(&(axis, group));
        units
            .and_then(|units| units.get(unit))
            .copied()
            .unwrap_or(self.whole)
    }

    /// Those of a constant. `None`: it is no constant, or holds no numbers of a byte or more.
    pub fn of_constant(
        model: &Model,
        analysis: &Analysis,
        membership: &Membership,
        value: ValueId,
    ) -> Option<Self> {
        let proto = model
            .tensor_proto(value)
            .filter(|_| is_constant(model, value))?;
        let grouped: Vec<(usize, Vec<usize>)> = analysis
            .spaces
            .axes(value)
            .map(|space| membership.groups(space))
            .enumerate()
            .filter(|(axis, groups)| !groups.is_empty() && *axis < proto.dims.len())
            .collect();
        if grouped.is_empty() && proto.dims.iter().product::<i64>() > LARGE {
            return None;
        }
        let tensor = TensorRef::from_proto(proto).ok()?;
        let mut numbers = KnownNumbers {
            whole: by_index(&tensor, 0, 1)?[0],
            slices: BTreeMap::new(),
        };
        for (axis, groups) in grouped {
            let length = tensor.dims[axis];
            let block = tensor.dims[axis + 1..].iter().product::<usize>();
            let bounds = by_index(&tensor, block, length)?;
            let mut units: BTreeMap<usize, Vec<Interval>> = groups
                .into_iter()
                .map(|group| (group, vec![Interval::NONE; membership.count(group)]))
                .collect();
            let space = analysis.spaces.axis(value, axis)?;
            let members = membership.of_indices(space, length);
            for (member, bound) in members.into_iter().zip(bounds) {
                if let Some((group, unit)) = member
                    && let Some(unit) = units
                        .get_mut(&group)
                        .and_then(|units| units.get_mut(unit as usize))
                {
                    *unit = unit.hull(bound);
                }
            }
            let arrays = units
                .into_iter()
                .map(|(group, units)| ((axis, group), units.into()));
            numbers.slices.extend(arrays);
        }
        Some(numbers)
    }
}

/// Bounds by index of an axis of this length, whose neighbours lie `block` elements apart; with a length of 1 those of all elements.
fn by_index(tensor: &TensorRef, block: usize, length: usize) -> Option<Vec<Interval>> {
    let block = if length == 1 {
        tensor.elements()
    } else {
        block
    }
    .max(1);
    let mut bounds = vec![Interval::NONE; length];
    let mut include = |at: usize, low: f64, high: f64, is_number: bool| {
        let found = if is_number {
            Interval { low, high }
        } else {
            Interval::ALL
        };
        let bound = &mut bounds[at % length];
        *bound = bound.hull(found);
    };
    if tensor.dtype == Dtype::Float && block == 1 {
        return Some(by_column(&tensor.bytes, length));
    }
    if tensor.dtype == Dtype::Float {
        // The common case reads the mapped bytes as they lie.
        for (row, bytes) in tensor.bytes.chunks(4 * block).enumerate() {
            let (mut low, mut high, mut is_number) = (f32::INFINITY, f32::NEG_INFINITY, true);
            for element in bytes.chunks_exact(4) {
                let number = f32::from_le_bytes([element[0], element[1], element[2], element[3]]);
                low = if number < low { number } else { low };
                high = if number > high { number } else { high };
                is_number &= number.is_finite();
            }
            include(row, f64::from(low), f64::from(high), is_number);
        }
        return Some(bounds);
    }
    for (row, numbers) in tensor.to_f64()?.chunks(block).enumerate() {
        let low = numbers.iter().copied().fold(f64::INFINITY, f64::min);
        let high = numbers.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        include(
            row,
            low,
            high,
            numbers.iter().all(|number| number.is_finite()),
        );
    }
    Some(bounds)
}

/// The same by index of the last axis, in vector registers.
fn by_column(bytes: &[u8], length: usize) -> Vec<Interval> {
    let (mut low, mut high) = (vec![f32::INFINITY; length], vec![f32::NEG_INFINITY; length]);
    // Not a number where some number of the column is not finite.
    let mut odd = vec![0.0f32; length];
    for row in bytes.chunks_exact(4 * length.max(1)) {
        for (((element, low), high), odd) in row
            .chunks_exact(4)
            .zip(&mut low)
            .zip(&mut high)
            .zip(&mut odd)
        {
            let number = f32::from_le_bytes([element[0], element[1], element[2], element[3]]);
            *low = if number < *low { number } else { *low };
            *high = if number > *high { number } else { *high };
            *odd += number * 0.0;
        }
    }
    let bounds = low.into_iter().zip(high).zip(odd);
    bounds
        .map(|((low, high), odd)| match odd.is_nan() {
            true => Interval::ALL,
            false => Interval {
                low: f64::from(low),
                high: f64::from(high),
            },
        })
        .collect()
}
