//! Elements of free classes that go together because an operator picks one for another.

use std::collections::BTreeMap;

use super::classes::{ClassId, Classes};
use super::spaces::{Correspondence, SpaceId, Spaces};
use super::union_find::UnionFind;

/// Elements of classes that picks tie together.
pub(super) struct Ties {
    /// The number of each class's first element; classes that are not free have none.
    offsets: Vec<u32>,
    elements: UnionFind,
    /// Of classes.
    groups: UnionFind,
    /// Roots of elements that something holds which is not free.
    stuck: Vec<bool>,
}

impl Ties {
    pub(super) fn new(spaces: &Spaces, classes: &Classes) -> Self {
        let mut offsets = Vec::with_capacity(classes.classes.len());
        let mut count = 0u32;
        for class in &classes.classes {
            offsets.push(count);
            count += if class.free { class.extent } else { 0 };
        }
        let mut ties = Ties {
            offsets,
            elements: UnionFind::new(count as usize),
            groups: UnionFind::new(classes.classes.len()),
            stuck: vec![false; count as usize],
        };
        for correspondence in &spaces.correspondences {
            ties.tie(spaces, classes, correspondence);
        }
        for element in 0..count {
            if ties.stuck[element as usize] {
                let root = ties.elements.find(element);
                ties.stuck[root as usize] = true;
            }
        }
        ties
    }

    fn number(&self, (class, element): (ClassId, u32)) -> u32 {
        self.offsets[class.index()] + element
    }

    fn tie(&mut self, spaces: &Spaces, classes: &Classes, correspondence: &Correspondence) {
        let Correspondence::Pick {
            axis,
            start,
            label,
            indices,
        } = correspondence
        else {
            return;
        };
        for (at, index) in indices.iter().enumerate() {
            let left = element_at(spaces, classes, *axis, start + at as u64);
            let right = element_at(spaces, classes, *label, u64::from(*index));
            match (left, right) {
                (Some(left), Some(right)) => {
                    let (one, other) = (self.number(left), self.number(right));
                    self.elements.unite(one, other);
                    self.groups.unite(left.0.0, right.0.0);
                }
                (Some(only), None) | (None, Some(only)) => {
                    let number = self.number(only);
                    self.stuck[number as usize] = true;
                }
                (None, None) => {}
            }
        }
    }

    /// The free classes, group by group.
    pub(super) fn members(&mut self, classes: &Classes) -> Vec<Vec<ClassId>> {
        let mut members: BTreeMap<u32, Vec<ClassId>> = BTreeMap::new();
        let free = classes.classes.iter().enumerate();
        for (at, _) in free.filter(|(_, class)| class.free) {
            let group = self.groups.find(at as u32);
            members.entry(group).or_default().push(ClassId(at as u32));
        }
        members.into_values().collect()
    }

    /// The units of a group: elements that go together.
    pub(super) fn units(
        &mut self,
        classes: &Classes,
        members: &[ClassId],
    ) -> Vec<Vec<(ClassId, u32)>> {
        let mut units: BTreeMap<u32, Vec<(ClassId, u32)>> = BTreeMap::new();
        for class in members {
            for element in 0..classes.get(*class).extent {
                let root = self.elements.find(self.number((*class, element)));
                if !self.stuck[root as usize] {
                    units.entry(root).or_default().push((*class, element));
                }
            }
        }
        units.into_values().collect()
    }
}

/// The class and element that an index of a space belongs to, if it is free.
fn element_at(
    spaces: &Spaces,
    classes: &Classes,
    space: SpaceId,
    index: u64,
) -> Option<(ClassId, u32)> {
    let (piece, place) = spaces.get(space).pieces.find(index)?;
    let factor = classes.carrier(space, piece)?;
    let element = place / factor.stride % u64::from(classes.get(factor.class).extent.max(1));
    Some((factor.class, element as u32))
}
