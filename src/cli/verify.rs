//! How far the outputs of one file moved from another's.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context, bail};

use super::args::Verify;
use super::engine::{self, Done, EngineFailure};
use super::stop::Stop;
use super::watch::Watch;
use super::{Exit, convert, data, gate, output};
use crate::analysis::{Pins, infer};
use crate::calibrate::Dataset;
use crate::cost;
use crate::evaluate::{Compared, Comparison};
use crate::facts::Dim;
use crate::files::Staged;
use crate::inputs::{GatherError, in_order, size};
use crate::model::{Index, Model, TensorRef};
use crate::plan::Plan;
use crate::progress::{Phase, Progress};
use crate::report::{self, CheckVerdict, Report};
use crate::run::{Runtime, Session, Tensors};

pub(super) fn run(args: &Verify, stop: &Stop) -> anyhow::Result<Exit> {
    let reports = output::claim_reports(stop, &args.report)?;
    output::reads(stop, "the plan", &args.plan)?;
    output::reads_data(stop, args.data.data.as_ref(), args.labels.as_ref())?;
    let watch = Watch::new(&args.common, stop);
    watch.begin(Phase::Load, 0);
    let original = output::load(&args.original, &watch, stop)?;
    let mut pruned = output::load(&args.pruned, &watch, stop)?;
    check_names(&original, &pruned)?;
    let plan = note_ends(args, &original, &mut pruned)?;
    let both = (&original, &pruned, plan.as_ref());
    let (mut report, failed) = verified(args, both, &watch)?;
    gate::thresholds(&mut report, &args.gate);
    let exit = match (
        failed,
        gate::exit(&report, true, args.gate.allow_unverified),
    ) {
        (Some(Exit::Missed), _) => Exit::Missed,
        (Some(Exit::Unverifiable), Exit::Done) if !args.gate.allow_unverified => Exit::Unverifiable,
        (_, exit) => exit,
    };
    output::close(&mut report, &watch);
    let mut staged = Staged::new(&stop.outputs);
    output::stage_reports(&report, &reports, &mut staged)?;
    if args.json {
        output::print(&report::json(&report))?;
    } else if !args.common.quiet {
        output::print(&report::verification(&report))?;
    }
    stop.commit(staged)?;
    say(exit, failed, &report);
    Ok(exit)
}

/// Errors: inputs or outputs of one model that the other has not.
fn check_names(original: &Model, pruned: &Model) -> anyhow::Result<()> {
    for (what, ours, theirs) in [
        ("inputs", inputs(original), inputs(pruned)),
        ("outputs", outputs(original), outputs(pruned)),
    ] {
        if ours != theirs {
            bail!(
                "the models' {what} differ: {} and {}; are they forms of the same model?",
                list(&ours),
                list(&theirs)
            );
        }
    }
    Ok(())
}

/// The report on both models, and the exit code where one of them does not run.
fn verified(
    args: &Verify,
    (original, pruned, plan): (&Model, &Model, Option<&Plan>),
    watch: &Watch,
) -> anyhow::Result<(Report, Option<Exit>)> {
    let wanted = data::Use {
        labels: args.labels.as_deref(),
        ..Default::default()
    };
    let pins = data::pins(&args.data.input);
    let ends = data::wanted(original, &pins, args.data.data.as_deref())?;
    let mut given = data::inputs((original, &ends), &args.data, wanted, watch)?;
    if let Some(tokens) = plan.and_then(Plan::kept_tokens) {
        given.data = given.data.of_kept(&tokens)?;
    }
    let hint = given.guess();
    let runtime = engine::runtime(args.engine.runtime, true, watch.memory)?;
    let mut report = convert::begin(original, args.json || !args.report.is_empty());
    given.doubt(original, &*runtime, watch);
    report.fed = given.fed;
    let given = given.data;
    watch.begin(Phase::Analyse, 0);
    report.original = convert::cost_of(original, &ends.shapes);
    report.pruned = Some(convert::cost_of(pruned, &ends.shapes));
    convert::counted(&mut report, original, &ends.shapes);
    report.uncounted = convert::uncounted(&cost::uncounted(original, &ends.shapes));
    let both = [
        (original, args.original.as_path()),
        (pruned, args.pruned.as_path()),
    ];
    let names = outputs(original);
    let compared = engine::in_either(&*runtime, |runtime| {
        compare(&names, both, runtime, &given, watch)
    })?;
    let failed = match compared {
        Ok(((found, labelled), runtime)) => {
            report.runtime = Some(convert::runtime(runtime));
            let counts = (given.inputs.count(), None);
            convert::drift(&mut report, &found, counts, given.synthetic, labelled);
            None
        }
        Err(failure) => {
            report.drift.verdict = if failure.exit() == Exit::Missed {
                CheckVerdict::Fail
            } else {
                CheckVerdict::Unverifiable
            };
            report.remarks.push(failure.said(&hint));
            Some(failure.exit())
        }
    };
    Ok((report, failed))
}

/// Says why the gate is shut, if it is.
fn say(exit: Exit, failed: Option<Exit>, report: &Report) {
    match exit {
        Exit::Missed if failed == Some(Exit::Missed) => {
            super::complain(&format!(
                "does not run though the original does: {}",
                report.remarks.first().map_or("", String::as_str)
            ));
        }
        Exit::Missed => super::complain(&format!(
            "thresholds are not met: {}",
            gate::failed(report).join("; ")
        )),
        Exit::Unverifiable => {
            let reason = report.remarks.first().map_or("no answer", String::as_str);
            super::complain(&format!(
                "unverifiable: {reason}; --allow-unverified accepts that"
            ));
        }
        _ => {}
    }
}

/// Runs both models side by side in one runtime, some inputs at a time.
fn compare(
    names: &[String],
    both: [(&Model, &Path); 2],
    runtime: &dyn Runtime,
    given: &Dataset,
    watch: &Watch,
) -> Done<Compared> {
    let none = EngineFailure {
        model: 0,
        reason: "there are no inputs to run".to_owned(),
    };
    let Some(example) = given.inputs.example()? else {
        return Ok(Err(none));
    };
    let sessions = prepare(both, runtime, &example);
    let [before, after] = match sessions {
        Ok(sessions) => sessions,
        Err(failure) => return Ok(Err(failure)),
    };
    let at_fault = AtomicUsize::new(0);
    let run = |session: &dyn Session, at: usize, inputs: &Tensors| {
        session.run(inputs).map_err(|error| {
            at_fault.fetch_max(at, Ordering::Relaxed);
            GatherError::Run(error.to_string())
        })
    };
    let run_both = |_, inputs: Tensors| Ok((run(&*before, 0, &inputs)?, run(&*after, 1, &inputs)?));
    let [_, (pruned, _)] = both;
    let mut comparison = Comparison::new(names, &pruned.ends, given.labels.as_deref());
    let runs: Vec<usize> = (0..given.inputs.count()).collect();
    watch.begin(Phase::Drift, runs.len() as u64);
    let bytes = |(before, after): &(Vec<TensorRef>, Vec<TensorRef>)| size(before) + size(after);
    let compared = in_order(
        &*given.inputs,
        &runs,
        &watch.work(),
        run_both,
        bytes,
        |_, pairs| {
            pairs
                .iter()
                .for_each(|(before, after)| comparison.add(before, after));
            Ok(())
        },
    );
    match compared {
        Err(GatherError::Run(reason)) => {
            return Ok(Err(failed(both, at_fault.load(Ordering::Relaxed), reason)));
        }
        other => other?,
    }
    Ok(Ok(comparison.finish()))
}

/// Makes both models ready. Errors: one that the runtime does not take.
fn prepare(
    both: [(&Model, &Path); 2],
    runtime: &dyn Runtime,
    example: &Tensors,
) -> Result<[Box<dyn Session>; 2], EngineFailure> {
    let session = |at: usize| {
        runtime
            .prepare(both[at].0, example, &[])
            .map_err(|error| failed(both, at, error.to_string()))
    };
    Ok([session(0)?, session(1)?])
}

/// A failure of one of both models, with its file.
fn failed(both: [(&Model, &Path); 2], at: usize, reason: String) -> EngineFailure {
    EngineFailure {
        model: at,
        reason: format!("{}: {reason}", both[at].1.display()),
    }
}

/// Finds out what is left of inputs and outputs that shrank. Errors: a plan that cannot be read, shapes that it does not explain.
fn note_ends(args: &Verify, original: &Model, pruned: &mut Model) -> anyhow::Result<Option<Plan>> {
    let shapes = |model: &Model| -> BTreeMap<String, Vec<Dim>> {
        let facts = infer(model, &Pins::new());
        let main = model.index().graph(Index::MAIN);
        let ends = main.inputs.iter().chain(&main.outputs);
        ends.filter_map(|value| {
            Some((
                model.index().value(*value).name.clone(),
                facts.of(*value).shape.clone()?,
            ))
        })
        .collect()
    };
    let (ours, theirs) = (shapes(original), shapes(pruned));
    let plan = args.plan.as_deref().map(Plan::read).transpose();
    let plan = plan.context("--plan")?;
    if let (Some(path), Some(plan)) = (&args.plan, &plan) {
        if plan.model_sha256 != original.source.sha256() {
            bail!(
                "--plan: {} was made for another model than {}",
                path.display(),
                args.original.display()
            );
        }
        plan.note_ends(pruned, |name, axis| ours.get(name)?.get(axis)?.count())?;
    }
    for (name, shape) in &ours {
        let Some(other) = theirs.get(name) else {
            continue;
        };
        let differs = shape.len() != other.len()
            || shape.iter().zip(other).any(|(one, other)| {
                one.num() != other.num() && one.num().and(other.num()).is_some()
            });
        if differs && !pruned.ends.changes(name) {
            let list = |shape: &[Dim]| {
                shape
                    .iter()
                    .map(ToString::to_string)
                    .collect::<Vec<_>>()
                    .join("×")
            };
            bail!(
                "'{name}' is {} and {}; give the plan by which it was cut, with --plan FILE.json",
                list(shape),
                list(other)
            );
        }
    }
    Ok(plan)
}

fn outputs(model: &Model) -> Vec<String> {
    model
        .index()
        .graph(Index::MAIN)
        .outputs
        .iter()
        .map(|value| model.index().value(*value).name.clone())
        .collect()
}

/// The names of the inputs, sorted.
pub(super) fn inputs(model: &Model) -> Vec<String> {
    let inputs = &model.index().graph(Index::MAIN).inputs;
    let mut names: Vec<String> = inputs
        .iter()
        .map(|value| model.index().value(*value).name.clone())
        .collect();
    names.sort();
    names
}

/// Names in a row.
pub(super) fn list(names: &[String]) -> String {
    if names.is_empty() {
        "none".to_owned()
    } else {
        names.join(", ")
    }
}
