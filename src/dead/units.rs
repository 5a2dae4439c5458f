//! Which units no output can tell of: wherever they are summed over, one factor of the product is zero.

use super::carry::Carried;
use super::membership::Membership;
use super::readers::readers;
use crate::analysis::{Analysis, branch_ends};
use crate::workspace::Workspace;

/// Takes units out of those of a group that are to be removed, so that something of every axis stays; not those of `chosen`.
pub fn spare(analysis: &Analysis, group: usize, removed: &mut Vec<u32>, chosen: &[u32]) {
    let group = &analysis.groups[group];
    for class in &group.classes {
        let elements = |unit: u32| {
            let slices = group.units[unit as usize].iter();
            slices.filter(|(other, _)| other == class).count()
        };
        let gone: usize = removed.iter().map(|unit| elements(*unit)).sum();
        if gone > 0 && gone == analysis.classes.get(*class).extent as usize {
            let kept = removed
                .iter()
                .position(|unit| elements(*unit) > 0 && !chosen.contains(unit));
            kept.map(|kept| removed.remove(kept));
        }
    }
}

/// The units that can be removed without loss, by group. A cut takes the products with what goes out of every sum that runs over
/// it, and out of nothing else, unless a group is lossy; where all of these products are zero, all outputs stay. Of a group that
/// could go as a whole one unit stays, unless a branch ends there.
pub fn removable(workspace: &Workspace) -> Vec<Vec<u32>> {
    let (model, analysis) = (&workspace.working, &workspace.analysis);
    let membership = Membership::new(analysis);
    let carried = Carried::new(model, analysis, &membership);
    let mut dead: Vec<Vec<u32>> = vec![Vec::new(); analysis.groups.len()];
    for (group, readers) in readers(&carried).iter().enumerate() {
        if let Some(readers) = readers {
            let silent = |unit: &u32| {
                readers
                    .iter()
                    .all(|reader| reader.is_silent(*unit as usize))
            };
            dead[group] = (0..membership.count(group) as u32).filter(silent).collect();
        }
    }
    let mut whole: Vec<usize> = Vec::new();
    for (group, units) in dead.iter_mut().enumerate() {
        if units.len() == membership.count(group) {
            whole.push(group);
            if branch_ends(model, analysis, &whole).is_some() {
                continue;
            }
            whole.pop();
        }
        spare(analysis, group, units, &[]);
    }
    dead
}
