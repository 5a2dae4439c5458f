//! Latency of models, side by side.

use std::time::Duration;

use anyhow::bail;
use serde::Serialize;

use super::args::Bench;
use super::engine::{self, Done, Failure};
use super::stop::Stop;
use super::watch::Watch;
use super::{Exit, convert, data, output, verify};
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
    models: Vec<Timed>,
}

#[derive(Serialize)]
struct Timed {
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
    let given = data::inputs(first, &args.data, data::Use::default(), &watch)?.data;
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
                super::complain(&failure.reason);
                return Ok(failure.exit());
            }
        };
    watch.begin(Phase::Analyse, 0);
    let pins = data::counted(
        first,
        &data::specs(
            first,
            &data::pins(&args.data.input),
            args.data.data.as_deref(),
        )?,
    );
    let costs: Vec<report::Cost> = models
        .iter()
        .map(|model| convert::cost_of(model, &pins))
        .collect();
    let with_time = |at: usize| {
        Some(report::Cost {
            latency_ms: Some(*times.get(at)?),
            ..*costs.get(at)?
        })
    };
    let mut report = convert::begin(first, args.json);
    report.runtime = Some(convert::runtime(runtime));
    report.original = with_time(0).unwrap_or_default();
    report.pruned = with_time(1);
    report.counted_at = pins;
    report.drift.synthetic = given.synthetic;
    report.seconds = watch.finish();
    report.peak_rss_bytes = output::peak_rss_bytes();
    let name = |at: usize| {
        args.models
            .get(at)
            .map(|path| path.display().to_string())
            .unwrap_or_default()
    };
    let timed: Vec<Timed> = costs
        .iter()
        .zip(&times)
        .enumerate()
        .map(|(at, (cost, time))| Timed {
            path: name(at),
            macs: cost.macs,
            params: cost.params,
            bytes: cost.bytes,
            latency_ms: *time,
        })
        .collect();
    if args.json {
        output::print(
            &(serde_json::to_string_pretty(&Benched {
                report,
                models: timed,
            })? + "\n"),
        )?;
    } else {
        let rows: Vec<_> = timed
            .iter()
            .zip(&costs)
            .map(|(model, cost)| (model.path.clone(), *cost, model.latency_ms))
            .collect();
        output::print(&format!(
            "{}run in {} {}\n",
            report::latencies(&report, &rows),
            runtime.name(),
            runtime.version()
        ))?;
    }
    Ok(Exit::Done)
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
                return Ok(Err(Failure {
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
