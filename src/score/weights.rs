//! The weights that go with each unit.

use std::collections::BTreeMap;

use super::Evidence;
use crate::analysis::{ClassId, Group};
use crate::model::ValueId;

impl Evidence<'_> {
    /// For each unit of a group all numbers that go with it, in no particular order. A number at the crossing of two axes that
    /// both lose slices is there once for each. Empty where the group's weights are not stored as numbers.
    pub fn weights(&self, group: &Group) -> Vec<Vec<f32>> {
        let unit_of: BTreeMap<(ClassId, u32), usize> = group
            .units
            .iter()
            .enumerate()
            .flat_map(|(number, unit)| unit.iter().map(move |slice| (*slice, number)))
            .collect();
        let mut found = vec![Vec::new(); group.units.len()];
        for (value, axis) in &group.weights {
            let Some((length, numbers)) = self.numbers(*value, *axis) else {
                continue;
            };
            let units: Vec<Option<usize>> = self
                .slices(*value, *axis, length)
                .into_iter()
                .map(|slice| unit_of.get(&slice?).copied())
                .collect();
            let block = self.block(*value, *axis);
            for (place, number) in numbers.into_iter().enumerate() {
                let unit = units.get(place / block % length).copied().flatten();
                if let Some(unit) = unit.and_then(|unit| found.get_mut(unit)) {
                    unit.push(number);
                }
            }
        }
        found
    }

    /// The extent of an axis of a constant, and all of its numbers.
    fn numbers(&self, value: ValueId, axis: usize) -> Option<(usize, Vec<f32>)> {
        let tensor = self.model.constant(value)?;
        let length = *tensor.dims.get(axis)?;
        Some((length.max(1), tensor.to_f32()?))
    }

    /// Elements between two neighbours on an axis.
    fn block(&self, value: ValueId, axis: usize) -> usize {
        let dims = self.model.constant(value).map(|tensor| tensor.dims);
        dims.and_then(|dims| Some(dims.get(axis + 1..)?.iter().product::<usize>()))
            .unwrap_or(1)
            .max(1)
    }

    /// The class and element of each index of an axis.
    fn slices(&self, value: ValueId, axis: usize, length: usize) -> Vec<Option<(ClassId, u32)>> {
        let mut slices = vec![None; length];
        let Some(space) = self.analysis.spaces.axis(value, axis) else {
            return slices;
        };
        let pieces = &self.analysis.spaces.get(space).pieces;
        for (number, piece) in pieces.iter().enumerate() {
            let Some(factor) = self.analysis.classes.carrier(space, number) else {
                continue;
            };
            let extent = self.analysis.classes.get(factor.class).extent.max(1) as usize;
            for place in 0..piece.size().count().unwrap_or(0) {
                let element = place / factor.stride.max(1) as usize % extent;
                if let Some(slice) = slices.get_mut(piece.index(place as u64) as usize) {
                    *slice = Some((factor.class, element as u32));
                }
            }
        }
        slices
    }
}
