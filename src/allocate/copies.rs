//! Cuts that give the readers of a shared constant tensors of their own: they must save more than the tensors cost.

use crate::analysis::Group;
use crate::cost::{IncrementalCost, NOTES, Subject};

/// For each of some groups the fewest units that must go, if any go, for the model not to grow by it: one, unless the cut makes
/// copies of constants. `None`: whatever goes, the copies cost more.
pub fn least_cuts(subject: Subject, groups: &[usize]) -> Vec<Option<usize>> {
    let parting = subject.cost.parting();
    let whole = IncrementalCost::new(subject.cost, subject.analysis.classes.classes.len());
    let least = |at: &usize| {
        let group = subject.analysis.groups.get(*at)?;
        if group.classes.iter().any(|class| parting.contains(class)) {
            paid(&whole, group)
        } else {
            Some(1)
        }
    };
    groups.iter().map(least).collect()
}

fn paid(ledger: &IncrementalCost, group: &Group) -> Option<usize> {
    let units = group.units.len();
    let whole = ledger.cost();
    let pays = |gone: usize| {
        let left = 1.0 - gone as f64 / units as f64;
        let cut: Vec<_> = group.classes.iter().map(|class| (*class, left)).collect();
        let cost = ledger.with(&cut);
        // Sums of differences are off by rounding; nothing costs less than half a number.
        cost.params < whole.params + 0.5 && cost.bytes + NOTES < whole.bytes + 0.5
    };
    let (mut low, mut high) = (1, units.checked_sub(1)?);
    if high == 0 || !pays(high) {
        return None;
    }
    while low < high {
        let middle = (low + high) / 2;
        if pays(middle) {
            high = middle
        } else {
            low = middle + 1
        }
    }
    Some(low)
}
