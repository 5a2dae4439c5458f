//! One order of all units: the least salient go first, in widths that runtimes like.

use super::copies::least_cuts;
use super::teams::{alone, teams};
use super::{Align, Choice, Target, Unreachable};
use crate::analysis::{Analysis, ClassId, Group, Selection};
use crate::cost::{Cost, CostModel, IncrementalCost, Subject};

/// The order in which units go, and how widths are rounded.
#[derive(Debug)]
pub struct Ranking<'a> {
    analysis: &'a Analysis,
    cost: &'a CostModel,
    /// The groups that may be cut, as numbers into the analysis.
    groups: Vec<usize>,
    /// For each of them its units, least salient first.
    order: Vec<Vec<u32>>,
    /// Groups that lose as many units each, as places in `groups`.
    teams: Vec<Vec<usize>>,
    /// All units, least salient first: (group as a place in `groups`).
    queue: Vec<usize>,
    align: Vec<u32>,
    /// For each of them how many units must go, if any do.
    least: Vec<usize>,
    original: Cost,
}

impl<'a> Ranking<'a> {
    /// Ranks the units of some groups (numbers into the analysis) by their saliencies (in the same order).
    pub fn new(
        subject: Subject<'a>,
        groups: &[usize],
        saliency: &[Vec<f64>],
        align: &Align,
    ) -> Self {
        let Subject { analysis, cost } = subject;
        let mut all: Vec<(f64, usize, u32)> = Vec::new();
        for (place, saliency) in saliency.iter().enumerate() {
            all.extend(
                saliency
                    .iter()
                    .enumerate()
                    .map(|(unit, saliency)| (*saliency, place, unit as u32)),
            );
        }
        all.sort_by(|a, b| a.0.total_cmp(&b.0).then((a.1, a.2).cmp(&(b.1, b.2))));
        let mut order = vec![Vec::new(); groups.len()];
        all.iter()
            .for_each(|(_, place, unit)| order[*place].push(*unit));
        let align: Vec<u32> = groups
            .iter()
            .map(|group| align.of(&analysis.groups[*group]))
            .collect();
        let least: Vec<usize> = least_cuts(subject, groups)
            .into_iter()
            .map(|least| least.unwrap_or(usize::MAX))
            .collect();
        Ranking {
            analysis,
            cost,
            groups: groups.to_vec(),
            order,
            teams: alone(groups.len()),
            queue: all.iter().map(|(_, place, _)| *place).collect(),
            align,
            least,
            original: cost.original(),
        }
    }

    /// The same, but groups of one kind and size keep as many units each.
    pub fn uniform(self) -> Self {
        let width = |place: usize| (self.least[place] == 1).then_some(self.align[place]);
        let teams = teams(self.analysis, &self.groups, &width);
        Ranking { teams, ..self }
    }

    /// How many units there are to rank.
    pub fn len(&self) -> usize {
        self.queue.len()
    }

    /// Whether there is nothing to remove.
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// The choice after removing the `count` least salient units, widths rounded up to their multiples.
    pub fn remove(&self, count: usize) -> Choice {
        self.choice(&self.rounded(count, &self.least))
    }

    /// How many units go from each group when the `count` least salient go, of each at least so many or none.
    fn rounded(&self, count: usize, least: &[usize]) -> Vec<usize> {
        let mut removed = vec![0usize; self.groups.len()];
        self.queue[..count.min(self.queue.len())]
            .iter()
            .for_each(|place| removed[*place] += 1);
        for team in self.teams.iter().filter(|team| team.len() > 1) {
            let sum: usize = team.iter().map(|place| removed[*place]).sum();
            team.iter()
                .for_each(|place| removed[*place] = sum / team.len());
        }
        for (place, removed) in removed.iter_mut().enumerate() {
            let total = self.order[place].len();
            let align = self.align[place] as usize;
            let most = total.saturating_sub(self.group(place).least);
            let kept = (total - (*removed).min(most))
                .next_multiple_of(align)
                .min(total);
            *removed = paid(total - kept, least[place]);
        }
        removed
    }

    fn group(&self, place: usize) -> &Group {
        &self.analysis.groups[self.groups[place]]
    }

    fn choice(&self, counts: &[usize]) -> Choice {
        let mut removed = vec![Vec::new(); self.analysis.groups.len()];
        for (place, count) in counts.iter().enumerate() {
            let units = &mut removed[self.groups[place]];
            *units = self.spare_classes(self.groups[place], &self.order[place], *count);
            units.sort_unstable();
        }
        Choice { removed }
    }

    /// The first `count` units of an order, but never those that a class must keep.
    fn spare_classes(&self, group: usize, order: &[u32], count: usize) -> Vec<u32> {
        let group: &Group = &self.analysis.groups[group];
        if group.classes.len() == 1
            && group.units.len() == self.analysis.classes.get(group.classes[0]).extent as usize
        {
            return order[..count].to_vec();
        }
        let mut left: std::collections::BTreeMap<_, u32> = group
            .classes
            .iter()
            .map(|class| (*class, self.analysis.classes.get(*class).extent))
            .collect();
        let mut removed = Vec::with_capacity(count);
        for unit in order {
            if removed.len() == count {
                break;
            }
            let mut after = left.clone();
            group.units[*unit as usize]
                .iter()
                .for_each(|(class, _)| *after.entry(*class).or_insert(1) -= 1);
            let least = |class: &ClassId| self.analysis.classes.get(*class).least();
            if after.iter().all(|(class, left)| *left >= least(class)) {
                left = after;
                removed.push(*unit);
            }
        }
        removed
    }

    /// The cost of a choice.
    pub fn cost(&self, choice: &Choice) -> Cost {
        self.cost
            .of(&self.analysis.classes, &self.selection(choice))
    }

    /// The selection of a choice.
    pub fn selection(&self, choice: &Choice) -> Selection {
        choice.selection(self.analysis)
    }

    /// The cost of the whole model.
    pub fn original(&self) -> Cost {
        self.original
    }

    /// The choice that meets all targets and leaves as much as they allow: the least salient units go until every
    /// target holds, then the most salient of them come back while it still does.
    pub fn meet(&self, targets: &[Target]) -> Result<Choice, Unreachable> {
        let mut least = self.least.clone();
        loop {
            let (removed, met) = self.come_down(targets, &least);
            // Copies of constants that do not pay beside the other cuts are not made.
            let unpaid = self.unpaid(&removed);
            if unpaid.is_empty() {
                let choice = self.choice(&removed);
                return if met {
                    Ok(choice)
                } else {
                    let cost = self.cost(&choice);
                    choice.near_enough(targets, &cost, &self.original)
                };
            }
            unpaid
                .into_iter()
                .for_each(|place| least[place] = usize::MAX);
        }
    }

    /// How many units of each group go, and whether the targets hold then.
    fn come_down(&self, targets: &[Target], least: &[usize]) -> (Vec<usize>, bool) {
        // Widths are first held to a tenth of what they were, for a layer of a few channels is a bottleneck for all the
        // others; only where that does not suffice they may go down to the last.
        for floor in [0.1, 0.0] {
            let counts = |count: usize| -> Vec<usize> {
                let mut removed = self.rounded(count, least);
                for (place, removed) in removed.iter_mut().enumerate() {
                    let total = self.order[place].len();
                    let narrow = ((total as f64 * floor).ceil() as usize)
                        .max(self.group(place).least)
                        .next_multiple_of(self.align[place] as usize)
                        .min(total);
                    *removed = paid((*removed).min(total - narrow), least[place]);
                }
                removed
            };
            let cheap = |cost: &Cost| {
                targets
                    .iter()
                    .all(|target| target.of(cost, &self.original) <= target.fraction() + 1e-9)
            };
            let fits = |removed: &[usize]| cheap(&self.cost(&self.choice(removed)));
            if !fits(&counts(self.len())) {
                continue;
            }
            let (mut low, mut high) = (0, self.len());
            while low < high {
                let middle = (low + high) / 2;
                if fits(&counts(middle)) {
                    high = middle
                } else {
                    low = middle + 1
                }
            }
            let mut removed = counts(high);
            self.give_back(&mut removed, least, &cheap);
            return (removed, true);
        }
        (self.rounded(self.len(), least), false)
    }

    /// The share of each class that stays when so many units of a group go.
    fn shares(&self, place: usize, count: usize) -> Vec<(ClassId, f64)> {
        let group = self.groups[place];
        let units = self.spare_classes(group, &self.order[place], count);
        let selection = self.analysis.select([(group, units.as_slice())]);
        let share = |class: &ClassId| {
            let extent = f64::from(self.analysis.classes.get(*class).extent.max(1));
            let kept = selection.kept(*class).map(|kept| kept.len() as f64);
            (*class, kept.map_or(1.0, |kept| kept / extent))
        };
        self.analysis.groups[group]
            .classes
            .iter()
            .map(share)
            .collect()
    }

    /// The cost as single groups change, with so many units of each gone.
    fn ledger(&self, removed: &[usize]) -> IncrementalCost<'a> {
        let mut ledger = IncrementalCost::new(self.cost, self.analysis.classes.classes.len());
        for (place, count) in removed.iter().enumerate().filter(|(_, count)| **count > 0) {
            ledger.set(&self.shares(place, *count));
        }
        ledger
    }

    /// Groups whose cut makes copies of constants that cost more than it saves.
    fn unpaid(&self, removed: &[usize]) -> Vec<usize> {
        let candidates: Vec<usize> = (0..self.groups.len())
            .filter(|place| self.least[*place] > 1 && removed[*place] > 0)
            .collect();
        if candidates.is_empty() {
            return candidates;
        }
        let ledger = self.ledger(removed);
        // Sums of differences are off by rounding; nothing costs less than half a number.
        let dearer = |whole: f64, now: f64| whole < now - 0.5;
        let unpaid = |place: &usize| {
            let (now, whole) = (ledger.cost(), ledger.with(&self.shares(*place, 0)));
            dearer(whole.params, now.params) || dearer(whole.bytes, now.bytes)
        };
        candidates.into_iter().filter(unpaid).collect()
    }

    /// Restores units in steps of the alignment, most salient first, while the cost fits.
    fn give_back(&self, removed: &mut [usize], least: &[usize], fits: &dyn Fn(&Cost) -> bool) {
        // Groups whose next unit was removed last come first.
        let mut last = vec![0; self.groups.len()];
        for (at, place) in self.queue.iter().enumerate() {
            last[*place] = at;
        }
        let mut rank: Vec<&Vec<usize>> = self.teams.iter().collect();
        rank.sort_by_key(|team| {
            std::cmp::Reverse(team.iter().map(|place| (last[*place], *place)).max())
        });
        let mut ledger = self.ledger(removed);
        let mut again = true;
        while again {
            again = false;
            for team in &rank {
                let place = team[0];
                let step = (self.align[place] as usize).min(removed[place]);
                if step == 0 {
                    continue;
                }
                let fewer = paid(removed[place] - step, least[place]);
                let members = team.iter();
                let shares: Vec<_> = members
                    .flat_map(|place| self.shares(*place, fewer))
                    .collect();
                if fits(&ledger.with(&shares)) {
                    ledger.set(&shares);
                    team.iter().for_each(|place| removed[*place] = fewer);
                    again = true;
                }
            }
        }
    }
}

/// So many units, or none where these are too few.
fn paid(removed: usize, least: usize) -> usize {
    if removed < least { 0 } else { removed }
}
