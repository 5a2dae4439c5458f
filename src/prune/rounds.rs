//! Pruning by calibration inputs: score, allocate, cut, recover, once or along a schedule.
//!
//! Every round works on what the last one left, so scores see the repaired model; recovery always aims at the original.

use super::decide::{Decision, require};
use super::group_error::GroupErrorModel;
use super::paths::Curves;
use super::request::Request;
use super::round_state::{RoundState, differs};
use super::statistics::mend;
use super::tradeoff::Outlook;
use super::{Note, Point, PruneError};
use crate::allocate::{Choice, Path, Target, Unreachable, Width, least_cuts};
use crate::analysis::{Group, Selection, analyse};
use crate::calibrate::Dataset;
use crate::constants::equal_copies;
use crate::cost::Cost;
use crate::evaluate::{Baseline, Estimate, RunSetup};
use crate::latency::{LatencyModel, Settling};
use crate::model::Model;
use crate::progress::Work;
use crate::recover::RepairOptions;
use crate::run::Runtime;
use crate::score::Curve;
use crate::workspace::Workspace;

/// Everything that rounds share.
pub(super) struct Rounds<'a> {
    pub original: &'a Workspace,
    pub request: &'a Request,
    /// Groups of the original that may be cut.
    pub candidates: &'a [usize],
    /// Units of the original that no output can tell of, by group: they go first, whatever the score.
    pub dead: &'a [Vec<u32>],
    pub data: &'a Dataset,
    pub bench: &'a Baseline<'a>,
    /// Measured times, where a latency is aimed at.
    pub latency: Option<&'a LatencyModel<'a>>,
    pub runtime: &'a dyn Runtime,
    pub work: &'a Work<'a>,
}

impl Rounds<'_> {
    /// Meets the request's targets, or comes as near to its drift as it can. Errors: the model does not run, a stop asked for.
    pub fn run(&self) -> Result<Decision, PruneError> {
        self.can_run()?;
        let mut state = RoundState::whole(self.original);
        let mut decided = Decision {
            reached: true,
            ..Default::default()
        };
        let mut rounds = self.request.rounds.max(1);
        if rounds > 1 && !self.measures() {
            rounds = 1;
            decided.notes.push(Note::OneRound);
        }
        if self.request.targets.is_empty() {
            let known = self.data.statistics.as_ref();
            let quality = GroupErrorModel::new(self.original, known, self.setup())?;
            let plan = self.curves(&state, &quality, &mut decided)?;
            return self.search(state, (&quality, &plan), decided);
        }
        for round in 1..=rounds {
            state = self.round(state, (round, rounds), &mut decided)?;
        }
        self.finish(state, decided)
    }

    /// Errors: the original does not run, though it has to.
    pub(super) fn can_run(&self) -> Result<(), PruneError> {
        if self.request.targets.is_empty() {
            return require(self.bench);
        }
        match self.bench.failure().filter(|_| self.measures()) {
            Some(reason) => Err(PruneError::CurvesNeedRun(reason.to_owned())),
            None => Ok(()),
        }
    }

    /// One round of so many: scores, chooses, cuts and mends.
    fn round(
        &self,
        mut state: RoundState,
        (round, rounds): (usize, usize),
        decided: &mut Decision,
    ) -> Result<RoundState, PruneError> {
        let targets = self.targets(&state, round as f64 / rounds as f64);
        state.course = (self.trains() && round < rounds).then_some(round);
        let prepared = state.prepared.as_ref().unwrap_or(self.original);
        let known = self.data.statistics.as_ref().filter(|_| round == 1);
        let quality = GroupErrorModel::new(prepared, known, self.setup())?;
        let mut plan = self.curves(&state, &quality, decided)?;
        if self.measures() {
            self.reweigh(&mut plan, &quality, &targets)?;
        }
        if round == 1 {
            let path = plan.path(self.original, &self.request.targets);
            decided.outlook = self.outlook(&path);
        }
        let last = round == rounds;
        self.towards(&state, (&quality, &plan), &targets, last, decided)
    }

    /// Cuts and mends what the curves say of targets. `last`: what cannot be met now never will be.
    pub(super) fn towards(
        &self,
        state: &RoundState,
        (quality, plan): (&GroupErrorModel, &Curves),
        targets: &[Target],
        last: bool,
        decided: &mut Decision,
    ) -> Result<RoundState, PruneError> {
        let prepared = state.prepared.as_ref().unwrap_or(self.original);
        let (met, correction) = self.meet(state, plan, targets, decided)?;
        let choice = match met {
            Ok(choice) => choice,
            Err(unreachable) => {
                decided.reached = false;
                // Later rounds can do no better.
                if last {
                    decided
                        .notes
                        .push(Note::OutOfReach(unreachable.to_string()));
                }
                unreachable.closest
            }
        };
        let choice = if self.measures() {
            quality.swapped(choice, self.request, self.data, self.bench)?
        } else {
            choice
        };
        let removed = plan.in_original(&choice, &state.gone, self.original);
        let selection = plan.selection(prepared, &choice);
        let state = RoundState {
            correction,
            ..self.cut(state, removed, &selection, quality)?
        };
        match self.drift(&state) {
            Ok(found) => {
                let point = Point::measured(self.cost(&state.gone), found.drift);
                decided.tradeoff.points.push(point);
            }
            Err(error) if self.measures() => return Err(error),
            // Without inputs of the user's the models need not run.
            Err(_) => {}
        }
        Ok(state)
    }

    /// The choice that meets the targets, and by how much the table of times is wrong.
    fn meet(
        &self,
        state: &RoundState,
        plan: &Curves,
        targets: &[Target],
        decided: &mut Decision,
    ) -> Result<(Result<Choice, Unreachable>, f64), PruneError> {
        let prepared = state.prepared.as_ref().unwrap_or(self.original);
        let Some(latency) = self.latency else {
            let met = plan.path(prepared, targets).meet(targets);
            return Ok((met, state.correction));
        };
        let (cost, classes) = (&prepared.cost, &prepared.analysis.classes);
        let now = cost.at(|_| 1.0);
        let settling = Settling {
            targets,
            now: Target::Latency(1.0).of(&now, &self.original.cost.original()),
            correction: state.correction,
            choose: &|targets| plan.path(prepared, targets).meet(targets),
            predict: &|choice| {
                let after = cost.of(classes, &plan.selection(prepared, choice));
                Target::Latency(1.0).of(&after, &now)
            },
            cut: &|choice| -> Result<Model, PruneError> {
                Ok(prepared.cut(&plan.selection(prepared, choice), &[])?)
            },
        };
        let settled = settling.settle(latency)?;
        decided.forecast = settled.forecast.or(decided.forecast);
        Ok((settled.choice, settled.correction))
    }

    /// What the curves foresee on a path; `None` where their errors are no drifts.
    pub(super) fn outlook(&self, path: &Path) -> Option<Outlook> {
        let targets = &self.request.targets;
        self.measures().then(|| Outlook::of(path, targets))
    }

    /// What models are run on and in.
    pub(super) fn setup(&self) -> RunSetup<'_> {
        RunSetup {
            data: self.data,
            runtime: self.runtime,
            work: self.work,
        }
    }

    /// Whether drift can be measured on inputs that mean something; else statistics alone decide and mend.
    pub(super) fn measures(&self) -> bool {
        !self.data.statistics_alone()
    }

    /// PruneError curves of the groups that are left.
    pub(super) fn curves(
        &self,
        state: &RoundState,
        quality: &GroupErrorModel,
        decided: &mut Decision,
    ) -> Result<Curves, PruneError> {
        let prepared = state.prepared.as_ref().unwrap_or(self.original);
        let matched = self.matched(state, prepared);
        let groups: Vec<usize> = matched.iter().map(|(_, place)| *place).collect();
        let widths = self.widths(prepared, &matched, &groups);
        let mut curves = match self.fixed_curves(state, &matched) {
            Some(fixed) => fixed,
            None => {
                let derivatives = self.derivatives(quality)?;
                let scored = (derivatives.as_ref(), self.measures());
                let (curves, remark) = quality.curves(&groups, self.request, scored, self.work);
                if state.prepared.is_none() {
                    decided.notes.extend(remark.map(Note::Other));
                }
                curves
            }
        };
        for ((group, _), curve) in matched.iter().zip(&mut curves) {
            let dead = self.dead_left(state, *group);
            *curve = std::mem::take(curve).with_free(&dead);
        }
        if self.measures() {
            let priced = (curves.as_mut_slice(), widths.as_slice());
            quality.scale(&groups, priced, self.request, self.bench, self.setup())?;
        }
        let curves = Curves {
            matched,
            widths,
            curves,
            uniform: self.request.uniform,
        };
        if self.measures() && state.prepared.is_none() {
            decided.tradeoff.sensitive = curves.sensitive(prepared);
        }
        Ok(curves)
    }

    /// The dead units of a group of the original that are left, by their numbers among those that are.
    fn dead_left(&self, state: &RoundState, group: usize) -> Vec<u32> {
        let gone = &state.gone[group];
        self.dead[group]
            .iter()
            .filter(|unit| gone.binary_search(unit).is_err())
            .map(|unit| unit - gone.partition_point(|other| other < unit) as u32)
            .collect()
    }

    /// The candidates that are left, as numbers in the original and in the model so far. Groups keep their ids; one that is down
    /// to a single unit is a group no more.
    fn matched(&self, state: &RoundState, prepared: &Workspace) -> Vec<(usize, usize)> {
        let find = |group: &usize| {
            let old = &self.original.analysis.groups[*group];
            let units = old.units.len() - state.gone[*group].len();
            let same =
                |new: &Group| new.id == old.id && new.kind == old.kind && new.units.len() == units;
            prepared
                .analysis
                .groups
                .iter()
                .position(same)
                .map(|place| (*group, place))
        };
        self.candidates.iter().filter_map(find).collect()
    }

    /// How many units of each group may go at once. `groups`: the second numbers of `matched`.
    fn widths(
        &self,
        prepared: &Workspace,
        matched: &[(usize, usize)],
        groups: &[usize],
    ) -> Vec<Width> {
        let width = |(group, place): &(usize, usize)| {
            self.request
                .width(prepared, *place, &self.original.analysis.groups[*group])
        };
        let first = least_cuts(prepared.subject(), groups)
            .into_iter()
            .map(|least| least.unwrap_or(usize::MAX));
        matched
            .iter()
            .map(width)
            .zip(first)
            .map(|(width, first)| Width { first, ..width })
            .collect()
    }

    /// The curves that a score gives of the original, whatever is left of it; `None` where it gives none.
    fn fixed_curves(&self, state: &RoundState, matched: &[(usize, usize)]) -> Option<Vec<Curve>> {
        let scorer = self.request.score.score();
        let curve = |(group, _): &(usize, usize)| {
            let left = |unit: u32| state.gone[*group].binary_search(&unit).is_err();
            scorer.of_original(&self.original.analysis.groups[*group], &left)
        };
        matched.iter().map(curve).collect()
    }

    /// Cuts and mends: `removed` are units of the original, `selection` the same in the model so far.
    pub(super) fn cut(
        &self,
        state: &RoundState,
        removed: Vec<Vec<u32>>,
        selection: &Selection,
        quality: &GroupErrorModel,
    ) -> Result<RoundState, PruneError> {
        let prepared = state.prepared.as_ref().unwrap_or(self.original);
        let whole = self.original.select(&removed);
        let (model, repairs) = match self.request.recover {
            // What was trained is not fitted layer by layer again: readers make up for what they lose.
            Some(_) if !self.measures() || !state.lessons.is_empty() => {
                (quality.cut_unshared(selection)?, Vec::new())
            }
            Some(method) if !whole.is_empty() => {
                let cut = quality.bare_cut(selection, state.warm.as_ref())?;
                let warm = state.warm.is_some();
                let options = RepairOptions {
                    method,
                    warm,
                    held: equal_copies(&cut, &self.original.origins.copies),
                };
                mend(self.original, &whole, cut, &options, self.setup())?
            }
            _ => (prepared.cut_unshared(selection, &[])?, Vec::new()),
        };
        let (model, learnt) = match state.course {
            Some(number) => self.train(model, &whole, number)?,
            None => (model, None),
        };
        let options = self.request.options();
        let analysis = analyse(&model, &options);
        let origins = &self.original.origins;
        let mut prepared = Workspace::plain(model, analysis, origins, &options.pins);
        if let Some(latency) = self.latency {
            let Workspace {
                working,
                analysis,
                cost,
                ..
            } = &mut prepared;
            latency.attach(working, analysis, cost, self.work)?;
        }
        Ok(RoundState {
            prepared: Some(prepared),
            gone: removed,
            repairs,
            course: None,
            lessons: state.lessons.iter().cloned().chain(learnt).collect(),
            correction: state.correction,
            warm: None,
            judged: state.judged,
        })
    }

    pub(super) fn cost(&self, gone: &[Vec<u32>]) -> Cost {
        self.original
            .cost
            .of(&self.original.analysis.classes, &self.original.select(gone))
    }

    pub(super) fn drift(&self, state: &RoundState) -> Result<Estimate, PruneError> {
        let model = &state.prepared.as_ref().unwrap_or(self.original).working;
        Ok(self.bench.drift_on_held_out(model, self.data)?)
    }

    pub(super) fn finish(
        &self,
        state: RoundState,
        mut decided: Decision,
    ) -> Result<Decision, PruneError> {
        if let Some(outlook) = &mut decided.outlook {
            outlook.chosen = self.cost(&state.gone);
        }
        decided.choice = Choice {
            removed: state.gone,
        };
        decided.lessons = state.lessons;
        let Some(prepared) = state.prepared else {
            decided.made = Some((self.original.unrotated().clone(), Vec::new()));
            return Ok(decided);
        };
        // Rounds speak of units by number: what they removed together must be what the plan removes at once.
        let at_once = self
            .original
            .cut_unshared(&self.original.select(&decided.choice.removed), &[])?;
        if let Some(name) = differs(&at_once, &prepared.working) {
            return Err(PruneError::Rounds(name));
        }
        decided.made = Some((prepared.working, state.repairs));
        Ok(decided)
    }
}
