//! The search for a drift: as small as possible within it.
//!
//! Curves are taken once. What a cut does before its weights are mended is measured along the path they lead down, which costs
//! some runs; mending costs many times that, so only what seems to end where it should is mended.

use std::collections::BTreeMap;

use super::decide::{Decision, allowed, keeps, no_cut};
use super::group_error::GroupErrorModel;
use super::mended_drifts::MendedDrifts;
use super::paths::Curves;
use super::round_state::RoundState;
use super::rounds::Rounds;
use super::{Point, PruneError};
use crate::allocate::{Path, Target};
use crate::evaluate::Estimate;
use crate::progress::Phase;

/// Cuts that are mended, at most.
const TRIALS: usize = 3;
/// The same where mending takes a moment.
const CHEAP_TRIALS: usize = 9;
/// Multiply-accumulates of the model on all inputs up to which it does: some seconds of one core.
const CHEAP: f64 = 2e9;
/// The same where a share of classes is asked for, which says less of where to go next.
const AGREEING: usize = 5;
/// Places of the path whose drift is measured for each of them, at most.
const PROBES: usize = 7;
/// How near to the drift asked for a search ends.
const NEAR: f64 = 0.08;
/// The same where mending takes minutes.
const NEAR_ENOUGH: f64 = 0.1;
/// With fewer inputs than this those that judge a cut are so few that others may well move further. A default that nobody asked
/// for by size looks for this share of the drift first.
const FEW: usize = 256;
const THIN: f64 = 0.7;
/// The drift at which an agreement is looked for first, for each part that may disagree.
const DRIFT_PER_DISAGREEMENT: f64 = 4.0;
/// Where steps of the path are so coarse that this share of the drift is not used, units of single groups are added,
const COARSE: f64 = 0.1;
/// so often at most.
const FINER: usize = 8;

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
        (quality, plan): (&GroupErrorModel, &Curves),
        mut decided: Decision,
    ) -> Result<Decision, PruneError> {
        let allowed = allowed(self.request, self.data);
        let plan = &self.reweighed(&state, (quality, plan), allowed)?;
        let path = plan.path(self.original, &[]);
        self.work
            .progress
            .begin(Phase::Search, self.trials() as u64);
        let trials = SearchContext {
            plan,
            path: &path,
            state: &state,
            quality,
            allowed,
        };
        let best = self.descend(&trials, &mut decided)?;
        decided.tradeoff.sort();
        decided.outlook = self.outlook(&path);
        decided.found = best.state.is_some().then_some(best.drift);
        let state = best.state.unwrap_or(RoundState {
            prepared: None,
            ..state
        });
        if state.prepared.is_none() {
            decided.reached = false;
            decided.notes.push(no_cut(self.request, allowed));
        }
        self.finish(state, decided)
    }

    /// The curves, corrected by measurements where the search will come to.
    fn reweighed(
        &self,
        state: &RoundState,
        (quality, plan): (&GroupErrorModel, &Curves),
        allowed: f64,
    ) -> Result<Curves, PruneError> {
        let mut corrected = plan.clone();
        // A second, lighter cut goes by the curves as they are: measuring them once more would cost what it saves.
        if !self.measures() || state.judged {
            return Ok(corrected);
        }
        let path = plan.path(self.original, &[]);
        let trials = SearchContext {
            plan,
            path: &path,
            state,
            quality,
            allowed,
        };
        let first = MendedDrifts::new(self.data.inputs.count());
        let wanted = first.before(self.first_aim(allowed) * (1.0 - NEAR / 2.0));
        let mut probes = BTreeMap::from([(0, 0.0)]);
        let steps = self.probe(&trials, &mut probes, (0, path.len() + 1), wanted)?;
        if let Some((cost, _)) = path.way().nth(steps).filter(|_| steps > 0) {
            let macs = Target::Macs(cost.macs / path.original().macs);
            self.reweigh(&mut corrected, quality, &[macs])?;
        }
        Ok(corrected)
    }

    /// Mends some places of the path, each where what was seen so far says that the search should end.
    fn descend(
        &self,
        trials: &SearchContext,
        decided: &mut Decision,
    ) -> Result<BestWithin, PruneError> {
        let (path, allowed) = (trials.path, trials.allowed);
        let mut best = BestWithin {
            gone: path.counts(0),
            drift: 0.0,
            state: None,
        };
        let mut probes = BTreeMap::from([(0, 0.0)]);
        // Steps that keep within the drift, and steps that do not.
        let (mut below, mut above) = (0, path.len() + 1);
        let mut mended = MendedDrifts::new(self.data.inputs.count());
        let mut aim = self.first_aim(allowed);
        let last = self.trials();
        for trial in 1..=last {
            let wanted = mended.before(aim * (1.0 - NEAR / 2.0));
            let guess = self.probe(trials, &mut probes, (below, above), wanted)?;
            // A last trial should not end above once more.
            let guess = if trial == last && best.state.is_none() {
                guess / 2
            } else {
                guess
            };
            let inside = guess.clamp(below + 1, above.saturating_sub(1).max(below + 1));
            if inside >= above || inside > path.len() {
                break;
            }
            let (tried, found) = self.attempt(trials, &path.counts(inside), decided)?;
            let drift = found.careful;
            aim = self.next_aim(aim, allowed, &found);
            if let Some(bare) = probes.get(&inside) {
                mended.add(*bare, drift);
            }
            if keeps(self.request, allowed, &found) {
                below = inside;
                best = BestWithin {
                    gone: path.counts(inside),
                    drift,
                    state: Some(tried),
                };
            } else {
                above = inside;
            }
            let near = if self.is_cheap() { NEAR } else { NEAR_ENOUGH };
            let ends = best.drift >= aim * (1.0 - near) || trials.state.judged;
            if (best.state.is_some() && ends) || above <= below + 1 {
                break;
            }
        }
        if self.request.agreement.is_none() && self.is_cheap() {
            best = self.finer(trials, best, mended.left(), decided)?;
        }
        Ok(best)
    }

    /// Whether mending takes a moment.
    fn is_cheap(&self) -> bool {
        self.original.cost.original().macs * self.data.inputs.count() as f64 <= CHEAP
    }

    /// How many cuts are mended at most.
    fn trials(&self) -> usize {
        match self.request.agreement {
            _ if self.is_cheap() => CHEAP_TRIALS,
            Some(_) => AGREEING,
            None => TRIALS,
        }
    }

    /// The drift at which what is asked for is looked for first.
    fn first_aim(&self, allowed: f64) -> f64 {
        match self.request.agreement {
            None if self.request.cautious && self.data.inputs.count() < FEW => allowed * THIN,
            None => allowed,
            Some(least) => (DRIFT_PER_DISAGREEMENT * (1.0 - least))
                .max(0.02)
                .min(allowed),
        }
    }

    /// Where to look next: disagreement is taken to grow as drift does.
    fn next_aim(&self, aim: f64, allowed: f64, found: &Estimate) -> f64 {
        let (Some(least), Some(share)) = (self.request.agreement, found.agreement) else {
            return aim;
        };
        let factor = ((1.0 - least) / (1.0 - share).max(1e-9)).clamp(0.4, 2.5);
        (found.careful * factor).min(allowed)
    }

    /// The last place of the path between two others where the drift, before weights are mended, is what is wanted at most.
    fn probe(
        &self,
        trials: &SearchContext,
        probes: &mut BTreeMap<usize, f64>,
        (below, above): (usize, usize),
        wanted: f64,
    ) -> Result<usize, PruneError> {
        let (mut low, mut high) = (below, above);
        for (steps, drift) in probes.range(below..above) {
            if *drift <= wanted {
                low = low.max(*steps);
            } else {
                high = high.min(*steps);
            }
        }
        for _ in 0..PROBES {
            if high <= low + 1 {
                break;
            }
            // Curves foresee the square of the drift; where they are right, the first guess is.
            let (here, squared) = (trials.path.error(low), wanted * wanted);
            let scale = match probes.get(&low) {
                Some(drift) if here > 0.0 && *drift > 0.0 => drift * drift / here,
                _ => 1.0,
            };
            let foreseen = (low + 1..high)
                .take_while(|steps| trials.path.error(*steps) * scale <= squared)
                .last()
                .unwrap_or(low + 1);
            let guess = foreseen.clamp(low + (high - low) / 8, high - (high - low) / 8);
            let guess = guess.clamp(low + 1, high - 1);
            let choice = trials.path.choice(&trials.path.counts(guess));
            let selection = trials.plan.selection(self.original, &choice);
            let drift = trials.quality.drift(&selection, self.data, self.bench)?;
            probes.insert(guess, drift);
            if drift <= wanted {
                low = guess;
            } else {
                high = guess;
            }
            if drift <= wanted && drift >= wanted * (1.0 - NEAR / 2.0) {
                break;
            }
        }
        Ok(low)
    }

    /// Steps of the path may be coarse for the whole: what is left is used up by some units more of single groups.
    fn finer(
        &self,
        trials: &SearchContext,
        mut best: BestWithin,
        left: f64,
        decided: &mut Decision,
    ) -> Result<BestWithin, PruneError> {
        let wanted = trials.allowed * (1.0 - NEAR / 2.0);
        let mut most = f64::INFINITY;
        for _ in 0..FINER {
            if best.drift >= trials.allowed * (1.0 - COARSE) {
                break;
            }
            let room = (wanted * wanted - best.drift * best.drift) / (left * left);
            let Some((gone, foreseen)) = trials.path.beyond(&best.gone, room.min(most)) else {
                break;
            };
            let (tried, found) = self.attempt(trials, &gone, decided)?;
            if found.careful <= trials.allowed {
                best = BestWithin {
                    gone,
                    drift: found.careful,
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
    ) -> Result<(RoundState, Estimate), PruneError> {
        let choice = trials.path.choice(gone);
        let choice = match self.measures() {
            true => trials
                .quality
                .swapped(choice, self.request, self.data, self.bench)?,
            false => choice,
        };
        let removed = trials
            .plan
            .in_original(&choice, &trials.state.gone, self.original);
        let tried = self.cut(
            trials.state,
            removed,
            &trials.plan.selection(self.original, &choice),
            trials.quality,
        )?;
        let mut found = self.drift(&tried)?;
        if trials.state.judged {
            found.careful = found.drift;
        }
        tracing::debug!(?found, "mended");
        let point = Point::measured(self.cost(&tried.gone), found.drift);
        decided.tradeoff.points.push(point);
        Ok((tried, found))
    }
}
