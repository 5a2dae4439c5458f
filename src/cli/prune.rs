//! The main job.

use std::path::{Path, PathBuf};

use anyhow::Context;

use super::args::Prune;
use super::data::GivenData;
use super::goals::{check, goals};
use super::places::{self, Places};
use super::stop::Stop;
use super::values::{GoalText, Scoring};
use super::vocabulary::{self, TokenFiles};
use super::watch::Watch;
use super::{
    Exit, advice, calibrate, convert, data, defaults, ending, engine, gate, output, tradeoff,
    training, zeros,
};
use crate::allocate::Align;
use crate::analysis::{Allowed, Kind};
use crate::calibrate::{Dataset, ModelInputs};
use crate::files::Staged;
use crate::model::Model;
use crate::plan::Plan;
use crate::progress::{Phase, Progress};
use crate::prune::{Note, Outcome, PruneError, Pruner, Request};
use crate::report::{self, ExactnessVerdict, FedReport, Report};
use crate::run::Runtime;
use crate::score::Needs;
use crate::sparsify::{SparsifyOutcome, SparsifyRequest};
use crate::train::Training;

/// What a run works with.
pub(super) struct PruneJob {
    pub model: Model,
    pub request: Request,
    /// Which single weights are to become zero after the cut, if any are.
    zeros: Option<SparsifyRequest>,
    /// What is written where the vocabulary is cut.
    tokens: TokenFiles,
    pub data: Dataset,
    pub fed: Option<FedReport>,
    pub runtime: Option<Box<dyn Runtime>>,
    /// What to say where the model does not run.
    pub hint: String,
}

impl PruneJob {
    /// Reads the model and the inputs. Errors: one that cannot be read, options that contradict each other.
    pub fn read(
        args: &Prune,
        (path, target): (&Path, &Path),
        watch: &Watch,
        stop: &Stop,
    ) -> anyhow::Result<Self> {
        let mut request = request(args, target, watch)?;
        let mut zeros = zeros::asked(args, &mut request, target)?;
        let last = zeros.as_ref().and_then(|zeros| zeros.training.as_ref());
        let training = request.training.as_ref().or(last).cloned();
        training::claim(training.as_ref(), &args.outputs, stop, watch)?;
        let tokens = TokenFiles::claim(args, &request, target, stop)?;
        watch.begin(Phase::Load, 0);
        let model = output::load(path, watch, stop)?;
        request.allowed = advice::allowed(&model, &args.allow)?;
        let ends = data::wanted(&model, &request.pins, args.data.data.as_deref())?;
        tokens.find(&model, &ends, &mut request)?;
        let mut given = inputs(args, (&request, training.as_ref()), (&model, &ends), watch)?;
        request.pins = ends.shapes;
        if let Some(zeros) = &mut zeros {
            zeros.pins.clone_from(&request.pins);
        }
        let runtime = match given {
            Some(_) => Some(engine::runtime(args.engine.runtime, true, watch.memory)?),
            None => None,
        };
        if let (Some(given), Some(runtime)) = (&mut given, &runtime) {
            given.doubt(&model, &**runtime, watch);
        }
        let given = given.unwrap_or_default();
        let hint = given.guess();
        let GivenData { data, fed, .. } = given;
        tokens.choose(&mut request, &data, watch)?;
        Ok(PruneJob {
            model,
            request,
            zeros,
            tokens,
            data,
            fed,
            runtime,
            hint,
        })
    }

    /// What is said of an outcome of a request, and of the zeros that were set after its cut; thresholds are held against both
    /// together.
    pub fn report(
        &self,
        args: &Prune,
        (request, outcome): (&Request, &Outcome),
        zeros: Option<&SparsifyOutcome>,
    ) -> Report {
        let made_up = self.data.measured_on_made_up();
        let mut report = report_of(args, &self.model, request, outcome, made_up);
        report.fed.clone_from(&self.fed);
        if let (Some(asked), Some(zeros)) = (&self.zeros, zeros) {
            zeros::tell(&mut report, (&self.model, &self.data), args, (asked, zeros));
        }
        gate::thresholds(&mut report, &args.gate);
        gate::far_off(&mut report);
        gate::grown(&mut report);
        report
    }
}

/// The model that is read, and where the pruned one goes. Errors: no model is named.
pub(super) fn ends(args: &Prune) -> anyhow::Result<(PathBuf, PathBuf)> {
    let path = args.model.clone().context("no model given")?;
    let target = args.output.clone();
    let target = target.unwrap_or_else(|| output::default_output(&path));
    Ok((path, target))
}

pub(super) fn run(args: &Prune, stop: &Stop) -> anyhow::Result<Exit> {
    let (path, target) = &ends(args)?;
    let places = claim(args, target, stop)?;
    let watch = Watch::new(&args.common, stop);
    let mut job = PruneJob::read(args, (path, target), &watch, stop)?;
    let runtime = job.runtime.as_deref();
    let pruner = Pruner::new(&job.model, &job.data, runtime, watch.work());
    let run = |request: &Request| pruner.run(request);
    let found = pruned(args, run, &mut job.request, &watch);
    let outcome = match super::ran(found, &job.hint, &watch)? {
        Ok(outcome) => outcome,
        Err(exit) => return Ok(exit),
    };
    let zeros = match &job.zeros {
        Some(request) => match zeros::set(
            (&job.model, &job.data, runtime),
            request,
            &outcome,
            (&job.hint, &watch),
        )? {
            Ok(zeros) => zeros,
            Err(exit) => return Ok(exit),
        },
        None => None,
    };
    let mut report = job.report(args, (&job.request, &outcome), zeros.as_ref());
    let reached = outcome.reached || spared(args, &outcome);
    let exit = gate::exit(&report, reached, args.gate.allow_unverified);
    watch.begin(Phase::Save, 0);
    let stands = stands(args, exit, &report);
    let mut staged = Staged::new(&stop.outputs);
    if stands {
        let made = zeros.as_ref().map_or(&outcome.model, |zeros| &zeros.model);
        let plan = zeros::plan_text(&outcome.plan, zeros.as_ref().map(|zeros| &zeros.plan));
        places.stage(made, &plan, &mut staged)?;
        job.tokens.stage(&outcome, &mut staged, &watch)?;
    }
    output::close(&mut report, &watch);
    output::stage_reports(&report, &places.reports, &mut staged)?;
    // All that can fail comes before any file gets its name: a run that ends with an error has written nothing.
    if !args.common.quiet {
        output::print(&report::summary(&report))?;
    }
    stop.commit(staged)?;
    let written = places.model.is_some() && stands;
    training::done(job.request.training.as_ref(), written);
    let last = job.zeros.as_ref().and_then(|zeros| zeros.training.as_ref());
    training::done(last, written);
    ending::say(&watch, (exit, &job.hint), written, args, target, &report);
    Ok(exit)
}

/// Whether the result is to be written. What the exit code does not stand for is not, unless the user insists; what the surgery
/// did wrong is of no use.
fn stands(args: &Prune, exit: Exit, report: &Report) -> bool {
    let inexact = report.exactness.verdict == ExactnessVerdict::Inexact;
    !inexact && (exit == Exit::Done || args.outputs.force)
}

/// Prunes as asked for; once more by the norms of weights where nobody asked for what failed. `request` is what was done.
pub(super) fn pruned<T>(
    args: &Prune,
    run: impl Fn(&Request) -> Result<T, PruneError>,
    request: &mut Request,
    watch: &Watch,
) -> Result<T, PruneError> {
    let found = run(&*request);
    if let Err(error) = &found
        && let Some(by_weights) = defaults::by_weights(args, request, error)
    {
        watch.warn(&format!(
            "{error}; units are ranked by the norms of their weights"
        ));
        *request = by_weights;
        return run(&*request);
    }
    found
}

/// Inputs and statistics, where models are run: to search for a drift and to check the result, else not at all.
fn inputs(
    args: &Prune,
    (request, training): (&Request, Option<&Training>),
    (model, ends): (&Model, &ModelInputs),
    watch: &Watch,
) -> anyhow::Result<Option<GivenData>> {
    let alone = request.tokens.is_some() && !request.asks_for_units();
    let searches = request.targets.is_empty()
        && request.plan.is_none()
        && !alone
        && !args.family.is_of_costs();
    let measured = defaults::measured(args);
    let calibrates =
        request.score.needs() == Needs::AnyActivations || request.recover.is_some() || measured;
    if !(request.verify || searches || calibrates) {
        return Ok(None);
    }
    let wanted = data::Use {
        labels: args
            .judged
            .verify_labels
            .as_deref()
            .or(args.judged.labels.as_deref()),
        learnt: training::labels(&args.judged, training),
        verify: args.judged.verify_data.as_deref(),
        chooses: request.chooses(measured) || args.family.sweep.is_some(),
        fits: args.stats.is_empty()
            && (request.recover.is_some()
                || request.plan.is_none() && request.score.needs() != Needs::Weights),
    };
    let mut given = data::inputs((model, ends), &args.data, wanted, watch)?;
    if !args.stats.is_empty() {
        let statistics = calibrate::read(&args.stats, model)?;
        watch.say(&format!("statistics of {} samples", statistics.samples));
        given.data.statistics = Some(statistics);
    }
    Ok(Some(given))
}

/// Whether nothing goes within the drift allowed and no size or time was asked for: the model, which meets it, is written as it
/// is, and a note says what would take more.
fn spared(args: &Prune, outcome: &Outcome) -> bool {
    let none_fits = |note: &Note| matches!(note, Note::NoCutWithin { .. });
    let costs = args
        .target
        .iter()
        .any(|goal| matches!(goal, GoalText::Cost(_)));
    !costs && outcome.notes.iter().any(none_fits)
}

/// What is said of the outcome, held against the targets and thresholds.
fn report_of(
    args: &Prune,
    model: &Model,
    request: &Request,
    outcome: &Outcome,
    synthetic: bool,
) -> Report {
    let mut report = convert::begin(model, !args.outputs.report.is_empty());
    report.runtime = outcome.engine.as_ref().map(convert::engine);
    convert::counted(&mut report, model, &request.pins);
    convert::outcome(&mut report, outcome, request, synthetic);
    tradeoff::tell(&mut report, outcome, request);
    gate::targets(
        &mut report,
        &request.targets,
        &outcome.before,
        &outcome.after,
    );
    gate::latency_targets(
        &mut report,
        &request.targets,
        outcome.checks.as_ref().and_then(|checks| checks.latency),
    );
    if let Some(allowed) = request.drift.filter(|_| !spared(args, outcome)) {
        gate::drift_target(&mut report, allowed, outcome.reached);
    }
    if let Some(least) = request.agreement {
        let found = outcome.checks.as_ref().and_then(|checks| checks.agreement);
        gate::agreement_target(&mut report, least, found, outcome.reached);
    }
    let planned = request.plan.as_ref().and_then(|plan| plan.fit.as_ref());
    if let (Some(path), Some(planned)) = (&args.plan, planned) {
        let found = outcome.plan.fit.as_ref();
        gate::fit(&mut report, path, (planned, found), args.recover.is_some());
    }
    report
}

/// Claims the outputs, before the work, and notes what is read. Errors: one that cannot be written, or that is read.
fn claim(args: &Prune, target: &Path, stop: &Stop) -> anyhow::Result<Places> {
    let places = Places::claim(target, "the pruned model", &args.outputs, stop)?;
    reads(args, stop)?;
    Ok(places)
}

/// Claims the table of latencies and notes what is read. Errors: one that cannot be written, or that is an output.
pub(super) fn reads(args: &Prune, stop: &Stop) -> anyhow::Result<()> {
    let outputs = &stop.outputs;
    if let Some(path) = &args.latency_table {
        outputs.claim(path, "the table of latencies")?;
    }
    output::reads(stop, "one of the statistics", &args.stats)?;
    if let Some(Scoring::File(path)) = &args.score {
        outputs.reads(path, "the file of scores")?;
    }
    places::reads(stop, args.plan.as_ref(), &args.data, &args.judged)?;
    // Said before the model is read.
    output::reads(stop, "the model", &args.model)
}

/// What is asked for. Errors: options that contradict each other, a plan or scores that cannot be read.
fn request(args: &Prune, target: &Path, watch: &Watch) -> anyhow::Result<Request> {
    let plan = args
        .plan
        .as_deref()
        .map(Plan::read)
        .transpose()
        .context("--plan")?;
    let (targets, mut drift, agreement) = goals(args);
    let score = defaults::score(args)?;
    check(args, &targets, drift.or(agreement), &score)?;
    args.family
        .check(&args.target, args.rounds, args.no_verify)?;
    let cautious = args.target.is_empty() && plan.is_none() && args.family.sweep.is_none();
    if cautious {
        drift = Some(defaults::drift(args));
    }
    let kinds = defaults::kinds(&args.units, defaults::measured(args));
    if kinds.contains(&Kind::Heads) && kinds.contains(&Kind::HeadDims) {
        watch.warn("--units: dimensions of heads are cut where heads are not in the list; whole heads come first here");
    }
    if kinds.contains(&Kind::Heads) && kinds.contains(&Kind::Directions) {
        watch.warn("--units: heads are cut where directions are not in the list; directions of heads come first here");
    }
    let recover = defaults::recovery(args, plan.as_ref(), &score);
    // The models of a sweep would share one checkpoint.
    let keeps = !args.outputs.dry_run && args.family.sweep.is_none();
    let target = keeps.then_some(target);
    let training = defaults::training(args, plan.as_ref(), target);
    let planned = plan.as_ref().and_then(|plan| plan.fit.as_ref());
    let augment = args.views.augment(planned);
    let request = Request {
        targets,
        drift,
        agreement,
        cautious,
        score,
        recover,
        training,
        augment,
        seed: args.data.seed,
        rounds: args.rounds,
        kinds,
        uniform: args.uniform,
        only: args.only.clone(),
        exclude: args.exclude.clone(),
        allowed: Allowed::new(),
        align: args.align.clone().unwrap_or(Align::ByWidth),
        latency_table: args.latency_table.clone().or_else(output::latency_table),
        plan,
        keep_plan: args.outputs.plan_out.is_some(),
        pins: data::pins(&args.data.input),
        verify: !args.no_verify,
        ..Default::default()
    };
    Ok(vocabulary::alone(args, request))
}
