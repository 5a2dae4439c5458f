//! The way down from the whole model: always the step that costs the least error for what it saves.
//!
//! Steps of all groups, whatever their kind, are compared by the slope of their error curve's convex envelope over what
//! the step saves now, with what is gone already taken into account. On convex curves that is the Lagrangian's solution
//! for every budget on the way.

mod meet;
mod order;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use super::teams::{alone, slopes, teams};
use super::{Choice, Target, Width};
use crate::analysis::{Analysis, ClassId, Selection};
use crate::cost::{Cost, CostModel, IncrementalCost, Subject};
use crate::score::Curve;
use order::removable;

/// The steps down, and where each leads.
#[derive(Debug)]
pub struct Path<'a> {
    analysis: &'a Analysis,
    cost: &'a CostModel,
    /// The groups that may be cut, as numbers into the analysis.
    groups: Vec<usize>,
    /// For each of them the units that may go, in their order.
    order: Vec<Vec<u32>>,
    /// Groups that go down together, as places in `groups`: as many units of each. Most often each is alone.
    teams: Vec<Vec<usize>>,
    /// By team.
    widths: Vec<Width>,
    original: Cost,
    /// What each removal of a unit of all groups of a team costs, by their curves' envelopes.
    slopes: Vec<Vec<f64>>,
    steps: Vec<PathStep>,
}

/// One step: so many units of each group of a team are gone after it.
#[derive(Clone, Copy, Debug)]
struct PathStep {
    team: usize,
    from: usize,
    to: usize,
    cost: Cost,
    /// Sum of all errors after it.
    error: f64,
}

/// Error per saving, in order of size.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Price(f64);

impl Eq for Price {}
impl PartialOrd for Price {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Price {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.total_cmp(&other.0)
    }
}

impl<'a> Path<'a> {
    /// Finds the way for some groups (numbers into the analysis) with their curves (in the same order). What steps save is
    /// measured in the targets' units, in multiply-accumulates where there are none. `uniform`: groups of one kind and size keep
    /// as many units each.
    pub fn new(
        subject: Subject<'a>,
        groups: &[usize],
        (curves, widths): (&[Curve], &[Width]),
        targets: &[Target],
        uniform: bool,
    ) -> Self {
        let Subject { analysis, cost } = subject;
        let order = |((group, curve), width): ((&usize, &Curve), &Width)| match width.whole {
            true => curve.order.clone(),
            false => removable(&analysis.groups[*group], analysis, &curve.order),
        };
        let order: Vec<Vec<u32>> = groups.iter().zip(curves).zip(widths).map(order).collect();
        let teams: Vec<Vec<usize>> = match uniform {
            true => teams(analysis, groups, &|place| {
                let Width {
                    align,
                    least,
                    whole,
                    first,
                } = widths[place];
                (!whole && first == 1).then_some((align, least))
            }),
            false => alone(groups.len()),
        };
        let mut path = Path {
            analysis,
            cost,
            groups: groups.to_vec(),
            order,
            widths: teams.iter().map(|team| widths[team[0]]).collect(),
            original: cost.at(|_| 1.0),
            slopes: teams.iter().map(|team| slopes(curves, team)).collect(),
            teams,
            steps: Vec::new(),
        };
        let mut ledger = IncrementalCost::new(cost, analysis.classes.classes.len());
        let mut gone = vec![0usize; path.teams.len()];
        let mut error = 0.0;
        for floor in [true, false] {
            path.descend(floor, targets, &mut ledger, &mut gone, &mut error);
        }
        path
    }

    fn descend(
        &mut self,
        floor: bool,
        targets: &[Target],
        ledger: &mut IncrementalCost,
        gone: &mut [usize],
        error: &mut f64,
    ) {
        let mut queue: BinaryHeap<Reverse<(Price, usize)>> = BinaryHeap::new();
        for (team, gone) in gone.iter().enumerate() {
            if let Some((price, _)) = self.price(team, *gone, floor, targets, ledger) {
                queue.push(Reverse((price, team)));
            }
        }
        while let Some(Reverse((_, team))) = queue.pop() {
            // What it saves may have shrunk since it was put there.
            let Some((price, to)) = self.price(team, gone[team], floor, targets, ledger) else {
                continue;
            };
            if queue
                .peek()
                .is_some_and(|Reverse(next)| *next < (price, team))
            {
                queue.push(Reverse((price, team)));
                continue;
            }
            *error += self.slopes[team][gone[team]..to].iter().sum::<f64>();
            ledger.set(&self.shares(team, to));
            self.steps.push(PathStep {
                team,
                from: gone[team],
                to,
                cost: ledger.cost(),
                error: *error,
            });
            gone[team] = to;
            if let Some((price, _)) = self.price(team, to, floor, targets, ledger) {
                queue.push(Reverse((price, team)));
            }
        }
    }

    /// The next aligned step of a team, and its price.
    fn price(
        &self,
        team: usize,
        gone: usize,
        floor: bool,
        targets: &[Target],
        ledger: &IncrementalCost,
    ) -> Option<(Price, usize)> {
        let Width {
            align,
            least,
            whole,
            first,
        } = self.widths[team];
        let slopes = &self.slopes[team];
        let (total, align) = (slopes.len(), align.max(1) as usize);
        let least = if floor { least } else { align };
        let kept = total - gone;
        let mut next = kept.saturating_sub(1) / align * align;
        // A cut that makes copies of constants begins where it pays.
        if gone < first {
            next = next.min(total.checked_sub(first)? / align * align);
        }
        // On a straight stretch of the envelope the widths between its ends are worse than it says.
        let straight = slopes.get(gone) == slopes.last();
        if whole && (next < least || straight) {
            next = 0;
        }
        if kept == 0 || (next < least && !whole) || total - next > self.most(team) {
            return None;
        }
        let step = |next: usize| {
            (
                self.step_price(team, gone, total - next, targets, ledger),
                total - next,
            )
        };
        if gone >= first || first == 1 {
            return Some(step(next));
        }
        let deeper = (least..=next)
            .rev()
            .step_by(align)
            .filter(|next| total - next <= self.most(team));
        deeper
            .map(step)
            .min_by(|a, b| a.0.cmp(&b.0).then(a.1.cmp(&b.1)))
    }

    /// Error by saving of a step.
    fn step_price(
        &self,
        team: usize,
        gone: usize,
        to: usize,
        targets: &[Target],
        ledger: &IncrementalCost,
    ) -> Price {
        let now = ledger.cost();
        let then = ledger.with(&self.shares(team, to));
        let saved = |target: &Target| {
            (target.of(&now, &self.original) - target.of(&then, &self.original)).max(0.0)
        };
        let saving: f64 = if targets.is_empty() {
            saved(&Target::Macs(0.0))
        } else {
            targets.iter().map(saved).sum()
        };
        let error: f64 = self.slopes[team][gone..to].iter().sum();
        Price(if saving > 0.0 {
            error / saving
        } else {
            f64::INFINITY
        })
    }

    /// How many units of each group of a team may go.
    fn most(&self, team: usize) -> usize {
        let members = self.teams[team].iter();
        members
            .map(|place| self.order[*place].len())
            .min()
            .unwrap_or(0)
    }

    /// What each class of a team's groups keeps once so many units of each are gone.
    fn shares(&self, team: usize, gone: usize) -> Vec<(ClassId, f64)> {
        let members = self.teams[team].iter();
        members
            .flat_map(|place| self.shares_of(*place, gone))
            .collect()
    }

    /// What each class of a group keeps once so many units are gone.
    fn shares_of(&self, place: usize, gone: usize) -> Vec<(ClassId, f64)> {
        let group = &self.analysis.groups[self.groups[place]];
        let mut lost: BTreeMap<ClassId, u32> = BTreeMap::new();
        if let [only] = group.classes[..]
            && group.units.len() == self.analysis.classes.get(only).extent as usize
        {
            lost.insert(only, gone as u32);
        } else {
            let units = self.order[place][..gone].iter();
            units
                .flat_map(|unit| &group.units[*unit as usize])
                .for_each(|(class, _)| *lost.entry(*class).or_default() += 1);
        }
        lost.into_iter()
            .map(|(class, lost)| {
                (
                    class,
                    1.0 - f64::from(lost)
                        / f64::from(self.analysis.classes.get(class).extent.max(1)),
                )
            })
            .collect()
    }

    /// How many steps there are.
    pub fn len(&self) -> usize {
        self.steps.len()
    }

    /// Whether nothing can go.
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    /// The cost of the whole model.
    pub fn original(&self) -> Cost {
        self.original
    }

    /// Cost and foreseen error of the whole model, and after each step.
    pub fn way(&self) -> impl Iterator<Item = (Cost, f64)> {
        let steps = self.steps.iter().map(|step| (step.cost, step.error));
        std::iter::once((self.original, 0.0)).chain(steps)
    }

    /// The error that the curves foresee after so many steps.
    pub fn error(&self, steps: usize) -> f64 {
        steps
            .checked_sub(1)
            .and_then(|at| self.steps.get(at))
            .map_or(0.0, |step| step.error)
    }

    /// Some units more of one group (or of each group of a team), beside those that are gone of each: those of which the curves
    /// foresee most error, but no more than is left. With that error; `None`: a single unit of any group is foreseen to cost more.
    pub fn beyond(&self, gone: &[usize], left: f64) -> Option<(Vec<usize>, f64)> {
        let more = |(team, members): (usize, &Vec<usize>)| {
            let gone = gone[members[0]];
            let slopes = &self.slopes[team];
            let most = slopes.len().saturating_sub(self.widths[team].least);
            let most = most.min(self.most(team));
            let sums = slopes[gone..most.max(gone)].iter().scan(0.0, |sum, slope| {
                *sum += slope;
                Some(*sum)
            });
            let (at, error) = sums
                .enumerate()
                .take_while(|(_, error)| *error <= left)
                .last()?;
            (gone + at + 1 >= self.widths[team].first).then_some((error, team, gone + at + 1))
        };
        let (error, team, to) = self
            .teams
            .iter()
            .enumerate()
            .filter_map(more)
            .max_by(|a, b| a.0.total_cmp(&b.0))?;
        let mut gone = gone.to_vec();
        self.teams[team].iter().for_each(|place| gone[*place] = to);
        Some((gone, error))
    }

    /// How many units of each group are gone after so many steps.
    pub fn counts(&self, steps: usize) -> Vec<usize> {
        self.of_groups(&self.of_teams(steps))
    }

    /// How many units of each group of each team are gone after so many steps.
    fn of_teams(&self, steps: usize) -> Vec<usize> {
        let mut gone = vec![0; self.teams.len()];
        self.steps[..steps.min(self.steps.len())]
            .iter()
            .for_each(|step| gone[step.team] = step.to);
        gone
    }

    /// By group what is given by team.
    fn of_groups(&self, gone: &[usize]) -> Vec<usize> {
        let mut counts = vec![0; self.groups.len()];
        for (members, gone) in self.teams.iter().zip(gone) {
            members.iter().for_each(|place| counts[*place] = *gone);
        }
        counts
    }

    /// The choice in which so many units of each group go.
    pub fn choice(&self, gone: &[usize]) -> Choice {
        let mut removed = vec![Vec::new(); self.analysis.groups.len()];
        for (place, gone) in gone.iter().enumerate() {
            let units = &mut removed[self.groups[place]];
            units.extend_from_slice(&self.order[place][..*gone]);
            units.sort_unstable();
        }
        Choice { removed }
    }

    /// The choice in which `count` units of one group go, and nothing else.
    pub fn alone(&self, place: usize, count: usize) -> Choice {
        let mut gone = vec![0; self.groups.len()];
        gone[place] = count.min(self.order[place].len());
        self.choice(&gone)
    }

    /// The selection of a choice.
    pub fn selection(&self, choice: &Choice) -> Selection {
        choice.selection(self.analysis)
    }

    /// The cost of a choice.
    pub fn cost(&self, choice: &Choice) -> Cost {
        self.cost
            .of(&self.analysis.classes, &self.selection(choice))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analysis::{Options, Pins, analyse};
    use crate::constants::Origins;

    #[test]
    fn a_step_beyond_takes_as_much_as_is_left() {
        let text = "opset 13\ninput x f32[1,4]\nconst a f32[4,8]\nconst b f32[8,4]\nconst c f32[4,4]\n\
                    h = MatMul(x, a)\nr = Relu(h)\ny = MatMul(r, b)\ns = Relu(y)\nz = MatMul(s, c)\noutput z\n";
        let model = crate::model::text::model(text).unwrap();
        let analysis = analyse(&model, &Options::default());
        assert_eq!(
            analysis
                .groups
                .iter()
                .map(|group| group.units.len())
                .collect::<Vec<_>>(),
            [8, 4]
        );
        let curves = [Curve::from_losses(&[1.0; 8]), Curve::from_losses(&[0.7; 4])];
        let widths = [
            Width {
                align: 4,
                least: 4,
                whole: false,
                first: 1,
            },
            Width {
                align: 4,
                least: 1,
                whole: false,
                first: 1,
            },
        ];
        let subject = Subject {
            analysis: &analysis,
            cost: &CostModel::new(&model, &analysis, &Origins::default(), &Pins::new()),
        };
        let path = Path::new(subject, &[0, 1], (&curves, &widths), &[], false);
        let gone = |left: f64| path.beyond(&[0, 0], left).map(|(gone, _)| gone);
        // Units of one group, whichever comes nearest; none below a width's least.
        assert_eq!(
            [gone(0.5), gone(0.9), gone(1.5), gone(3.0)],
            [None, Some(vec![0, 1]), Some(vec![0, 2]), Some(vec![3, 0])]
        );
        assert_eq!(gone(100.0), Some(vec![4, 0]));
    }
}
