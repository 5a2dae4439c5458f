//! The main job: from a model and a request to a pruned model, its plan, and the proof.
//!
//! The only room that knows the order of the steps; each step is a function of another room over plain data.

mod clock;
mod decide;
mod ends;
mod engine;
mod error;
mod gauges;
mod measure;
mod operator;
mod original;
mod patterns;
mod prepared;
mod quality;
mod request;
mod rounds;
mod search;
mod trunk;
mod unrun;

pub use clock::{Foreseen, NEAR};
pub use ends::{Allowance, ChangedEnd, allowed};
pub use engine::{Engine, prune};
pub use error::Error;
pub use gauges::doubts;
pub use measure::{ALLOWANCE, Checks, Latency, cost};
pub use prepared::Prepared;
pub use quality::calibrate;
pub use request::{Apart, Data, Request, ScoreName};
pub use unrun::UnrunBranch;

use crate::allocate::{Align, Choice};
use crate::analysis::{Analysis, Cost};
use crate::model::{Model, Origins};
use crate::plan::{AllowedAxes, Plan};
use crate::progress::{Phase, Work};
use crate::recover::Repair;
use crate::run::{Chosen, without_sequences};
use crate::surgery;

/// One point that the search tried.
#[derive(Clone, Debug, PartialEq)]
pub struct Point {
    /// What the model costs there.
    pub cost: Cost,
    /// The largest relative L2 drift of any output there.
    pub drift: f64,
}

/// What the job made and found.
#[derive(Debug)]
pub struct Outcome {
    /// What ran the models; `None` where nothing was run.
    pub engine: Option<Engine>,
    /// The pruned model.
    pub model: Model,
    /// What was removed, as data.
    pub plan: Plan,
    /// Units by group of the analysis that went.
    pub choice: Choice,
    /// What is known of the model, small shared constants given to each reader apart.
    pub analysis: Analysis,
    /// That model.
    pub working: Model,
    /// What its constants are in the file.
    pub origins: Origins,
    /// The groups that could be cut under the request, as numbers into the analysis.
    pub candidates: Vec<usize>,
    /// Costs of the original.
    pub before: Cost,
    /// Costs of the pruned model.
    pub after: Cost,
    /// What was foreseen of the latency, where one was aimed at.
    pub foreseen: Option<Foreseen>,
    /// Exactness, drift and latency; `None` when they were not asked for.
    pub checks: Option<Checks>,
    /// What recovery did to each layer.
    pub repairs: Vec<Repair>,
    /// Branches of conditions that no input took.
    pub unrun: Vec<UnrunBranch>,
    /// Inputs and outputs whose shape changed.
    pub changed_ends: Vec<ChangedEnd>,
    /// The points that the search tried, widest first.
    pub tradeoff: Vec<Point>,
    /// Whether all targets were met.
    pub reached: bool,
    /// What the user should know of the targets, one sentence each.
    pub remarks: Vec<String>,
}

/// From this relative drift on the outputs have little in common with the original's.
const FAR: f64 = 0.5;

/// Prunes a model in one engine. `chosen` is `None` when nothing is to be run (no drift search, no checks).
fn prune_in(
    model: &Model,
    request: &Request,
    data: &Data,
    chosen: Option<Chosen>,
    work: &Work,
) -> Result<Outcome, Error> {
    let runtime = chosen.as_ref().map(|chosen| chosen.runtime);
    work.progress.begin(Phase::Analyse, 0);
    let options = crate::analysis::Options {
        memory: work.memory,
        ..request.options()
    };
    let example = if runtime.is_some() {
        data.inputs.example()?
    } else {
        None
    };
    let runs = example.is_some();
    let measured = runs && (!data.synthetic || data.statistics.is_some());
    if request.score.needs_data() && request.plan.is_none() && !measured {
        return Err(Error::NeedsData(request.score.to_string()));
    }
    let calibrated =
        request.plan.is_none() && (measured || (runs && request.score == ScoreName::Obs));
    let mends = runs && (request.recover.is_some() || calibrated);
    // A runtime that does not take a bias before a norm gets the model as it is.
    let mendable = if mends {
        Some(Prepared::mendable(model, &options)?)
    } else {
        None
    };
    let taken = |prepared: &Prepared| match (&example, runtime) {
        (Some(example), Some(runtime)) => quality::can_be_tapped(prepared, example, runtime),
        _ => false,
    };
    let mut prepared = match mendable.filter(taken) {
        Some(prepared) => prepared,
        None => Prepared::new(model, &options)?,
    };
    if let ScoreName::Given(given) = &request.score {
        given.check(&prepared.analysis.groups)?;
    }
    let unmatched = patterns::unmatched(request, &prepared)?;
    let candidates = request.candidates(&prepared);
    let unrun = match runtime.filter(|_| runs) {
        Some(runtime) => unrun::Unrun::find(&prepared.working, &*data.inputs, runtime)?,
        None => unrun::Unrun::default(),
    };
    let unrun_branches = unrun.branches(&prepared, &candidates);
    let candidates = unrun.without(&prepared, candidates);
    let times =
        request.plan.is_none() && (request.aims_at_latency() || request.align == Align::Auto);
    let clock = match (times, runtime) {
        (false, _) => None,
        (true, Some(runtime)) => Some(clock::Clock::new(model, request, data, runtime)?),
        (true, None) => {
            return Err(Error::Unverifiable(
                "a latency has to be measured, and models are not run".to_owned(),
            ));
        }
    };
    let mut measured_request = None;
    if let (Some(clock), Align::Auto) = (&clock, &request.align) {
        let align = clock.align(&prepared, &candidates, work)?;
        measured_request = Some(Request {
            align,
            ..request.clone()
        });
    }
    let request = measured_request.as_ref().unwrap_or(request);
    let clock = clock.filter(|_| request.aims_at_latency());
    if let Some(clock) = &clock {
        clock.attach(&prepared.working, &mut prepared.analysis, work)?;
    }
    let clock = clock.as_ref();
    let sha256 = if request.needs_digest() {
        model.source.sha256()
    } else {
        String::new()
    };
    let bench = match chosen {
        Some(chosen) => measure::Bench::new(model, data, chosen, request.chooses(measured), work)?,
        None => measure::Bench::none(),
    };
    // What is ranked by weights alone can be pruned even where the model does not run, and is not measured group by group
    // where nothing is to be mended.
    let needs_run =
        request.score == ScoreName::Obs || request.score.needs_data() || data.statistics.is_some();
    let by_curves = runtime.filter(|_| {
        calibrated
            && !candidates.is_empty()
            && (needs_run || (request.recover.is_some() && bench.require().is_ok()))
    });
    if by_curves.is_none() && request.layers() && request.plan.is_none() && !candidates.is_empty() {
        return Err(Error::LayersNeedData);
    }
    let (decided, made) = match by_curves {
        Some(runtime) => {
            let original = &prepared;
            let rounds = rounds::Rounds {
                original,
                request,
                candidates: &candidates,
                data,
                bench: &bench,
                clock,
                runtime,
                work,
            };
            let made = rounds.run()?;
            (made.decided, Some((made.model, made.repairs)))
        }
        None => match &request.plan {
            Some(plan) => (decide::planned(&prepared, plan, &sha256)?, None),
            None => (
                decide::decide(&prepared, request, &candidates, data, &bench, clock, work)?,
                None,
            ),
        },
    };
    let selection = prepared.select(&decided.choice.removed);
    model.source.check()?;
    work.progress.begin(Phase::Cut, 0);
    let plan = Plan {
        allowed: AllowedAxes::list(&options.allowed),
        ..prepared.plan(&decided.choice, sha256)
    };
    let notes = request.notes(&plan);
    let cut = prepared.raw_cut(&selection, &notes)?;
    let bare = prepared.finish(cut.clone())?;
    let (mut pruned, repairs) = match (
        made,
        request.recover,
        runtime.filter(|_| runs && !selection.is_empty()),
    ) {
        (Some((model, repairs)), ..) => (prepared.finish(model)?, repairs),
        (None, Some(method), Some(runtime)) => {
            let (model, repairs) = if data.statistics_alone() {
                let quality = quality::Quality::new(
                    &prepared,
                    data.statistics.as_ref(),
                    data,
                    runtime,
                    work,
                )?;
                (quality.raw_cut(&selection)?, Vec::new())
            } else {
                quality::mend(&prepared, &selection, cut, method, data, runtime, work)?
            };
            (prepared.finish(model)?, repairs)
        }
        _ => (bare.clone(), Vec::new()),
    };
    // Layers are mended one by one; what counts is what they do together.
    let mut unmended = None;
    if !repairs.is_empty()
        && let (Ok(mended), Ok(cut)) = (
            bench.spared_drift(&pruned, data),
            bench.spared_drift(&bare, data),
        )
        && mended.drift > cut.drift
    {
        let (mended, cut) = (mended.drift, cut.drift);
        unmended = Some(format!(
            "recovery would have moved the outputs further ({mended:.3} against {cut:.3}), so the weights are as they were"
        ));
        pruned = bare.clone();
    }
    let fitted = !repairs.is_empty() || (runs && data.statistics_alone() && !selection.is_empty());
    let fit = data.fit(
        request.recover.filter(|_| fitted && unmended.is_none()),
        request.needs_digest(),
    )?;
    let plan = Plan {
        fit: Some(fit),
        ..plan
    };
    surgery::annotate(&mut pruned, &notes);
    model.source.check()?;
    prepared.check(&pruned, &selection)?;
    let checks = match (request.verify, runtime) {
        (true, Some(runtime)) => {
            Some(bench.check(&prepared, &selection, &bare, &pruned, data, runtime, work)?)
        }
        _ => None,
    };
    let mut reached = decided.reached;
    let mut remarks = decided.remarks;
    remarks.extend(unmended.into_iter().chain(unmatched));
    remarks.extend(unrun::remark(&unrun_branches, request.plan.is_none()));
    let differs = |planned: &Plan| plan.fit.as_ref()?.differs(planned.fit.as_ref()?);
    remarks.extend(request.plan.as_ref().and_then(differs));
    if !model.proto.functions.is_empty() && pruned.proto.functions.is_empty() {
        remarks.push(
            "calls of the model's own functions were replaced by the functions' nodes".to_owned(),
        );
    }
    if without_sequences(model).is_some() {
        remarks.push(
            "sequences of known length were replaced by the tensors that they hold".to_owned(),
        );
    }
    // A choice that comes near enough by the table is refused where the clock says otherwise.
    let foreseen =
        clock.and_then(|clock| clock.foreseen.lock().ok().and_then(|foreseen| *foreseen));
    let measured = checks
        .as_ref()
        .and_then(|checks| checks.latency)
        .map(|latency| latency.pruned / latency.original);
    if let (Some(foreseen), Some(measured)) = (foreseen, measured) {
        reached &= measured <= foreseen.target * (1.0 + NEAR);
    }
    if let (Some(allowed), Some(drift)) = (request.drift, checks.as_ref().and_then(Checks::drift)) {
        // The search measures on other inputs; the promise is for those that it has not seen.
        if drift > allowed * measure::ALLOWANCE {
            reached = false;
            remarks.push(format!(
                "the drift on inputs kept apart is {drift:.4}, more than the {allowed} asked for"
            ));
        }
    }
    if let Some(drift) = checks
        .as_ref()
        .and_then(Checks::drift)
        .filter(|drift| *drift >= FAR)
    {
        remarks.push(format!(
            "the outputs moved by {:.0} %: the cut is right, but the model needs retraining before it is of use; a lighter cut, or --target drift=X, keeps more",
            drift * 100.0
        ));
    }
    remarks.extend(measure::of_ids(&prepared).filter(|_| {
        checks
            .as_ref()
            .is_some_and(|checks| !checks.outputs.is_empty())
    }));
    let changed_ends = ends::changed_ends(&prepared.working, &prepared.analysis, &selection);
    remarks.extend(ends::remark(&changed_ends));
    let Prepared {
        working,
        analysis,
        origins,
    } = prepared;
    let before = analysis.account.original();
    let after = Cost {
        bytes: crate::model::encoded_len(&pruned) as f64,
        params: measure::params(&pruned),
        ..analysis.account.of(&analysis.classes, &selection)
    };
    if after.params > before.params && after.bytes > before.bytes {
        reached = false;
        remarks.push(format!(
            "the cut makes the model larger ({} parameters, {} before): what goes is less than the biases and copies that it needs",
            after.params, before.params
        ));
    }
    Ok(Outcome {
        engine: runtime.filter(|_| runs).map(Engine::of),
        model: pruned,
        plan,
        choice: decided.choice,
        analysis,
        working,
        origins,
        candidates,
        before,
        after,
        foreseen,
        checks,
        repairs,
        unrun: unrun_branches,
        changed_ends,
        tradeoff: decided.tradeoff,
        reached,
        remarks,
    })
}
