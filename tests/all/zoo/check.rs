//! All that is asked of one graph: what can be pruned, and whether random plans are exact.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Instant;

use onnx_prune::allocate::{Align, Ranking};
use onnx_prune::analysis::{Granularity, Kind as Units, Options, Selection, frozen};
use onnx_prune::model::{Limits, Model, load, save};
use onnx_prune::run::{Tensors, TractRuntime};
use onnx_prune::score::{Evidence, Random, Score};
use onnx_prune::verify::Verdict;
use onnx_prune::workspace::Workspace;
use rayon::prelude::*;

use super::manifest::{Graph, Zoo};
use super::row::{Found, Kind, Row};
use super::{fill, inputs};
use crate::engines::{self, Ran};

/// A random plan.
#[derive(Clone, Copy)]
pub struct Trial {
    pub granularity: Granularity,
    /// Of the units that go.
    pub share: f64,
    pub seed: u64,
    /// Which of the sizes of the inputs it is run at; all of them where this is `None`.
    pub size: Option<usize>,
}

/// Bytes of weights up to which several plans are checked at a time.
const SMALL: u64 = 15_000_000;

/// Inputs of one size with what the original gives for them, or why nothing runs it.
struct Ground<'a> {
    label: String,
    inputs: Tensors,
    original: Result<Ran<'a>, String>,
}

/// Looks at one graph from all sides. Whatever goes wrong, panics too, ends in the row.
pub fn check(zoo: &Zoo, graph: &Graph, trials: &[Trial]) -> Row {
    let mut row = Row {
        name: graph.name.clone(),
        nodes: graph.nodes,
        ..Default::default()
    };
    let found = guarded(|| whole(zoo, graph, trials, &mut row));
    if let Err(problem) | Ok(Err(problem)) = found {
        row.failure = Some(problem);
    }
    row
}

fn guarded<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(work)).map_err(|panic| {
        let text = panic
            .downcast_ref::<String>()
            .cloned()
            .or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        format!("PANIC {}", text.unwrap_or_default())
    })
}

fn whole(zoo: &Zoo, graph: &Graph, trials: &[Trial], row: &mut Row) -> Result<(), String> {
    let model = fill::load(zoo, graph)?;
    let started = Instant::now();
    let coarse = prepared(&model, Granularity::Coarse)?;
    row.seconds = started.elapsed().as_secs_f64();
    let groups = &coarse.analysis.groups;
    let by_default = groups
        .iter()
        .filter(|group| matches!(group.kind, Units::Channels | Units::Heads));
    row.prunable = frozen(
        &coarse.working,
        &coarse.analysis,
        &coarse.origins,
        by_default,
    )
    .0;
    let (with_width, reasons) = frozen(&coarse.working, &coarse.analysis, &coarse.origins, groups);
    row.with_width = with_width;
    row.frozen = reasons
        .iter()
        .map(|frozen| (frozen.reason.to_string(), frozen.params))
        .collect();
    row.params = with_width + reasons.iter().map(|frozen| frozen.params).sum::<u64>();

    if trials.is_empty() {
        return Ok(());
    }
    let runtime = TractRuntime::new(true);
    let grounds: Vec<Ground> = graph
        .sizes()
        .into_iter()
        .map(|sizes| ground(graph, &model, &runtime, &sizes))
        .collect();
    row.refused = grounds.iter().find_map(|ground| match &ground.original {
        Ok(ran) => ran.refused.clone(),
        Err(refused) => Some(refused.clone()),
    });
    let fine = prepared(&model, Granularity::Fine)?;
    let one = |trial: &Trial| {
        let prepared = if trial.granularity == Granularity::Coarse {
            &coarse
        } else {
            &fine
        };
        let found = guarded(|| plan(&model, prepared, trial, &grounds));
        found.unwrap_or_else(|panic| {
            vec![Found {
                plan: trial.label(),
                verdict: Kind::Wrong,
                error: None,
                note: panic,
            }]
        })
    };
    row.verdicts = if row.params * 4 < SMALL {
        trials.par_iter().flat_map_iter(one).collect()
    } else {
        trials.iter().flat_map(one).collect()
    };
    Ok(())
}

fn prepared(model: &Model, granularity: Granularity) -> Result<Workspace, String> {
    Workspace::new(
        model,
        &Options {
            granularity,
            ..Default::default()
        },
    )
    .map_err(|error| error.to_string())
}

fn ground<'a>(
    graph: &Graph,
    model: &Model,
    runtime: &'a TractRuntime,
    sizes: &std::collections::BTreeMap<String, usize>,
) -> Ground<'a> {
    let inputs = inputs::inputs(graph, sizes);
    let label = sizes
        .iter()
        .map(|(name, size)| format!("{name} {size}"))
        .collect::<Vec<_>>()
        .join(", ");
    let original =
        guarded(|| engines::original(runtime, model, &inputs)).and_then(|outcome| outcome);
    Ground {
        label,
        inputs,
        original,
    }
}

impl Trial {
    fn label(&self) -> String {
        format!("{:?} {} seed {}", self.granularity, self.share, self.seed)
    }

    /// What goes; `None` where nothing can.
    fn selection(&self, prepared: &Workspace) -> Option<Selection> {
        let analysis = &prepared.analysis;
        let groups: Vec<usize> = (0..analysis.groups.len()).collect();
        let saliency = Random { seed: self.seed }.score(
            Evidence {
                model: &prepared.working,
                analysis,
            },
            &analysis.groups,
        );
        let ranking = Ranking::new(prepared.subject(), &groups, &saliency, &Align::Multiple(1));
        let mut choice = ranking.remove((ranking.len() as f64 * self.share).ceil() as usize);
        if self.granularity == Granularity::Coarse && self.share < 0.5 {
            crate::branches::take(prepared, &mut choice, self.seed);
        }
        let selection = ranking.selection(&choice);
        (!selection.is_empty()).then_some(selection)
    }
}

/// Cuts by one plan and judges the result.
fn plan(model: &Model, prepared: &Workspace, trial: &Trial, grounds: &[Ground]) -> Vec<Found> {
    let found = |label: &str, verdict: Kind, error, note: String| Found {
        plan: format!("{} {label}", trial.label()),
        verdict,
        error,
        note,
    };
    let Some(selection) = trial.selection(prepared) else {
        return vec![found("", Kind::Nothing, None, String::new())];
    };
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pruned.onnx");
    let cut = || -> Result<Model, String> {
        let pruned = prepared
            .cut(&selection, &[])
            .map_err(|error| error.to_string())?;
        // What is written must be what was made.
        save(&pruned, &path).map_err(|error| error.to_string())?;
        load(&path, Limits::default()).map_err(|error| error.to_string())
    };
    let pruned = match cut() {
        Ok(pruned) => pruned,
        Err(problem) => return vec![found("", Kind::Wrong, None, format!("surgery: {problem}"))],
    };
    let chosen = grounds
        .iter()
        .enumerate()
        .filter(|(at, _)| trial.size.is_none_or(|size| size % grounds.len() == *at));
    let judged = |(_, ground): (usize, &Ground)| {
        let ran = match &ground.original {
            Ok(ran) => ran,
            Err(refused) => return found(&ground.label, Kind::Open, None, refused.clone()),
        };
        let (outcome, engine) =
            engines::judge(ran, model, prepared, &selection, &pruned, &ground.inputs);
        let reason = outcome.reason.unwrap_or_default();
        let (verdict, note) = match outcome.verdict {
            Verdict::Exact if reason.contains("moves nothing either") => (Kind::Weak, reason),
            Verdict::Exact => (Kind::Exact, engine),
            Verdict::Inexact => (Kind::Wrong, format!("inexact in {engine}: {reason}")),
            Verdict::Unverifiable(reason) => (Kind::Wrong, reason),
        };
        found(&ground.label, verdict, outcome.max_relative_error, note)
    };
    chosen.map(judged).collect()
}
