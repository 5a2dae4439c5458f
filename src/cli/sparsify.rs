//! Single weights set to zero.

use std::path::Path;

use anyhow::{Context, bail};

use super::args::Sparsify;
use super::places::{self, Places};
use super::stop::Stop;
use super::values::{Recovery, Storage};
use super::watch::Watch;
use super::{Exit, convert, data, engine, gate, output, planned, training};
use crate::calibrate;
use crate::cost;
use crate::files::Staged;
use crate::model::{Model, encoded_len};
use crate::plan::Fit;
use crate::progress::{Phase, Progress};
use crate::recover::Method;
use crate::report::{self, ExactnessVerdict, Report};
use crate::sparsify::{
    self, Data, Error, SparsePlan, SparseScore, SparsifyOutcome, SparsifyRequest, SparsityPattern,
};
use crate::train::Training;

pub(super) fn run(args: &Sparsify, stop: &Stop) -> anyhow::Result<Exit> {
    let target = args
        .output
        .clone()
        .unwrap_or_else(|| output::beside(&args.model, "sparse"));
    let places = Places::claim(&target, "the sparse model", &args.outputs, stop)?;
    places::reads(stop, args.plan.as_ref(), &args.data, &args.judged)?;
    output::reads(stop, "the model", [&args.model])?;
    let watch = Watch::new(&args.common, stop);
    let mut request = request(args, &target)?;
    training::claim(request.training.as_ref(), &args.outputs, stop, &watch)?;
    watch.begin(Phase::Load, 0);
    let model = output::load(&args.model, &watch, stop)?;
    let runs = !args.no_verify || request.score.needs_data();
    let ends = data::wanted(&model, &request.pins, args.data.data.as_deref())?;
    let mut given = match runs {
        true => data::inputs((&model, &ends), &args.data, wanted(args, &request), &watch)?,
        false => data::GivenData::default(),
    };
    request.pins = ends.shapes;
    let runtime = runs
        .then(|| engine::runtime(args.engine.runtime, true, watch.memory))
        .transpose()?;
    let runtime = runtime.as_deref();
    if let Some(runtime) = runtime {
        given.doubt(&model, runtime, &watch);
    }
    let hint = given.guess();
    let trimmed = runtime.map(|runtime| calibrate::trimmed(&model, &given.data, runtime));
    let trimmed = trimmed.transpose()?.flatten();
    let data = trimmed.as_ref().unwrap_or(&given.data);
    let made = sparsify::sparsify(&model, &request, lent(data), runtime, &watch.work());
    let mut outcome = match told(made, &hint, &watch)? {
        Ok(outcome) => outcome,
        Err(exit) => return Ok(exit),
    };
    let padding = data.padding.as_ref().map(ToString::to_string);
    outcome.remarks.extend(padding);
    let stored = stored(args.storage, &mut outcome)?;
    let mut report = reported(args, &request, (&model, &outcome, stored), &given);
    gate::thresholds(&mut report, &args.gate);
    let exit = gate::exit(&report, true, args.gate.allow_unverified);
    watch.begin(Phase::Save, 0);
    let stands = exit == Exit::Done || args.outputs.force;
    let written = places.model.is_some() && stands;
    let mut staged = Staged::new(&stop.outputs);
    if stands {
        places.stage(&outcome.model, &outcome.plan.to_json(), &mut staged)?;
    }
    output::close(&mut report, &watch);
    output::stage_reports(&report, &places.reports, &mut staged)?;
    if !args.common.quiet {
        output::print(&report::sparsification(&report))?;
    }
    stop.commit(staged)?;
    training::done(request.training.as_ref(), written);
    say(&watch, (exit, &hint), written, (args, &target), &report);
    Ok(exit)
}

/// How many constants are stored in the sparse form. Errors: one that cannot be.
fn stored(storage: Storage, outcome: &mut SparsifyOutcome) -> anyhow::Result<usize> {
    Ok(match storage {
        Storage::Dense => 0,
        Storage::Sparse => {
            let constants = outcome.constants();
            sparsify::store_sparse(&mut outcome.model, &constants)?
        }
    })
}

/// The inputs, for the work to borrow.
pub(super) fn lent(inputs: &crate::calibrate::Dataset) -> Data<'_> {
    let measured = match &inputs.apart {
        Some(apart) => (&*apart.inputs, apart.labels.as_deref()),
        None => (&*inputs.inputs, inputs.labels.as_deref()),
    };
    Data {
        inputs: &*inputs.inputs,
        whole: inputs.whole(),
        labels: inputs.labels.as_deref(),
        synthetic: inputs.synthetic,
        measured,
        preparation: &inputs.preparation,
        original: None,
    }
}

/// The report, thresholds and times left out.
fn reported(
    args: &Sparsify,
    request: &SparsifyRequest,
    (model, outcome, stored): (&Model, &SparsifyOutcome, usize),
    given: &data::GivenData,
) -> Report {
    let mut report = convert::begin(model, !args.outputs.report.is_empty());
    report.fed = given.fed.clone();
    convert::counted(&mut report, model, &request.pins);
    fill(&mut report, (model, outcome), request, stored);
    drift(&mut report, outcome, &given.data, args.no_verify);
    if let (Some(path), Some(planned)) = (
        &args.plan,
        request.plan.as_ref().and_then(|plan| plan.fit.as_ref()),
    ) {
        let found = report.fit.clone();
        gate::fit(
            &mut report,
            path,
            (planned, found.as_ref()),
            args.recover.is_some(),
        );
    }
    report
}

/// What is asked for. Errors: options that contradict each other, a plan that cannot be read.
fn request(args: &Sparsify, target: &Path) -> anyhow::Result<SparsifyRequest> {
    let plan = args
        .plan
        .as_deref()
        .map(SparsePlan::read)
        .transpose()
        .context("--plan")?;
    if plan.is_none() || args.sparsity.is_some() {
        check_pattern(args.sparsity, args.pattern)?;
    }
    if args.judged.labels.is_some() && args.data.data.is_none() && args.judged.verify_data.is_none()
    {
        bail!("--labels are the classes of inputs; give these with --data or --verify-data");
    }
    let measured = args.data.data.is_some();
    let score = match args.score {
        _ if plan.is_some() => SparseScore::Magnitude,
        Some(score) => score,
        None if measured => SparseScore::Obs,
        None => SparseScore::Magnitude,
    };
    if score.needs_data() && args.no_verify {
        bail!("--score {score} looks at activations, so models have to run; leave out --no-verify");
    }
    let fits = measured || score.needs_data();
    let fit = plan.as_ref().and_then(|plan| plan.fit.as_ref());
    Ok(SparsifyRequest {
        sparsity: args.sparsity,
        pattern: args.pattern,
        score,
        uniform: args.uniform,
        exclude: args.exclude.clone(),
        recover: match args.recover {
            Some(Recovery::Nothing) => None,
            Some(Recovery::With(method)) => Some(method),
            Some(Recovery::Distill) => Some(Method::LeastSquares),
            None => fit.map_or_else(
                || fits.then(Method::default),
                |fit| planned::method(fit, fits),
            ),
        },
        training: training_of(args, target, fit)?,
        plan,
        keep_plan: args.outputs.plan_out.is_some(),
        pins: data::pins(&args.data.input),
    })
}

/// Errors: a pattern that does not go with the share of zeros, or does not say how many there are.
pub(super) fn check_pattern(sparsity: Option<f64>, pattern: SparsityPattern) -> anyhow::Result<()> {
    match (sparsity, pattern.share()) {
        (Some(asked), Some(share)) if (asked - share).abs() > 1e-9 => bail!(
            "--pattern {pattern} makes {share} of the weights zero, --sparsity asks for {asked}; leave one of them out"
        ),
        (None, None) => {
            bail!("--pattern {pattern} says how zeros lie, not how many there are; give --sparsity")
        }
        _ => Ok(()),
    }
}

/// How they are trained after that, if they are. Errors: without inputs to learn from.
fn training_of(
    args: &Sparsify,
    target: &Path,
    fit: Option<&Fit>,
) -> anyhow::Result<Option<Training>> {
    training::check(&args.train, args.recover, &args.data, &args.judged)?;
    let target = (!args.outputs.dry_run).then_some(target);
    let asked = Training {
        keeps_zeros: true,
        ..training::training(&args.train, &args.judged, args.data.seed, target)
    };
    let measured = args.data.data.is_some();
    Ok(planned::training(
        asked,
        args.recover,
        &args.views,
        (fit, measured),
    ))
}

fn wanted<'a>(args: &'a Sparsify, request: &SparsifyRequest) -> data::Use<'a> {
    data::Use {
        labels: args
            .judged
            .verify_labels
            .as_deref()
            .or(args.judged.labels.as_deref()),
        learnt: training::labels(&args.judged, request.training.as_ref()),
        verify: args.judged.verify_data.as_deref(),
        chooses: request.recover.is_some() || request.score.needs_data() || request.plan.is_some(),
        fits: false,
    }
}

/// What was made, or the exit code where a model that has to run does not, which is said.
pub(super) fn told(
    made: Result<SparsifyOutcome, Error>,
    hint: &str,
    watch: &Watch,
) -> anyhow::Result<Result<SparsifyOutcome, Exit>> {
    match made {
        Ok(outcome) => Ok(Ok(outcome)),
        Err(Error::Unverifiable(reason)) => {
            watch.finish();
            super::complain(&format!("{reason}{hint}"));
            Ok(Err(Exit::Unverifiable))
        }
        Err(broken @ Error::Broken(_)) => {
            watch.finish();
            super::complain(&format!(
                "{broken}. That is a fault of onnx-prune, so nothing is written; please report it"
            ));
            Ok(Err(Exit::Missed))
        }
        Err(other) => Err(other.into()),
    }
}

/// Puts what was made into the report.
fn fill(
    report: &mut Report,
    (model, outcome): (&Model, &SparsifyOutcome),
    request: &SparsifyRequest,
    stored: usize,
) {
    report.kind = Some("sparsify".to_owned());
    report.original = convert::cost_of(model, &request.pins);
    report.uncounted = convert::uncounted(&cost::uncounted(model, &request.pins));
    report.pruned = Some(report::CostRow {
        bytes: encoded_len(&outcome.model),
        ..report.original
    });
    report.fit = outcome.plan.fit.clone();
    report.training.clone_from(&outcome.training);
    report.remarks.extend(outcome.remarks.iter().cloned());
    report.runtime = outcome
        .engine
        .as_ref()
        .map(|(name, version)| report::NamedValue {
            name: name.clone(),
            version: version.clone(),
        });
    report.sparsity = Some(sparsity(model, outcome, stored));
}

/// What became of single weights; `stored` constants are in the sparse form.
pub(super) fn sparsity(
    model: &Model,
    outcome: &SparsifyOutcome,
    stored: usize,
) -> report::Sparsity {
    let count = |of: fn(&sparsify::SparseLayer) -> usize| outcome.layers.iter().map(of).sum();
    let pattern = outcome.plan.pattern.clone();
    report::Sparsity {
        speed: speed(pattern.parse().unwrap_or_default()).to_owned(),
        pattern,
        zeros: count(|layer| layer.zeros),
        elements: count(|layer| layer.elements),
        stored_sparse: stored,
        deflated: (
            sparsify::deflated(model),
            sparsify::deflated(&outcome.model),
        ),
        layers: outcome.layers.clone(),
        left_dense: outcome.left.clone(),
    }
}

/// What a pattern is good for, plainly.
fn speed(pattern: SparsityPattern) -> &'static str {
    match pattern {
        SparsityPattern::Within { keep: 2, of: 4 } => {
            "2:4 is fast on NVIDIA GPUs from Ampere on, through TensorRT with sparse weights switched on; ONNX Runtime on CPUs and tract compute it densely"
        }
        SparsityPattern::Blocks { channels: 1, .. } => {
            "blocks of output channels are fast where the runtime has kernels for them (XNNPACK, 1×1 convolutions); ONNX Runtime and tract compute them densely"
        }
        _ => {
            "no runtime known to this tool gets faster by it: ONNX Runtime, TensorRT and tract compute zeros like other numbers; what it saves is room under compression"
        }
    }
}

/// Puts the drift into the report, or why there is none.
pub(super) fn drift(
    report: &mut Report,
    outcome: &SparsifyOutcome,
    inputs: &crate::calibrate::Dataset,
    no_verify: bool,
) {
    match &outcome.measured {
        _ if no_verify => {}
        Ok(measured) => {
            let apart = inputs.apart.is_some();
            let fitted = outcome.plan.fit.as_ref().is_some_and(|fit| fit.fitted());
            let (all, held) = match apart {
                true => (inputs.inputs.count() + measured.inputs, measured.inputs),
                false if fitted => (measured.inputs, 0),
                false => (measured.inputs, measured.inputs),
            };
            convert::drift(
                report,
                &measured.outputs,
                (all, Some(held)),
                inputs.measured_on_made_up(),
                measured.labelled,
            );
        }
        Err(reason) => {
            report.exactness.verdict = ExactnessVerdict::Unverifiable;
            report.exactness.reason = Some(reason.clone());
            report.drift.verdict = report::CheckVerdict::Unverifiable;
        }
    }
}

fn say(
    watch: &Watch,
    (exit, hint): (Exit, &str),
    written: bool,
    (args, target): (&Sparsify, &Path),
    report: &Report,
) {
    let reasons = gate::failed(report)
        .into_iter()
        .chain(report.exactness.reason.clone())
        .collect::<Vec<_>>()
        .join("; ");
    let ending = match (written, args.outputs.dry_run) {
        (true, _) => format!("wrote {} all the same", target.display()),
        (false, true) => "nothing written (--dry-run)".to_owned(),
        (false, false) => "nothing written (--force writes all the same)".to_owned(),
    };
    match exit {
        Exit::Missed => {
            super::complain(&format!("thresholds are not met: {reasons}; {ending}"));
        }
        Exit::Unverifiable => super::complain(&format!(
            "the result could not be verified: {reasons}{hint}; {ending}; --allow-unverified accepts it"
        )),
        _ if written => watch.say(&format!("wrote {}", target.display())),
        _ => watch.say("nothing written (--dry-run)"),
    }
}
