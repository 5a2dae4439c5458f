//! The way down to targets: as many steps as they take, then back where more was taken than they ask for.

use super::{Path, PathStep};
use crate::allocate::{Choice, TOLERANCE, Target, Unreachable};
use crate::analysis::ClassId;
use crate::cost::{Cost, IncrementalCost};

impl Path<'_> {
    /// The choice that meets all targets and leaves as much as they allow: steps are taken until every target holds, then
    /// the last ones are taken back where that still holds.
    pub fn meet(&self, targets: &[Target]) -> Result<Choice, Unreachable> {
        if self.fits(targets, &self.original) {
            return Ok(self.choice(&self.counts(0)));
        }
        let fits = |step: &PathStep| self.fits(targets, &step.cost);
        let Some(last) = self.steps.iter().position(fits) else {
            let closest = self.choice(&self.counts(self.len()));
            let cost = self.steps.last().map_or(self.original, |step| step.cost);
            return closest.near_enough(targets, &cost, &self.original);
        };
        let mut gone = self.of_teams(last + 1);
        let mut ledger = IncrementalCost::new(self.cost, self.analysis.classes.classes.len());
        gone.iter()
            .enumerate()
            .for_each(|(team, gone)| ledger.set(&self.shares(team, *gone)));
        let taken = &self.steps[..=last];
        self.take_back_steps(taken, targets, &mut ledger, &mut gone);
        self.take_back_units(taken, targets, &mut ledger, &mut gone);
        Ok(self.choice(&self.of_groups(&gone)))
    }

    /// Whether a cost meets all targets.
    fn fits(&self, targets: &[Target], cost: &Cost) -> bool {
        targets
            .iter()
            .all(|target| target.of(cost, &self.original) <= target.fraction() + 1e-9)
    }

    /// Takes back whole steps, the last one first, while the targets still hold.
    fn take_back_steps(
        &self,
        taken: &[PathStep],
        targets: &[Target],
        ledger: &mut IncrementalCost,
        gone: &mut [usize],
    ) {
        for step in taken.iter().rev() {
            // Only a team's last step can be taken back.
            if gone[step.team] != step.to {
                continue;
            }
            let back = self.shares_back(step.team, step.to, step.from);
            if self.fits(targets, &ledger.with(&back)) {
                ledger.set(&back);
                gone[step.team] = step.from;
            }
        }
    }

    /// Takes back single units where aligned steps are coarse for the whole: one team ends at a width of its own.
    fn take_back_units(
        &self,
        taken: &[PathStep],
        targets: &[Target],
        ledger: &mut IncrementalCost,
        gone: &mut [usize],
    ) {
        let short = |cost: &Cost| {
            targets
                .iter()
                .all(|target| target.of(cost, &self.original) < target.fraction() - TOLERANCE)
        };
        for PathStep { team, .. } in taken.iter().copied().rev() {
            // What went as a whole stays away.
            let whole = gone[team] == self.slopes[team].len();
            let first = self.widths[team].first;
            let least = if first > 1 { first } else { 0 };
            while !whole && gone[team] > least && short(&ledger.cost()) {
                let back = self.shares_back(team, gone[team], gone[team] - 1);
                if !self.fits(targets, &ledger.with(&back)) {
                    break;
                }
                ledger.set(&back);
                gone[team] -= 1;
            }
        }
    }

    /// What each class of a team's groups keeps where `fewer` units are gone instead of `gone`; classes that lose nothing any more come
    /// back whole.
    fn shares_back(&self, team: usize, gone: usize, fewer: usize) -> Vec<(ClassId, f64)> {
        let mut back = self.shares(team, fewer);
        for (class, _) in self.shares(team, gone) {
            if !back.iter().any(|(other, _)| *other == class) {
                back.push((class, 1.0));
            }
        }
        back
    }
}
