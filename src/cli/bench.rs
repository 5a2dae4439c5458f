//! Latency of models, side by side.

use std::time::Duration;

use std::path::PathBuf;

use anyhow::bail;
use serde::Serialize;

use super::args::Bench;
use super::engine::{self, Done, EngineFailure};
use super::stop::Stop;
use super::watch::Watch;
use super::{Exit, convert, data, output, verify};
use crate::cost;
use crate::latency::latency;
use crate::model::Model;
use crate::progress::{Phase, Progress};
use crate::report::{self, Report};
use crate::run::{Runtime, Session, Tensors};

/// Rounds at most.
const ROUNDS: usize = 200;
/// Time for each model.
const BUDGET: Duration = Duration::from_secs(2);

/// The report of the first model as original and the second as pruned, and all of them in a list.
#[derive(Serialize)]
struct Benched {
    #[serde(flatten)]
    report: Report,
    models: Vec<TimedRun>,
}

#[derive(Serialize)]
struct TimedRun {
    path: String,
    macs: Option<u64>,
    params: u64,
    bytes: u64,
    latency_ms: f64,
}

pub(super) fn run(args: &Bench, stop: &Stop) -> anyhow::Result<Exit> {
    let watch = Watch::new(&args.common, stop);
    watch.begin(Phase::Load, 0);
    let models = args
        .models
        .iter()
        .map(|path| output::load(path, &watch, stop))
        .collect::<anyhow::Result<Vec<_>>>()?;
    let Some(first) = models.first() else {
        bail!("no model given")
    };
    check_inputs(first, &models)?;
    let pins = data::pins(&args.data.input);
    let ends = data::wanted(first, &pins, args.data.data.as_deref())?;
    let given = data::inputs((first, &ends), &args.data, data::Use::default(), &watch)?;
    let hint = given.guess();
    let given = given.data;
    let Some(example) = given.inputs.example()? else {
        bail!("there are no inputs to run")
    };
    let runtime = engine::runtime(args.engine.runtime, false, watch.memory)?;
    watch.begin(Phase::Latency, 0);
    let (times, runtime) =
        match engine::in_either(&*runtime, |runtime| times(&models, &example, runtime))? {
            Ok(done) => done,
            Err(failure) => {
                watch.finish();
                super::complain(&failure.said(&hint));
                return Ok(failure.exit());
            }
        };
    watch.begin(Phase::Analyse, 0);
    let costs: Vec<report::CostRow> = models
        .iter()
        .zip(&times)
        .map(|(model, time)| report::CostRow {
            latency_ms: Some(*time),
            ..convert::cost_of(model, &ends.shapes)
        })
        .collect();
    let mut report = convert::begin(first, args.json);
    report.runtime = Some(convert::runtime(runtime));
    report.original = costs.first().copied().unwrap_or_default();
    report.pruned = costs.get(1).copied();
    convert::counted(&mut report, first, &ends.shapes);
    report.uncounted = convert::uncounted(&cost::uncounted(first, &ends.shapes));
    report.drift.synthetic = given.synthetic;
    output::close(&mut report, &watch);
    show(args, report, &costs, runtime)?;
    Ok(Exit::Done)
}

/// Errors: a model that takes other inputs than the first.
fn check_inputs(first: &Model, models: &[Model]) -> anyhow::Result<()> {
    let wanted = verify::inputs(first);
    if let Some(other) = models.iter().find(|model| verify::inputs(model) != wanted) {
        let theirs = verify::list(&verify::inputs(other));
        bail!(
            "{} takes other inputs ({theirs}) than {} ({})",
            other.path().display(),
            first.path().display(),
            verify::list(&wanted)
        );
    }
    Ok(())
}

/// Prints what was measured, as JSON or as a table.
fn show(
    args: &Bench,
    report: report::Report,
    costs: &[report::CostRow],
    runtime: &dyn Runtime,
) -> anyhow::Result<()> {
    let timed = |(path, cost): (&PathBuf, &report::CostRow)| TimedRun {
        path: path.display().to_string(),
        macs: cost.macs,
        params: cost.params,
        bytes: cost.bytes,
        latency_ms: cost.latency_ms.unwrap_or_default(),
    };
    let models: Vec<TimedRun> = args.models.iter().zip(costs).map(timed).collect();
    if args.json {
        let text = serde_json::to_string_pretty(&Benched { report, models })?;
        return output::print(&(text + "\n"));
    }
    let rows: Vec<_> = models
        .iter()
        .zip(costs)
        .map(|(model, cost)| (model.path.clone(), *cost, model.latency_ms))
        .collect();
    output::print(&format!(
        "{}run in {} {}\n",
        report::latencies(&report, &rows),
        runtime.name(),
        runtime.version()
    ))
}

/// Milliseconds of each model in one runtime.
fn times(models: &[Model], example: &Tensors, runtime: &dyn Runtime) -> Done<Vec<f64>> {
    let mut sessions: Vec<Box<dyn Session>> = Vec::new();
    for (at, model) in models.iter().enumerate() {
        let session = runtime
            .prepare(model, example, &[])
            .map_err(|error| error.to_string());
        // A model that is made ready may still fail on these inputs.
        match session.and_then(|session| {
            session
                .run(example)
                .map(|_| session)
                .map_err(|error| error.to_string())
        }) {
            Ok(session) => sessions.push(session),
            Err(reason) => {
                return Ok(Err(EngineFailure {
                    model: at,
                    reason: format!("{}: {reason}", model.path().display()),
                }));
            }
        }
    }
    let sessions: Vec<&dyn Session> = sessions.iter().map(|session| &**session).collect();
    Ok(Ok(latency(
        &sessions,
        example,
        ROUNDS,
        BUDGET * models.len() as u32,
    )?))
}
