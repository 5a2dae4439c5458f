//! The main job.

use std::path::Path;

use anyhow::{Context, bail};

use super::args::Prune;
use super::data::GivenData;
use super::places::{self, Places};
use super::stop::Stop;
use super::values::{GoalText, Recovery, Scoring};
use super::watch::Watch;
use super::{Exit, advice, calibrate, convert, data, defaults, engine, gate, output};
use crate::allocate::{Align, Target};
use crate::analysis::{Allowed, Kind};
use crate::calibrate::ModelInputs;
use crate::files::Staged;
use crate::model::Model;
use crate::plan::Plan;
use crate::progress::{Phase, Progress};
use crate::prune::{Note, Outcome, PruneError, Pruner, Request};
use crate::recover::Method;
use crate::report::{self, ExactnessVerdict, Report};
use crate::score::{Needs, Scorer};

pub(super) fn run(args: &Prune, stop: &Stop) -> anyhow::Result<Exit> {
    let Some(path) = &args.model else {
        bail!("no model given")
    };
    let target = args
        .output
        .clone()
        .unwrap_or_else(|| output::default_output(path));
    let places = claim(args, &target, stop)?;
    let watch = Watch::new(&args.common, stop);
    let mut request = request(args, &watch)?;
    watch.begin(Phase::Load, 0);
    let model = output::load(path, &watch, stop)?;
    request.allowed = advice::allowed(&model, &args.allow)?;
    let ends = data::wanted(&model, &request.pins, args.data.data.as_deref())?;
    let mut given = inputs(args, &request, (&model, &ends), &watch)?;
    request.pins = ends.shapes;
    let runtime = match given {
        Some(_) => Some(engine::runtime(args.engine.runtime, true, watch.memory)?),
        None => None,
    };
    let runtime = runtime.as_deref();
    if let (Some(given), Some(runtime)) = (&mut given, runtime) {
        given.doubt(&model, runtime, &watch);
    }
    let given = given.unwrap_or_default();
    let hint = given.guess();
    let GivenData { data, fed, .. } = given;
    let pruner = Pruner::new(&model, &data, runtime, watch.work());
    let found = pruned(args, &pruner, &mut request, &watch);
    let outcome = match super::ran(found, &hint, &watch)? {
        Ok(outcome) => outcome,
        Err(exit) => return Ok(exit),
    };
    let mut report = report_of(args, &model, &request, &outcome, data.measured_on_made_up());
    report.fed = fed;
    let reached = outcome.reached || spared(args, &outcome);
    let exit = gate::exit(&report, reached, args.gate.allow_unverified);
    watch.begin(Phase::Save, 0);
    // What the exit code does not stand for is not written, unless the user insists; what the surgery did wrong is of no use.
    let inexact = report.exactness.verdict == ExactnessVerdict::Inexact;
    let stands = !inexact && (exit == Exit::Done || args.outputs.force);
    let mut staged = Staged::new(&stop.outputs);
    if stands {
        places.stage(&outcome.model, &outcome.plan.to_json(), &mut staged)?;
    }
    output::close(&mut report, &watch);
    output::stage_reports(&report, &places.reports, &mut staged)?;
    // All that can fail comes before any file gets its name: a run that ends with an error has written nothing.
    if !args.common.quiet {
        output::print(&report::summary(&report))?;
    }
    stop.commit(staged)?;
    let written = places.model.is_some() && stands;
    say(&watch, (exit, &hint), written, args, &target, &report);
    Ok(exit)
}

/// Prunes as asked for; once more by the norms of weights where nobody asked for what failed. `request` is what was done.
fn pruned(
    args: &Prune,
    pruner: &Pruner,
    request: &mut Request,
    watch: &Watch,
) -> Result<Outcome, PruneError> {
    let found = pruner.run(request);
    if let Err(error) = &found
        && let Some(by_weights) = defaults::by_weights(args, request, error)
    {
        watch.warn(&format!(
            "{error}; units are ranked by the norms of their weights"
        ));
        *request = by_weights;
        return pruner.run(request);
    }
    found
}

/// Inputs and statistics, where models are run: to search for a drift and to check the result, else not at all.
fn inputs(
    args: &Prune,
    request: &Request,
    (model, ends): (&Model, &ModelInputs),
    watch: &Watch,
) -> anyhow::Result<Option<GivenData>> {
    let searches = request.targets.is_empty() && request.plan.is_none();
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
        verify: args.judged.verify_data.as_deref(),
        chooses: request.chooses(measured),
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
        gate::fit(&mut report, path, planned, args.recover.is_some());
    }
    gate::thresholds(&mut report, &args.gate);
    gate::far_off(&mut report);
    report
}

/// Claims the outputs, before the work, and notes what is read. Errors: one that cannot be written, or that is read.
fn claim(args: &Prune, target: &Path, stop: &Stop) -> anyhow::Result<Places> {
    let outputs = &stop.outputs;
    let places = Places::claim(target, "the pruned model", &args.outputs, stop)?;
    if let Some(path) = &args.latency_table {
        outputs.claim(path, "the table of latencies")?;
    }
    output::reads(stop, "one of the statistics", &args.stats)?;
    if let Some(Scoring::File(path)) = &args.score {
        outputs.reads(path, "the file of scores")?;
    }
    places::reads(stop, args.plan.as_ref(), &args.data, &args.judged)?;
    // Said before the model is read.
    output::reads(stop, "the model", &args.model)?;
    Ok(places)
}

/// Says how the run ended, with the hint where the model does not run.
fn say(
    watch: &Watch,
    (exit, hint): (Exit, &str),
    written: bool,
    args: &Prune,
    target: &Path,
    report: &Report,
) {
    if report.exactness.verdict == ExactnessVerdict::Inexact {
        super::complain(&format!(
            "{}. That is a fault of onnx-prune, so nothing is written; please report it, with the model or its graph and this command",
            report::told_exactness(report)
        ));
        return;
    }
    // Without the tables, the reason would be nowhere.
    let mut reasons = gate::failed(report);
    if args.common.quiet {
        reasons.extend(
            report
                .exactness
                .reason
                .iter()
                .filter(|_| exit == Exit::Unverifiable)
                .chain(&report.remarks)
                .cloned(),
        );
    }
    let reason = if reasons.is_empty() {
        String::new()
    } else {
        format!(": {}", reasons.join("; "))
    };
    let ending = |force: &str| match (written, args.outputs.dry_run) {
        (true, _) => format!("wrote {} all the same", target.display()),
        (false, true) => "nothing written (--dry-run)".to_owned(),
        (false, false) => format!("nothing written ({force})"),
    };
    match exit {
        Exit::Missed => super::complain(&format!(
            "targets or thresholds are not met{reason}; {}",
            ending("--force writes all the same")
        )),
        Exit::Unverifiable => {
            super::complain(&format!(
                "the result could not be verified{reason}{hint}; {}",
                ending("--allow-unverified accepts it")
            ));
        }
        _ if written && args.output.is_none() => watch.say(&format!(
            "wrote {} (-o gives it another name)",
            target.display()
        )),
        _ if written => watch.say(&format!("wrote {}", target.display())),
        _ => watch.say("nothing written (--dry-run)"),
    }
}

/// The targets of size and time, the drift allowed, the least of those asked for, and the agreement, the most.
fn goals(args: &Prune) -> (Vec<Target>, Option<f64>, Option<f64>) {
    let (mut targets, mut drift, mut agreement) = (Vec::new(), None, None);
    for goal in &args.target {
        match goal {
            GoalText::Cost(target) => targets.push(*target),
            GoalText::Drift(allowed) => drift = Some(drift.unwrap_or(f64::INFINITY).min(*allowed)),
            GoalText::Agreement(least) => agreement = Some(agreement.unwrap_or(0.0f64).max(*least)),
        }
    }
    (targets, drift, agreement)
}

/// Errors: options that contradict each other.
fn check(
    args: &Prune,
    targets: &[Target],
    quality: Option<f64>,
    score: &Scorer,
) -> anyhow::Result<()> {
    if quality.is_some() && !targets.is_empty() && args.no_verify {
        bail!(
            "--target drift=… or agreement=… beside a target of size is checked by running the models; leave out --no-verify"
        );
    }
    let timed = targets
        .iter()
        .any(|target| matches!(target, Target::Latency(_)))
        || args.align == Some(Align::Auto);
    if timed && args.no_verify {
        bail!("latencies are measured by running the model; leave out --no-verify");
    }
    let (data, stats) = (args.data.data.is_some(), !args.stats.is_empty());
    if args.judged.labels.is_some() && !data && args.judged.verify_data.is_none() {
        bail!("--labels are the classes of inputs; give these with --data or --verify-data");
    }
    if score.needs() == Needs::Activations && !data && !stats && args.plan.is_none() {
        bail!(
            "--score {score} is computed from activations: give inputs with --data, or statistics with --stats"
        );
    }
    if args.recover == Some(Recovery::Distill) && !data {
        bail!("--recover distill learns from inputs; give them with --data");
    }
    if args.steps.is_some() && args.recover != Some(Recovery::Distill) {
        bail!("--steps counts steps of training; it goes with --recover distill");
    }
    if args.recover == Some(Recovery::With(Method::Statistics)) && !data && stats {
        bail!(
            "--recover statistics compares outputs, so it needs --data; --stats alone are enough for least-squares"
        );
    }
    Ok(())
}

/// What is asked for. Errors: options that contradict each other, a plan or scores that cannot be read.
fn request(args: &Prune, watch: &Watch) -> anyhow::Result<Request> {
    let plan = args
        .plan
        .as_deref()
        .map(Plan::read)
        .transpose()
        .context("--plan")?;
    let (targets, mut drift, agreement) = goals(args);
    let score = defaults::score(args)?;
    check(args, &targets, drift.or(agreement), &score)?;
    let cautious = args.target.is_empty() && plan.is_none();
    if cautious {
        drift = Some(defaults::drift(args));
    }
    let kinds = args.units.0.clone();
    if kinds.contains(&Kind::Heads) && kinds.contains(&Kind::HeadDims) {
        watch.warn("--units: dimensions of heads are cut where heads are not in the list; whole heads come first here");
    }
    let recover = defaults::recovery(args, plan.as_ref(), &score);
    let training = defaults::training(args, plan.as_ref());
    let planned = plan.as_ref().and_then(|plan| plan.fit.as_ref());
    let augment = args.views.augment(planned);
    Ok(Request {
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
        only: args.only.clone(),
        exclude: args.exclude.clone(),
        allowed: Allowed::new(),
        align: args.align.clone().unwrap_or(Align::ByWidth),
        latency_table: args.latency_table.clone().or_else(output::latency_table),
        plan,
        keep_plan: args.outputs.plan_out.is_some(),
        pins: data::pins(&args.data.input),
        verify: !args.no_verify,
    })
}
