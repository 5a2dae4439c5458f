//! Units that no output can tell of go in every run, whatever was chosen.

use super::Note;
use super::decide::Decision;
use super::stages::{Candidates, Stages};
use crate::dead::{DeadUnits, spare};
use crate::workspace::Workspace;

impl Stages<'_> {
    /// Adds to a decision the dead units of the groups that may be cut, as far as widths stay multiples of what was asked for,
    /// and notes how many of those that go are dead. A plan says by itself what goes.
    pub(super) fn add_dead(
        &self,
        workspace: &Workspace,
        candidates: &Candidates,
        decision: &mut Decision,
    ) {
        let Candidates { groups, dead, .. } = candidates;
        if self.request.is_decided() || groups.is_empty() {
            return;
        }
        decision.choice.removed.resize(dead.len(), Vec::new());
        let mut going = vec![Vec::new(); dead.len()];
        let mut has_more = false;
        for group in groups {
            let (dead, chosen) = (&dead[*group], &mut decision.choice.removed[*group]);
            let align = self.request.align.of(&workspace.analysis.groups[*group]);
            let units = workspace.analysis.groups[*group].units.len();
            let mut all = joined(chosen, dead, units, align as usize);
            if chosen.len() < units {
                spare(&workspace.analysis, *group, &mut all, chosen);
            }
            has_more |= all.len() > chosen.len();
            *chosen = all;
            let is_going = |unit: &&u32| chosen.binary_search(unit).is_ok();
            going[*group] = dead.iter().filter(is_going).copied().collect();
        }
        if has_more {
            // What was mended on the way has other widths.
            decision.made = None;
            if self.request.targets.is_empty() {
                let none_fits = |note: &Note| matches!(note, Note::NoCutWithin { .. });
                decision.reached |= decision.notes.iter().any(none_fits);
                decision.notes.retain(|note| !none_fits(note));
            }
        }
        let count = DeadUnits::count(workspace, &going);
        if !count.is_empty() {
            let said = format!("dead: {count} removed, for no output depends on them");
            decision.notes.push(Note::Other(said));
        }
    }
}

/// The chosen units of a group of so many with as many dead ones as leave a multiple of `align`.
fn joined(chosen: &[u32], dead: &[u32], units: usize, align: usize) -> Vec<u32> {
    let mut more: Vec<u32> = dead
        .iter()
        .filter(|unit| !chosen.contains(unit))
        .copied()
        .collect();
    let left = units.saturating_sub(chosen.len() + more.len());
    // A group goes as a whole only where that was chosen.
    let least = usize::from(chosen.len() < units);
    let kept = left.max(least).next_multiple_of(align.max(1));
    more.truncate(more.len().saturating_sub(kept - left));
    let mut all = [chosen, &more].concat();
    all.sort_unstable();
    all
}

#[cfg(test)]
mod tests {
    use super::joined;

    #[test]
    fn dead_units_go_as_far_as_widths_stay_multiples() {
        assert_eq!(joined(&[1], &[1, 4, 5], 8, 1), [1, 4, 5]);
        assert_eq!(joined(&[0, 1, 2, 3], &[5, 6], 16, 4), [0, 1, 2, 3]);
        assert_eq!(joined(&[], &[2, 3, 5, 6, 7], 16, 4), [2, 3, 5, 6]);
        assert_eq!(joined(&[], &[0, 1], 2, 1), [0]);
        assert_eq!(joined(&[0, 2], &[1], 3, 1), [0, 2]);
        assert_eq!(joined(&[0, 1, 2], &[1], 3, 1), [0, 1, 2]);
    }
}
