//! The search for a drift: as small as possible within it.

use super::decide::{DEFAULT_DRIFT, Decision};
use super::group_error::GroupErrorModel;
use super::paths::Curves;
use super::rounds::{RoundState, Rounds};
use super::{Note, Point, PruneError};
use crate::allocate::Path;
use crate::evaluate::Estimate;
use crate::progress::Phase;

/// Evaluations along the path, at most.
const TRIALS: usize = 6;
/// Evaluations of finer last steps, at most.
const FINER: usize = 8;
/// How near to the drift asked for a search ends.
const NEAR: f64 = 0.05;
/// What is near enough for the path to be left as it is.
const NEARLY: f64 = 0.08;

/// The best so far: a cut within the drift asked for.
struct BestWithin {
    /// How many units of each group went.
    gone: Vec<usize>,
    drift: f64,
    state: Option<RoundState>,
}

/// What every evaluation needs.
struct SearchContext<'a, 'p> {
    plan: &'a Curves,
    path: &'a Path<'p>,
    state: &'a RoundState,
    quality: &'a GroupErrorModel<'a>,
    allowed: f64,
}

impl Rounds<'_> {
    /// The steps of one path that come nearest to the drift asked for, from below.
    pub(super) fn search(
        &self,
        state: RoundState,
        mut decided: Decision,
    ) -> Result<Decision, PruneError> {
        let allowed = self.request.drift.unwrap_or(DEFAULT_DRIFT);
        let quality = GroupErrorModel::new(
            self.original,
            self.data.statistics.as_ref(),
            self.data,
            self.runtime,
            self.work,
        )?;
        let plan = self.curves(&state, &quality, &mut decided)?;
        let path = plan.path(self.original, &[]);
        self.work
            .progress
            .begin(Phase::Search, (TRIALS + FINER) as u64);
        let trials = SearchContext {
            plan: &plan,
            path: &path,
            state: &state,
            quality: &quality,
            allowed,
        };
        let mut best = BestWithin {
            gone: path.counts(0),
            drift: 0.0,
            state: None,
        };
        // Steps that keep within the drift, and steps that do not.
        let (mut below, mut above) = (0, path.len() + 1);
        // The curves foresee drift squared, before recovery, which takes some of it away.
        let mut scale = 0.5;
        for _ in 0..TRIALS {
            let wanted = (allowed * (1.0 - NEAR / 2.0) / scale).powi(2);
            let guess = (1..=path.len())
                .take_while(|steps| path.error(*steps) <= wanted)
                .last()
                .unwrap_or(0);
            let inside = guess.clamp(below + 1, above.saturating_sub(1).max(below + 1));
            if inside >= above || inside > path.len() {
                break;
            }
            let (tried, drift) = self.attempt(&trials, &path.counts(inside), &mut decided)?;
            if path.error(inside) > 0.0 && drift > 0.0 {
                scale = drift / path.error(inside).sqrt();
            }
            if drift <= allowed {
                below = inside;
                best = BestWithin {
                    gone: path.counts(inside),
                    drift,
                    state: Some(tried),
                };
            } else {
                above = inside;
            }
            if best.drift >= allowed * (1.0 - NEAR) || above <= below + 1 {
                break;
            }
        }
        let best = self.finer(&trials, best, scale, &mut decided)?;
        decided
            .tradeoff
            .sort_by(|a, b| b.cost.macs.total_cmp(&a.cost.macs));
        let state = best.state.unwrap_or(RoundState {
            prepared: None,
            ..state
        });
        if state.prepared.is_none() {
            decided.reached = false;
            decided.notes.push(Note::NoCutWithin { allowed });
        }
        self.finish(state, decided)
    }

    /// Steps of the path may be coarse for the whole: what is left is used up by some units more of single groups.
    fn finer(
        &self,
        trials: &SearchContext,
        mut best: BestWithin,
        scale: f64,
        decided: &mut Decision,
    ) -> Result<BestWithin, PruneError> {
        let wanted = trials.allowed * (1.0 - NEAR / 2.0);
        let mut most = f64::INFINITY;
        for _ in 0..FINER {
            if best.drift >= trials.allowed * (1.0 - NEARLY) {
                break;
            }
            let left = (wanted * wanted - best.drift * best.drift) / (scale * scale);
            let Some((gone, foreseen)) = trials.path.beyond(&best.gone, left.min(most)) else {
                break;
            };
            let (tried, drift) = self.attempt(trials, &gone, decided)?;
            if drift <= trials.allowed {
                best = BestWithin {
                    gone,
                    drift,
                    state: Some(tried),
                };
            } else {
                most = foreseen / 2.0;
            }
        }
        Ok(best)
    }

    /// Cuts and mends, and measures what the outputs move by, or may well move by on other inputs.
    fn attempt(
        &self,
        trials: &SearchContext,
        gone: &[usize],
        decided: &mut Decision,
    ) -> Result<(RoundState, f64), PruneError> {
        let choice = trials.path.choice(gone);
        let removed = trials
            .plan
            .in_original(&choice, trials.state, self.original);
        let tried = self.cut(
            trials.state,
            removed,
            &trials.plan.selection(self.original, &choice),
            trials.quality,
        )?;
        let Estimate { drift, careful } = self.drift(&tried)?;
        decided.tradeoff.push(Point {
            cost: self.cost(&tried.gone),
            drift,
        });
        self.work.progress.advance(1);
        Ok((tried, careful))
    }
}
