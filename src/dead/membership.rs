//! Which unit of which group every index of an axis goes with.

use crate::analysis::{Analysis, ClassId, SpaceId};

/// A class's group, and the unit of each of its elements.
type ClassMembers = (usize, Vec<Option<u32>>);

/// The units that indices belong to.
pub(super) struct Membership<'a> {
    analysis: &'a Analysis,
    /// By class; `None` where it is of no group.
    classes: Vec<Option<ClassMembers>>,
}

impl<'a> Membership<'a> {
    pub fn new(analysis: &'a Analysis) -> Self {
        let mut classes: Vec<Option<ClassMembers>> = vec![None; analysis.classes.classes.len()];
        for (group, found) in analysis.groups.iter().enumerate() {
            for class in &found.classes {
                let extent = analysis.classes.get(*class).extent as usize;
                classes[class.index()] = Some((group, vec![None; extent]));
            }
            for (number, unit) in found.units.iter().enumerate() {
                for (class, element) in unit {
                    if let Some((_, units)) = &mut classes[class.index()] {
                        units[*element as usize] = Some(number as u32);
                    }
                }
            }
        }
        Membership { analysis, classes }
    }

    fn carriers(&self, space: SpaceId) -> impl Iterator<Item = (usize, crate::analysis::Factor)> {
        let pieces = self.analysis.spaces.get(space).pieces.len();
        (0..pieces).filter_map(move |piece| {
            let factor = self.analysis.classes.carrier(space, piece)?;
            self.classes[factor.class.index()].as_ref()?;
            Some((piece, factor))
        })
    }

    /// The groups that lose indices of a space when they lose units, ascending.
    pub fn groups(&self, space: SpaceId) -> Vec<usize> {
        let mut groups: Vec<usize> = self
            .carriers(space)
            .filter_map(|(_, factor)| Some(self.classes[factor.class.index()].as_ref()?.0))
            .collect();
        groups.sort_unstable();
        groups.dedup();
        groups
    }

    /// The group and unit of an element.
    pub fn of_element(&self, class: ClassId, element: u32) -> Option<(usize, u32)> {
        let (group, units) = self.classes[class.index()].as_ref()?;
        Some((*group, units.get(element as usize).copied().flatten()?))
    }

    /// How many units a group has.
    pub fn count(&self, group: usize) -> usize {
        self.analysis.groups[group].units.len()
    }

    /// The group and unit of each of so many indices of a space.
    pub fn of_indices(&self, space: SpaceId, length: usize) -> Vec<Option<(usize, u32)>> {
        let mut found = vec![None; length];
        for (piece, factor) in self.carriers(space) {
            let block = &self.analysis.spaces.get(space).pieces[piece];
            let Some((group, units)) = &self.classes[factor.class.index()] else {
                continue;
            };
            for place in 0..block.size().count().unwrap_or(0) {
                let element = place / factor.stride.max(1) as usize % units.len().max(1);
                let unit = units.get(element).copied().flatten();
                if let (Some(unit), Some(slot)) =
                    (unit, found.get_mut(block.index(place as u64) as usize))
                {
                    *slot = Some((*group, unit));
                }
            }
        }
        found
    }
}
