//! Which units go: from a plan, by targets, or as many as the drift allows.

use super::clock::Clock;
use super::measure::{Bench, Estimate};
use super::request::{Data, Request};
use super::{Error, Point, Prepared};
use crate::allocate::{Choice, Ranking, Target};
use crate::progress::{Phase, Work};
use crate::score::Evidence;

/// What was decided.
#[derive(Debug, Default)]
pub(super) struct Decided {
    pub choice: Choice,
    pub tradeoff: Vec<Point>,
    pub reached: bool,
    pub remarks: Vec<String>,
}

/// Steps of the bisection over the ranked units.
const STEPS: u64 = 9;

/// What a plan says. Errors: a plan for another model.
pub(super) fn planned(
    prepared: &Prepared,
    plan: &crate::plan::Plan,
    sha256: &str,
) -> Result<Decided, Error> {
    let removed = plan.check(
        &prepared.working,
        &prepared.analysis,
        &prepared.origins,
        sha256,
    )?;
    Ok(Decided {
        choice: Choice { removed },
        reached: true,
        ..Default::default()
    })
}

/// What meets the request's targets, or as much as its drift allows.
pub(super) fn decide(
    prepared: &Prepared,
    request: &Request,
    candidates: &[usize],
    data: &Data,
    bench: &Bench,
    clock: Option<&Clock>,
    work: &Work,
) -> Result<Decided, Error> {
    if candidates.is_empty() {
        let nothing = vec![Vec::new(); prepared.analysis.groups.len()];
        let remark =
            "no group of units can be removed under these options; `onnx-prune inspect` says why"
                .to_owned();
        let reached = request.targets.is_empty();
        return Ok(Decided {
            choice: Choice { removed: nothing },
            reached,
            remarks: vec![remark],
            ..Default::default()
        });
    }
    work.progress.begin(Phase::Score, 0);
    let groups: Vec<_> = candidates
        .iter()
        .map(|group| prepared.analysis.groups[*group].clone())
        .collect();
    let (scorer, evidence) = (
        request.scorer(),
        Evidence {
            model: &prepared.working,
            analysis: &prepared.analysis,
        },
    );
    let saliency = scorer.score(evidence, &groups);
    let silent: Vec<&str> = scorer
        .silent(evidence, &groups)
        .into_iter()
        .filter_map(|at| Some(groups.get(at)?.id.as_str()))
        .collect();
    let ranking = Ranking::new(&prepared.analysis, candidates, &saliency, &request.align);
    let mut decided = Decided {
        reached: true,
        remarks: request.remark(&silent).into_iter().collect(),
        ..Default::default()
    };
    if !request.targets.is_empty() {
        let met = match clock {
            None => ranking.meet(&request.targets),
            Some(clock) => clock.settle(
                &request.targets,
                1.0,
                &|targets| ranking.meet(targets),
                &|choice| Target::Latency(1.0).of(&ranking.cost(choice), &ranking.original()),
                &|choice| prepared.cut(&ranking.selection(choice), &[]),
            )?,
        };
        match met {
            Ok(choice) => decided.choice = choice,
            Err(unreachable) => {
                decided.reached = false;
                decided.remarks.push(format!(
                    "{unreachable}; --units, --only or a smaller --align may allow more"
                ));
                decided.choice = unreachable.closest;
            }
        }
        return Ok(decided);
    }
    let allowed = request.drift.unwrap_or(DEFAULT_DRIFT);
    search(prepared, &ranking, allowed, data, bench, work, &mut decided)?;
    Ok(decided)
}

/// The drift allowed when no target is given.
pub(super) const DEFAULT_DRIFT: f64 = 0.05;

/// Bisection over the ranked units: the most that can go with the drift at or below `allowed`.
fn search(
    prepared: &Prepared,
    ranking: &Ranking,
    allowed: f64,
    data: &Data,
    bench: &Bench,
    work: &Work,
    decided: &mut Decided,
) -> Result<(), Error> {
    bench.require()?;
    work.progress.begin(Phase::Search, STEPS);
    let (mut low, mut high) = (0usize, ranking.len());
    let mut best = ranking.remove(0);
    let mut tried: Vec<(usize, Point)> = Vec::new();
    // Drift grows steeply, so the first guesses are small shares.
    let mut guess = ranking.len() / 8;
    for _ in 0..STEPS {
        if work.progress.stop() {
            return Err(Error::Cancelled);
        }
        let choice = ranking.remove(guess);
        let pruned = prepared.cut(&ranking.selection(&choice), &[])?;
        let Estimate { drift, careful } = bench.quick_estimate(&pruned, data)?;
        tried.push((
            guess,
            Point {
                cost: ranking.cost(&choice),
                drift,
            },
        ));
        if careful <= allowed {
            (low, best) = (guess, choice);
        } else {
            high = guess;
        }
        work.progress.advance(1);
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
    decided.tradeoff = tried.into_iter().map(|(_, point)| point).collect();
    decided.tradeoff.dedup_by(|a, b| a.cost == b.cost);
    if best.removed.iter().all(Vec::is_empty) {
        decided.reached = false;
        decided.remarks.push(format!(
            "no cut keeps the drift within {allowed}; allow more with --target drift=X, or name a size with --target macs=X"
        ));
    }
    decided.choice = best;
    Ok(())
}
