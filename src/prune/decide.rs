//! Which units go: from a plan, by targets, or as many as the drift allows.

use super::request::Request;
use super::tradeoff::Outlook;
use super::{Note, Point, PruneError, Tradeoff};
use crate::allocate::{Choice, Ranking, Target};
use crate::calibrate::Dataset;
use crate::evaluate::{Baseline, Estimate};
use crate::latency::{LatencyForecast, LatencyModel, Settling};
use crate::model::Model;
use crate::progress::{Phase, Work};
use crate::recover::Repair;
use crate::score::Evidence;
use crate::train::TrainingRecord;
use crate::workspace::Workspace;

/// What was decided.
#[derive(Debug, Default)]
pub(super) struct Decision {
    pub choice: Choice,
    pub tradeoff: Tradeoff,
    /// What the error curves foresee, where there are such.
    pub outlook: Option<Outlook>,
    pub reached: bool,
    /// The drift of the cut that a search found, on inputs that no weights were fitted to.
    pub found: Option<f64>,
    /// What was foreseen of the latency, where one is aimed at.
    pub forecast: Option<LatencyForecast>,
    pub notes: Vec<Note>,
    /// The model cut and mended on the way, shared constants apart; `None`: it has still to be made.
    pub made: Option<(Model, Vec<Repair>)>,
    /// How weights were trained between rounds.
    pub lessons: Vec<TrainingRecord>,
}

/// Steps of the bisection over the ranked units.
const STEPS: u64 = 9;

/// What a plan says. Errors: a plan for another model.
pub(super) fn planned(
    prepared: &Workspace,
    plan: &crate::plan::Plan,
    sha256: &str,
) -> Result<Decision, PruneError> {
    let made = prepared.basis.as_ref().map(|basis| &*basis.rotations);
    let removed = plan.check(
        &prepared.working,
        &prepared.analysis,
        &prepared.origins,
        sha256,
    )?;
    plan.check_rotations(made.unwrap_or_default())?;
    Ok(Decision {
        choice: Choice { removed },
        reached: true,
        ..Default::default()
    })
}

/// A decision by weights alone.
pub(super) struct Scored<'a> {
    pub workspace: &'a Workspace,
    pub request: &'a Request,
    /// The groups that may be cut.
    pub groups: &'a [usize],
    /// Units that no output can tell of, by group of the analysis: they go first, whatever the score.
    pub dead: &'a [Vec<u32>],
    pub data: &'a Dataset,
    pub baseline: &'a Baseline<'a>,
    pub work: &'a Work<'a>,
}

impl Scored<'_> {
    /// What meets the request's targets, or as much as its drift allows.
    pub fn decide(&self, latency: Option<&LatencyModel>) -> Result<Decision, PruneError> {
        if self.groups.is_empty() {
            let nothing = vec![Vec::new(); self.workspace.analysis.groups.len()];
            return Ok(Decision {
                choice: Choice { removed: nothing },
                reached: self.request.targets.is_empty(),
                notes: vec![Note::NothingToCut],
                ..Default::default()
            });
        }
        let (ranking, note) = self.rank();
        let mut decision = Decision {
            reached: true,
            notes: note.into_iter().map(Note::Other).collect(),
            ..Default::default()
        };
        if self.request.targets.is_empty() {
            self.search(&ranking, &mut decision)?;
        } else {
            self.meet(&ranking, latency, &mut decision)?;
        }
        Ok(decision)
    }

    /// Ranks the units of all groups, and says which groups the score is silent about.
    fn rank(&self) -> (Ranking<'_>, Option<String>) {
        let analysis = &self.workspace.analysis;
        self.work.progress.begin(Phase::Score, 0);
        let groups: Vec<_> = self
            .groups
            .iter()
            .map(|group| analysis.groups[*group].clone())
            .collect();
        let scorer = self.request.score.score();
        let evidence = Evidence {
            model: &self.workspace.working,
            analysis,
        };
        let mut saliency = scorer.score(evidence, &groups);
        for (group, saliency) in self.groups.iter().zip(&mut saliency) {
            for unit in &self.dead[*group] {
                saliency[*unit as usize] = f64::NEG_INFINITY;
            }
        }
        let silent: Vec<&str> = scorer
            .silent(evidence, &groups)
            .into_iter()
            .filter_map(|at| Some(groups.get(at)?.id.as_str()))
            .collect();
        let (subject, align) = (self.workspace.subject(), &self.request.align);
        let ranking = Ranking::new(subject, self.groups, &saliency, align);
        let ranking = match self.request.uniform {
            true => ranking.uniform(),
            false => ranking,
        };
        (ranking, self.request.remark(&silent))
    }

    /// Removes the least salient units until the targets hold.
    fn meet(
        &self,
        ranking: &Ranking,
        latency: Option<&LatencyModel>,
        decision: &mut Decision,
    ) -> Result<(), PruneError> {
        let targets = &self.request.targets;
        let met = match latency {
            None => ranking.meet(targets),
            Some(latency) => {
                let settling = Settling {
                    targets,
                    now: 1.0,
                    correction: 1.0,
                    choose: &|targets| ranking.meet(targets),
                    predict: &|choice| {
                        Target::Latency(1.0).of(&ranking.cost(choice), &ranking.original())
                    },
                    cut: &|choice| -> Result<Model, PruneError> {
                        Ok(self.workspace.cut(&ranking.selection(choice), &[])?)
                    },
                };
                let settled = settling.settle(latency)?;
                decision.forecast = settled.forecast;
                settled.choice
            }
        };
        match met {
            Ok(choice) => decision.choice = choice,
            Err(unreachable) => {
                decision.reached = false;
                decision
                    .notes
                    .push(Note::OutOfReach(unreachable.to_string()));
                decision.choice = unreachable.closest;
            }
        }
        Ok(())
    }

    /// Bisection over the ranked units: the most that can go with the drift at or below what is allowed.
    fn search(&self, ranking: &Ranking, decision: &mut Decision) -> Result<(), PruneError> {
        let allowed = allowed(self.request, self.data);
        require(self.baseline)?;
        self.work.progress.begin(Phase::Search, STEPS);
        let (mut low, mut high) = (0usize, ranking.len());
        let mut best = ranking.remove(0);
        let mut tried: Vec<(usize, Point)> = Vec::new();
        // Drift grows steeply, so the first guesses are small shares.
        let mut guess = ranking.len() / 8;
        for _ in 0..STEPS {
            if self.work.progress.stop() {
                return Err(PruneError::Cancelled);
            }
            let choice = ranking.remove(guess);
            let pruned = self.workspace.cut(&ranking.selection(&choice), &[])?;
            let estimate = self.baseline.quick_estimate(&pruned, self.data)?;
            let drift = estimate.drift;
            let cost = ranking.cost(&choice);
            tried.push((guess, Point::measured(cost, drift)));
            if keeps(self.request, allowed, &estimate) {
                (low, best) = (guess, choice);
            } else {
                high = guess;
            }
            self.work.progress.advance(1);
            if high <= low + 1 {
                break;
            }
            guess = if high == ranking.len() {
                (low * 2).clamp(low + 1, low.midpoint(high).max(low + 1))
            } else {
                low.midpoint(high)
            };
        }
        tried.sort_by_key(|(count, _)| *count);
        let points = &mut decision.tradeoff.points;
        points.extend(tried.into_iter().map(|(_, point)| point));
        points.dedup_by(|a, b| a.cost == b.cost);
        if best.removed.iter().all(Vec::is_empty) {
            decision.reached = false;
            decision.notes.push(no_cut(self.request, allowed));
        }
        decision.choice = best;
        Ok(())
    }
}

/// Errors: the original does not run, which a search for a drift needs.
pub(super) fn require(baseline: &Baseline) -> Result<(), PruneError> {
    match baseline.failure() {
        None => Ok(()),
        Some(reason) => Err(PruneError::SearchNeedsRun(reason.to_owned())),
    }
}

/// The drift allowed when no target is given: on inputs of the user's,
pub const DEFAULT_DRIFT: f64 = 0.1;
/// and on made-up ones.
pub const MADE_UP_DRIFT: f64 = 0.05;

/// The drift that a request allows.
pub(super) fn allowed(request: &Request, data: &Dataset) -> f64 {
    let usual = if data.synthetic {
        MADE_UP_DRIFT
    } else {
        DEFAULT_DRIFT
    };
    let usual = if request.agreement.is_some() {
        f64::INFINITY
    } else {
        usual
    };
    request.drift.unwrap_or(usual)
}

/// Whether what was measured of a cut is within what a request asks for, with care for other inputs than those it was measured
/// on.
pub(super) fn keeps(request: &Request, allowed: f64, found: &Estimate) -> bool {
    let agrees = |least: f64| found.agreement.is_some_and(|share| share >= least);
    found.careful <= allowed && request.agreement.is_none_or(agrees)
}

/// What to say where no cut does.
pub(super) fn no_cut(request: &Request, allowed: f64) -> Note {
    match request.agreement {
        Some(least) if request.drift.is_none() => Note::NoCutAgrees { least },
        _ => Note::NoCutWithin { allowed },
    }
}
