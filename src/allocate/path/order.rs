//! The order in which units of a group may go.

use std::collections::BTreeMap;

use crate::analysis::{Analysis, ClassId, Group};

/// The units of a group that may go in this order, so that every class keeps what it must.
pub(super) fn removable(group: &Group, analysis: &Analysis, order: &[u32]) -> Vec<u32> {
    let mut left: BTreeMap<ClassId, u32> = group
        .classes
        .iter()
        .map(|class| (*class, analysis.classes.get(*class).extent))
        .collect();
    let mut removable = Vec::with_capacity(order.len());
    for unit in order {
        let slices = &group.units[*unit as usize];
        let spares = |class: &ClassId| {
            let gone = slices.iter().filter(|(other, _)| other == class).count() as u32;
            let least = analysis.classes.get(*class).least();
            left.get(class).is_some_and(|left| *left >= gone + least)
        };
        if slices.iter().all(|(class, _)| spares(class)) {
            slices
                .iter()
                .for_each(|(class, _)| *left.entry(*class).or_insert(1) -= 1);
            removable.push(*unit);
        }
    }
    removable
}
