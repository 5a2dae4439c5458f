//! The passes over the data, layer after layer.

use std::collections::BTreeMap;

use rayon::prelude::*;

use super::aim::Aim;
use super::frontier::Frontier;
use super::order::Depths;
use super::rows::{Layer, Rows, Taps};
use super::shelf::Shelf;
use super::solve::{Method, Problem};
use crate::analysis::{Analysis, Facts, Pins, Selection, infer, relate};
use crate::calibrate::{Batches, GatherError, held_out};
use crate::linear::{Bias, Linear, views};
use crate::model::{Model, ValueId};
use crate::progress::{Phase, Work};
use crate::run::{Runtime, Tensors};

/// The original, and what was removed from it.
#[derive(Clone, Copy, Debug)]
pub struct Teacher<'a> {
    /// The original.
    pub model: &'a Model,
    /// What is known of it.
    pub analysis: &'a Analysis,
    /// What was removed.
    pub selection: &'a Selection,
}

/// How to recover.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// How weights are mended.
    pub method: Method,
}

/// What was done to one layer.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Repair {
    /// Name of the layer's output.
    pub layer: String,
    /// Mean squared error on the held-out runs before and after; equal where nothing better was found.
    pub before: f64,
    /// After.
    pub after: f64,
}

/// Mends a pruned model (each reader of a small constant with its own copy). Errors: a model that does not run, inputs
/// that can not be read, a stop asked for.
pub fn recover(
    teacher: Teacher,
    mut pruned: Model,
    batches: &dyn Batches,
    runs: &[usize],
    runtime: &dyn Runtime,
    options: &Options,
    work: &Work,
) -> Result<(Model, Vec<Repair>), GatherError> {
    let views = views_of(&pruned);
    let layers = pair(teacher, &pruned, views);
    let mut sides = (
        Side::new(teacher.model, &layers.iter().map(|layer| layer.original.clone()).collect::<Vec<_>>()),
        Side::new(&pruned, &layers.iter().map(|layer| layer.pruned.clone()).collect::<Vec<_>>()),
    );
    let mut passes: BTreeMap<usize, Vec<Layer>> = BTreeMap::new();
    for mut layer in layers {
        let Some(output) = layer.pruned.output else { continue };
        let depth = sides.1.depths.value(output);
        // What is added must be final by then.
        if layer.aim.added.is_some_and(|added| sides.1.depths.value(added) >= depth)
            || layer.aim.added.is_some() != layer.original_aim.added.is_some()
        {
            layer.forget_sum();
        }
        passes.entry(depth).or_default().push(layer);
    }
    work.progress.begin(Phase::Recover, passes.len() as u64);
    let mut repairs = Vec::new();
    let all = Passes { teacher, batches, runs, runtime, options, work };
    for (depth, layers) in passes {
        match all.pass(&mut pruned, depth, &layers, &mut sides) {
            Ok(found) => repairs.extend(found),
            // A part that the runtime does not take: its layers stay as they are.
            Err(GatherError::Run(reason)) => tracing::warn!(depth, %reason, "layers are not mended"),
            Err(error) => return Err(error),
        }
        work.progress.advance(1);
    }
    Ok((pruned, repairs))
}

fn views_of(model: &Model) -> Vec<Linear> {
    views(model, &relate(model, &infer(model, &Pins::new())))
}

/// The layers whose inputs changed, in both models.
fn pair(teacher: Teacher, pruned: &Model, views_of_pruned: Vec<Linear>) -> Vec<Layer> {
    let Teacher { model, analysis, selection } = teacher;
    let mut touched = vec![false; model.index().values().len()];
    for (node, entry) in model.index().nodes() {
        let cut = analysis.kept_labels(node, selection).iter().any(Option::is_some);
        if cut || entry.inputs.iter().flatten().any(|input| touched[input.index()]) {
            entry.outputs.iter().flatten().for_each(|output| touched[output.index()] = true);
        }
    }
    let name = |model: &Model, value: Option<ValueId>| value.map(|value| model.index().value(value).name.clone());
    let mut by_output: BTreeMap<String, Linear> =
        views_of_pruned.into_iter().filter_map(|view| Some((name(pruned, view.output)?, view))).collect();
    let mut layers = Vec::new();
    for original in views(model, &analysis.relations) {
        let Some(output) = original.output else { continue };
        if !touched[original.data.index()] {
            continue;
        }
        let Some(own) = name(model, Some(output)).and_then(|name| by_output.remove(&name)) else { continue };
        let layer = layer(teacher, pruned, original, output, own);
        layers.extend(layer);
    }
    layers
}

fn layer(teacher: Teacher, pruned: &Model, original: Linear, output: ValueId, own: Linear) -> Option<Layer> {
    let Teacher { model, analysis, selection } = teacher;
    let (axis, places) = original.channel_axis()?;
    let (_, own_places) = own.channel_axis()?;
    let kept_axis: Option<Vec<u32>> = analysis.kept_axis(output, axis, selection);
    let mut channel_at = vec![None; places.iter().max().map_or(0, |last| last + 1)];
    places.iter().enumerate().for_each(|(channel, place)| channel_at[*place] = Some(channel));
    let kept: Vec<usize> = own_places
        .iter()
        .map(|place| {
            let place = kept_axis.as_ref().map_or(Some(*place), |kept| kept.get(*place).map(|index| *index as usize))?;
            channel_at.get(place).copied().flatten()
        })
        .collect::<Option<_>>()?;
    let outside = Bias::find(model, &original).filter(|bias| bias.outside).and_then(|bias| bias.read(model));
    let key = original.key(model);
    Some(Layer {
        bias: Bias::find(pruned, &own),
        aim: Aim::find(pruned, &own)?,
        original_aim: Aim::find(model, &original)?,
        original,
        pruned: own,
        outside,
        kept,
        key,
    })
}

/// One model on its way through the passes.
struct Side {
    facts: Facts,
    depths: Depths,
    frontier: Frontier,
}

impl Side {
    fn new(model: &Model, layers: &[Linear]) -> Self {
        Side { facts: infer(model, &Pins::new()), depths: Depths::new(model, layers), frontier: Frontier::default() }
    }
}

/// What stays the same for all passes.
struct Passes<'a> {
    teacher: Teacher<'a>,
    batches: &'a dyn Batches,
    runs: &'a [usize],
    runtime: &'a dyn Runtime,
    options: &'a Options,
    work: &'a Work<'a>,
}

/// Runs at once.
const AT_ONCE: usize = 16;

impl Passes<'_> {
    /// Runs both models up to the layers of one depth, and mends them.
    fn pass(&self, pruned: &mut Model, depth: usize, layers: &[Layer], sides: &mut (Side, Side)) -> Result<Vec<Repair>, GatherError> {
        let (Some(first), model) = (self.runs.first(), self.teacher.model) else { return Ok(Vec::new()) };
        let name = |model: &Model, value: ValueId| model.index().value(value).name.clone();
        let taps: Vec<Taps> = layers
            .iter()
            .filter_map(|layer| {
                Some(Taps {
                    output: name(model, layer.original.output?),
                    original_added: layer.original_aim.added.map(|added| name(model, added)),
                    data: name(pruned, layer.pruned.data),
                    added: layer.aim.added.map(|added| name(pruned, added)),
                })
            })
            .collect();
        let original_taps = distinct(taps.iter().flat_map(|taps| [Some(&taps.output), taps.original_added.as_ref()]));
        let pruned_taps = distinct(taps.iter().flat_map(|taps| [Some(&taps.data), taps.added.as_ref()]));
        let example = self.batches.fetch(*first)?;
        let (ours, theirs) = (&sides.0, &sides.1);
        let original = ours.frontier.part(model, (&ours.facts, &ours.depths, depth), &original_taps, &example, self.runtime);
        let mended = theirs.frontier.part(pruned, (&theirs.facts, &theirs.depths, depth), &pruned_taps, &example, self.runtime);
        let (original, mended) = (original.map_err(GatherError::Run)?, mended.map_err(GatherError::Run)?);
        let mut rows: Vec<(Vec<Rows>, Vec<Rows>)> = vec![Default::default(); layers.len()];
        let mut kept = (Some(Frontier::shelf()), Some(Frontier::shelf()));
        for (start, numbers) in self.runs.chunks(AT_ONCE).enumerate() {
            if self.work.progress.stop() {
                return Err(GatherError::Cancelled);
            }
            let one = |(at, number): (usize, &usize)| -> Result<_, GatherError> {
                let at = start * AT_ONCE + at;
                let inputs = self.batches.fetch(*number)?;
                let ran = (ours.frontier.run(&original, at, inputs.clone()), theirs.frontier.run(&mended, at, inputs));
                let (ran, ran_mended) = (ran.0.map_err(GatherError::Run)?, ran.1.map_err(GatherError::Run)?);
                let rows: Vec<Option<Rows>> = layers
                    .iter()
                    .zip(&taps)
                    .map(|(layer, taps)| layer.rows(taps, *number, &ran, &ran_mended, layer.limit(self.runs.len())))
                    .collect();
                let count = self.runs.len();
                Ok((rows, Frontier::keeps(&original, &ran, count), Frontier::keeps(&mended, &ran_mended, count)))
            };
            let results: Vec<_> = numbers.par_iter().enumerate().map(one).collect::<Result<_, _>>()?;
            for (number, (found, original, mended)) in numbers.iter().zip(results) {
                for (into, found) in rows.iter_mut().zip(found) {
                    let Some(found) = found else { continue };
                    if held_out(*number) { into.1.push(found) } else { into.0.push(found) }
                }
                kept = (put_away(kept.0, original), put_away(kept.1, mended));
            }
        }
        if let Some(kept) = kept.0 {
            sides.0.frontier.advance(&original, kept);
        }
        if let Some(kept) = kept.1 {
            sides.1.frontier.advance(&mended, kept);
        }
        let mut repairs = Vec::new();
        for (layer, (fit, held)) in layers.iter().zip(rows) {
            if !fit.is_empty() && !held.is_empty() {
                let groups = layer.pruned.groups;
                repairs.extend(mend(pruned, layer, &Rows::stack(fit, groups), &Rows::stack(held, groups), self.options));
            }
        }
        Ok(repairs)
    }
}

/// Puts away what is kept of a run; nothing is kept any more where that is too much.
fn put_away(shelf: Option<Shelf>, run: Option<Tensors>) -> Option<Shelf> {
    let (mut shelf, run) = shelf.zip(run)?;
    match shelf.put(run) {
        Ok(()) => Some(shelf),
        Err(error) => {
            tracing::warn!("activations can not be put away, so that more has to be computed again: {error}");
            None
        }
    }
}

fn distinct<'a>(names: impl Iterator<Item = Option<&'a String>>) -> Vec<String> {
    let mut list: Vec<String> = Vec::new();
    for name in names.flatten() {
        if !list.contains(name) {
            list.push(name.clone());
        }
    }
    list
}

fn mend(pruned: &mut Model, layer: &Layer, fit: &Rows, held: &Rows, options: &Options) -> Option<Repair> {
    let view = &layer.pruned;
    let (columns, channels) = (view.columns, view.rows);
    let matrix = view.matrix(pruned)?;
    let stands = layer.bias.as_ref().and_then(|bias| bias.read(pruned));
    let bias = stands.clone().unwrap_or_else(|| vec![0.0; view.groups * channels]);
    let part = |list: &[f32], width: usize, group: usize| -> std::ops::Range<usize> {
        let size = list.len() / view.groups;
        debug_assert_eq!(size % width, 0);
        group * size..(group + 1) * size
    };
    let problem = |group: usize| -> Option<Problem> {
        let of = group * channels..(group + 1) * channels;
        Some(Problem {
            inputs: &fit.inputs[part(&fit.inputs, columns, group)],
            aims: &fit.aims[part(&fit.aims, channels, group)],
            added: &fit.added[part(&fit.added, channels, group)],
            held_inputs: &held.inputs[part(&held.inputs, columns, group)],
            held_aims: &held.aims[part(&held.aims, channels, group)],
            held_added: &held.added[part(&held.added, channels, group)],
            columns,
            channels,
            scale: layer.aim.scale.get(of.clone())?,
            offset: layer.aim.offset.get(of)?,
            function: layer.function(),
            biased: stands.is_some(),
        })
    };
    let problems: Vec<Problem> = (0..view.groups).map(problem).collect::<Option<_>>()?;
    let size = channels * columns;
    let error = |matrix: &[f64], bias: &[f64]| -> f64 {
        problems
            .iter()
            .enumerate()
            .map(|(group, problem)| problem.error(&matrix[group * size..][..size], &bias[group * channels..][..channels]))
            .sum()
    };
    // Where they can not be written nothing is to be tried.
    put(pruned, layer, &matrix, &bias)?;
    let before = error(&matrix, &bias);
    let mut after = before;
    // Quantized weights are rounded and clipped by the scales that stand: what counts is what the model holds in the end. A
    // factor for each channel may fit where weights of any kind do not.
    let methods =
        if options.method == Method::LeastSquares { vec![Method::LeastSquares, Method::Statistics] } else { vec![options.method] };
    for method in methods {
        let (mut new, mut new_bias) = (Vec::new(), Vec::new());
        for (group, problem) in problems.iter().enumerate() {
            let found = problem.solve(&matrix[group * size..][..size], &bias[group * channels..][..channels], method);
            new.extend(found.weight);
            new_bias.extend(found.bias);
        }
        put(pruned, layer, &new, &new_bias)?;
        let held_bias = layer.bias.as_ref().and_then(|bias| bias.read(pruned)).unwrap_or_else(|| bias.clone());
        after = error(&view.matrix(pruned)?, &held_bias);
        if after < before {
            break;
        }
        put(pruned, layer, &matrix, &bias)?;
        after = before;
    }
    let name = pruned.index().value(view.output?).name.clone();
    tracing::debug!(layer = name, before, after, rows = fit.inputs.len() / columns.max(1) / view.groups, columns, "refitted");
    Some(Repair { layer: name, before, after })
}

/// Puts weights and bias of a layer in. `None`: its constants are shared.
fn put(pruned: &mut Model, layer: &Layer, matrix: &[f64], bias: &[f64]) -> Option<()> {
    layer.pruned.set_matrix(pruned, matrix)?;
    match &layer.bias {
        Some(place) => place.write(pruned, bias),
        None => Some(()),
    }
}
