//! A family of models from one calibration: statistics and error curves once, then a cut for each point, the lightest first.
//!
//! Each cut starts from the weights of the one before, as far as it has them, which leaves less to mend. Curves are measured
//! with every group alone, and once more where the middle of the sweep leads; each point goes by those that serve it better.

use super::decide::Decision;
use super::group_error::GroupErrorModel;
use super::paths::Curves;
use super::round_state::RoundState;
use super::rounds::Rounds;
use super::stages::{PreparedModel, Stages};
use super::{Note, Outcome, PruneError, Request, SensitiveGroup};
use crate::evaluate::Baseline;
use crate::latency::LatencyModel;
use crate::model::Model;
use crate::score::Curve;

/// What the points of a sweep share.
pub(super) struct SharedCurves<'a> {
    quality: GroupErrorModel<'a>,
    /// With the curves as they are for each group alone, or those of the last point.
    plan: Curves,
    /// Curves measured with each group alone, and where the middle of the sweep leads.
    curves: [Vec<Curve>; 2],
    /// What is to be said of the curves.
    notes: Vec<Note>,
    /// The groups that the outputs depend on most.
    sensitive: Vec<SensitiveGroup>,
    /// The original with the numbers of the last model.
    warm: Option<Model>,
    /// Whether a lighter cut is made for inputs kept apart, which judge it.
    pub(super) judged: bool,
}

impl Stages<'_> {
    /// One outcome for each point, in their order: the lightest cut first. Errors: as for a single run.
    pub(super) fn sweep(
        &self,
        prepared: &PreparedModel,
        requests: &[Request],
        (sha256, baseline): (&str, &Baseline),
        latency: Option<&LatencyModel>,
    ) -> Result<Vec<Outcome>, PruneError> {
        let at = |request| Stages { request, ..*self };
        let middle = at(requests.get(requests.len() / 2).unwrap_or(self.request));
        let rounds = middle.rounds(prepared, baseline, latency);
        let mut family = rounds.as_ref().map(Rounds::family).transpose()?;
        let mut outcomes = Vec::with_capacity(requests.len());
        for request in requests {
            let stages = at(request);
            let rounds = stages.rounds(prepared, baseline, latency);
            let decision = match (&mut family, rounds) {
                (Some(family), Some(rounds)) => rounds.point(family)?,
                _ => stages.decide(prepared, sha256, baseline, latency)?,
            };
            outcomes.push(stages.pruned(prepared.clone(), decision, sha256, baseline)?);
        }
        Ok(outcomes)
    }
}

impl<'a> Rounds<'a> {
    /// Statistics and curves, measured for the middle of a sweep. Errors: the model does not run, a stop asked for.
    pub(super) fn family(&self) -> Result<SharedCurves<'a>, PruneError> {
        self.can_run()?;
        let known = self.data.statistics.as_ref();
        let quality = GroupErrorModel::new(self.original, known, self.setup())?;
        let state = RoundState::whole(self.original);
        let mut said = Decision::default();
        let mut plan = self.curves(&state, &quality, &mut said)?;
        let alone = plan.curves.clone();
        if self.measures() && !self.request.targets.is_empty() {
            self.reweigh(&mut plan, &quality, &self.request.targets)?;
        }
        let curves = [alone, plan.curves.clone()];
        Ok(SharedCurves {
            quality,
            plan,
            curves,
            notes: said.notes,
            sensitive: said.tradeoff.sensitive,
            warm: None,
            judged: false,
        })
    }

    /// The cut of one point, which leaves its weights to the next.
    pub(super) fn point(&self, family: &mut SharedCurves) -> Result<Decision, PruneError> {
        let mut decided = Decision {
            reached: true,
            notes: family.notes.clone(),
            ..Default::default()
        };
        decided.tradeoff.sensitive.clone_from(&family.sensitive);
        let state = RoundState {
            warm: family.warm.take().filter(|_| !family.judged),
            judged: family.judged,
            ..RoundState::whole(self.original)
        };
        let targets = &self.request.targets;
        let decided = if targets.is_empty() {
            self.search(state, (&family.quality, &family.plan), decided)?
        } else {
            self.choose_curves(family)?;
            let curves = (&family.quality, &family.plan);
            let state = self.towards(&state, curves, targets, true, &mut decided)?;
            decided.outlook = self.outlook(&family.plan.path(self.original, targets));
            self.finish(state, decided)?
        };
        if let (Some((model, _)), Some(_)) = (&decided.made, self.request.recover) {
            let selection = self.original.select(&decided.choice.removed);
            family.warm = Some(family.quality.warm(&selection, model));
        }
        Ok(decided)
    }

    /// Takes the curves by which the targets move the outputs less.
    fn choose_curves(&self, family: &mut SharedCurves) -> Result<(), PruneError> {
        if family.curves[0] == family.curves[1] {
            return Ok(());
        }
        let mut best = f64::INFINITY;
        let mut found = 0;
        for (number, curves) in family.curves.iter().enumerate() {
            family.plan.curves.clone_from(curves);
            let targets = &self.request.targets;
            let Ok(choice) = family.plan.path(self.original, targets).meet(targets) else {
                continue;
            };
            let selection = family.plan.selection(self.original, &choice);
            let drift = family.quality.drift(&selection, self.data, self.bench)?;
            if drift < best {
                (best, found) = (drift, number);
            }
        }
        family.plan.curves.clone_from(&family.curves[found]);
        Ok(())
    }
}
