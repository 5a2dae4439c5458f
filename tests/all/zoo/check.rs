//! All that is asked of one graph: what can be pruned, and whether random plans are exact.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Instant;

use onnx_prune::allocate::{Align, Ranking};
use onnx_prune::analysis::{Granularity, Kind as Units, Options, Selection, frozen};
use onnx_prune::job::Prepared;
use onnx_prune::model::{Limits, Model, TensorRef, load, save};
use onnx_prune::run::{Runtime, Tensors, TractRuntime};
use onnx_prune::score::{Evidence, Random, Score};
use onnx_prune::verify::{Verdict, exactness};
use rayon::prelude::*;

use super::manifest::{Graph, Zoo};
use super::onnxruntime::OnnxRuntime;
use super::row::{Found, Kind, Row};
use super::{fill, inputs};

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

/// Inputs of one size with what tract made of the original, or why it can not.
struct Ground {
    label: String,
    inputs: Tensors,
    original: Result<(Vec<Vec<TensorRef>>, f64), String>,
}

/// Looks at one graph from all sides. Whatever goes wrong, panics too, ends in the row.
pub fn check(zoo: &Zoo, graph: &Graph, trials: &[Trial]) -> Row {
    let mut row = Row { name: graph.name.clone(), nodes: graph.nodes, ..Default::default() };
    let found = guarded(|| whole(zoo, graph, trials, &mut row));
    if let Err(problem) | Ok(Err(problem)) = found {
        row.failure = Some(problem);
    }
    row
}

fn guarded<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(work)).map_err(|panic| {
        let text = panic.downcast_ref::<String>().cloned().or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        format!("PANIC {}", text.unwrap_or_default())
    })
}

fn whole(zoo: &Zoo, graph: &Graph, trials: &[Trial], row: &mut Row) -> Result<(), String> {
    let model = fill::load(zoo, graph)?;
    let started = Instant::now();
    let coarse = prepared(&model, Granularity::Coarse)?;
    row.seconds = started.elapsed().as_secs_f64();
    let groups = &coarse.analysis.groups;
    let by_default = groups.iter().filter(|group| matches!(group.kind, Units::Channels | Units::Heads));
    row.prunable = frozen(&coarse.working, &coarse.analysis, by_default).0;
    let (with_width, reasons) = frozen(&coarse.working, &coarse.analysis, groups);
    row.with_width = with_width;
    row.frozen = reasons.iter().map(|frozen| (frozen.reason.to_string(), frozen.params)).collect();
    row.params = with_width + reasons.iter().map(|frozen| frozen.params).sum::<u64>();

    if trials.is_empty() {
        return Ok(());
    }
    let runtime = TractRuntime::new(true);
    let grounds: Vec<Ground> = graph.sizes().into_iter().map(|sizes| ground(graph, &model, &runtime, &sizes)).collect();
    row.refused = grounds.iter().find_map(|ground| ground.original.as_ref().err().cloned());
    let fine = prepared(&model, Granularity::Fine)?;
    let one = |trial: &Trial| {
        let prepared = if trial.granularity == Granularity::Coarse { &coarse } else { &fine };
        let found = guarded(|| plan(&model, prepared, trial, &grounds, &runtime));
        found.unwrap_or_else(|panic| vec![Found { plan: trial.label(), verdict: Kind::Wrong, error: None, note: panic }])
    };
    row.verdicts =
        if row.params * 4 < SMALL { trials.par_iter().flat_map_iter(one).collect() } else { trials.iter().flat_map(one).collect() };
    Ok(())
}

fn prepared(model: &Model, granularity: Granularity) -> Result<Prepared, String> {
    Prepared::new(model, &Options { granularity, ..Default::default() }).map_err(|error| error.to_string())
}

fn ground(graph: &Graph, model: &Model, runtime: &TractRuntime, sizes: &std::collections::BTreeMap<String, usize>) -> Ground {
    let inputs = inputs::inputs(graph, sizes);
    let label = sizes.iter().map(|(name, size)| format!("{name} {size}")).collect::<Vec<_>>().join(", ");
    let original = || -> Result<_, String> {
        let session = runtime.prepare(model, &inputs, &[]).map_err(|error| error.to_string())?;
        let outputs = session.run(&inputs).map_err(|error| error.to_string())?;
        Ok((vec![outputs], session.noise()))
    };
    let original = guarded(original).and_then(|outcome| outcome);
    Ground { label, inputs, original }
}

impl Trial {
    fn label(&self) -> String {
        format!("{:?} {} seed {}", self.granularity, self.share, self.seed)
    }

    /// What goes; `None` where nothing can.
    fn selection(&self, prepared: &Prepared) -> Option<Selection> {
        let analysis = &prepared.analysis;
        let groups: Vec<usize> = (0..analysis.groups.len()).collect();
        let saliency = Random { seed: self.seed }.score(Evidence { model: &prepared.working, analysis }, &analysis.groups);
        let ranking = Ranking::new(analysis, &groups, &saliency, &Align::Multiple(1));
        let mut choice = ranking.remove((ranking.len() as f64 * self.share).ceil() as usize);
        if self.granularity == Granularity::Coarse && self.share < 0.5 {
            crate::branches::take(prepared, &mut choice, self.seed);
        }
        let selection = ranking.selection(&choice);
        (!selection.is_empty()).then_some(selection)
    }
}

/// Cuts by one plan and judges the result.
fn plan(model: &Model, prepared: &Prepared, trial: &Trial, grounds: &[Ground], runtime: &TractRuntime) -> Vec<Found> {
    let found =
        |label: &str, verdict: Kind, error, note: String| Found { plan: format!("{} {label}", trial.label()), verdict, error, note };
    let Some(selection) = trial.selection(prepared) else { return vec![found("", Kind::Nothing, None, String::new())] };
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pruned.onnx");
    let cut = || -> Result<(Model, Model), String> {
        let pruned = prepared.cut(&selection, &[]).map_err(|error| error.to_string())?;
        // What is written must be what was made.
        save(&pruned, &path).map_err(|error| error.to_string())?;
        let pruned = load(&path, Limits::default()).map_err(|error| error.to_string())?;
        Ok((pruned, prepared.masked(&selection).map_err(|error| error.to_string())?))
    };
    let (pruned, masked) = match cut() {
        Ok(models) => models,
        Err(problem) => return vec![found("", Kind::Wrong, None, format!("surgery: {problem}"))],
    };
    let mut other = None;
    let chosen = grounds.iter().enumerate().filter(|(at, _)| trial.size.is_none_or(|size| size % grounds.len() == *at));
    let mut all = Vec::new();
    for (_, ground) in chosen {
        let (verdict, error, note) = match &ground.original {
            Ok((original, noise)) => {
                let inputs = std::slice::from_ref(&ground.inputs);
                let outcome = exactness(runtime, original, &masked, &pruned, inputs, *noise);
                let (verdict, note) = match outcome.verdict {
                    Verdict::Exact => (Kind::Exact, "tract".to_owned()),
                    Verdict::Inexact => (Kind::Wrong, "inexact".to_owned()),
                    Verdict::Unverifiable(reason) if reason.contains("too weak") => (Kind::Weak, reason),
                    Verdict::Unverifiable(reason) => (Kind::Wrong, reason),
                };
                (verdict, outcome.max_relative_error, note)
            }
            Err(_) => other.get_or_insert_with(|| OnnxRuntime::new(folder.path(), model, &masked, &path)).compare(&ground.inputs, &masked),
        };
        all.push(found(&ground.label, verdict, error, note));
    }
    all
}
