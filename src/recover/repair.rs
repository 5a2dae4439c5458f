//! The passes over the data, layer after layer.

use std::collections::BTreeMap;

use rayon::prelude::*;

use super::frontier::Frontier;
use super::joint::Pair;
use super::layers::layers;
use super::order::Depths;
use super::patches::Patches;
use super::rows::{Layer, Rows, Taps};
use super::shelf::Shelf;
use super::solve::{Method, Problem};
use crate::analysis::{Analysis, Facts, Pins, Selection, infer};
use crate::calibrate::{Batches, GatherError, held_out};
use crate::linear::Linear;
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
    let layers = layers(teacher, &pruned, options.method == Method::LeastSquares);
    let first = |layer: &'_ Layer| layer.before.as_deref().unwrap_or(layer).clone();
    let firsts: Vec<Layer> = layers.iter().map(first).collect();
    let mut sides = (
        Side::new(teacher.model, firsts.iter().map(|layer| &layer.original)),
        Side::new(&pruned, firsts.iter().map(|layer| &layer.pruned)),
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

/// One model on its way through the passes.
struct Side {
    facts: Facts,
    depths: Depths,
    frontier: Frontier,
}

impl Side {
    fn new<'a>(model: &Model, layers: impl Iterator<Item = &'a Linear>) -> Self {
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
        let named: Vec<Named> = layers.iter().map(|layer| Named::new(layer, model, pruned)).collect::<Option<_>>().unwrap_or_default();
        let original_taps = distinct(named.iter().flat_map(Named::of_original));
        let pruned_taps = distinct(named.iter().flat_map(Named::of_pruned));
        let example = self.batches.fetch(*first)?;
        let (ours, theirs) = (&sides.0, &sides.1);
        let original = ours.frontier.part(model, (&ours.facts, &ours.depths, depth), &original_taps, &example, self.runtime);
        let mended = theirs.frontier.part(pruned, (&theirs.facts, &theirs.depths, depth), &pruned_taps, &example, self.runtime);
        let (original, mended) = (original.map_err(GatherError::Run)?, mended.map_err(GatherError::Run)?);
        let mut found = vec![Found::default(); layers.len()];
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
                let rows = layers.iter().zip(&named).map(|(layer, named)| named.rows(layer, *number, &ran, &ran_mended, self.runs.len()));
                let rows: Vec<(Option<Rows>, Option<Patches>)> = rows.collect();
                let count = self.runs.len();
                Ok((rows, Frontier::keeps(&original, &ran, count), Frontier::keeps(&mended, &ran_mended, count)))
            };
            let results: Vec<_> = numbers.par_iter().enumerate().map(one).collect::<Result<_, _>>()?;
            for (number, (rows, original, mended)) in numbers.iter().zip(results) {
                for (into, (rows, patches)) in found.iter_mut().zip(rows) {
                    let held = usize::from(held_out(*number));
                    into.rows[held].extend(rows);
                    into.patches[held].extend(patches);
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
        for (layer, found) in layers.iter().zip(found) {
            repairs.extend(found.mend(pruned, layer, self.options));
        }
        Ok(repairs)
    }
}

/// What a pass needs of both models for a layer and the one that is mended with it, by name.
struct Named {
    own: Taps,
    first: Option<Taps>,
}

impl Named {
    fn new(layer: &Layer, model: &Model, pruned: &Model) -> Option<Self> {
        let name = |model: &Model, value: ValueId| model.index().value(value).name.clone();
        let taps = |layer: &Layer| {
            Some(Taps {
                output: name(model, layer.original.output?),
                original_added: layer.original_aim.added.map(|added| name(model, added)),
                data: name(pruned, layer.pruned.data),
                added: layer.aim.added.map(|added| name(pruned, added)),
            })
        };
        let first = layer.before.as_deref().map(taps);
        Some(Named { own: taps(layer)?, first: if let Some(first) = first { Some(first?) } else { None } })
    }

    fn all(&self) -> impl Iterator<Item = &Taps> {
        self.first.iter().chain([&self.own])
    }

    fn of_original(&self) -> Vec<Option<&String>> {
        self.all().flat_map(|taps| [Some(&taps.output), taps.original_added.as_ref()]).collect()
    }

    /// The second of two layers has its input from the first, as it is mended.
    fn of_pruned(&self) -> Vec<Option<&String>> {
        let added = self.all().map(|taps| taps.added.as_ref());
        added.chain([Some(&self.first.as_ref().unwrap_or(&self.own).data)]).collect()
    }

    /// The rows of one run: of a layer alone (of two, the first), and of both.
    fn rows(&self, layer: &Layer, number: usize, original: &Tensors, pruned: &Tensors, runs: usize) -> (Option<Rows>, Option<Patches>) {
        let alone = |layer: &Layer, taps: &Taps| layer.rows(taps, number, original, pruned, layer.limit(runs));
        match layer.before.as_deref().zip(self.first.as_ref()) {
            Some((first, taps)) => {
                let rows = first.touched.then(|| alone(first, taps)).flatten();
                (rows, layer.patches(first, (&self.own, taps), number, original, pruned, runs))
            }
            None => (alone(layer, &self.own), None),
        }
    }
}

/// What was found for a layer: fitted and held out.
#[derive(Clone, Default)]
struct Found {
    rows: [Vec<Rows>; 2],
    patches: [Vec<Patches>; 2],
}

/// Positions of a part of the rows: enough for fast products, few enough for many threads.
const PART: usize = 1024;

impl Found {
    fn mend(self, pruned: &mut Model, layer: &Layer, options: &Options) -> Vec<Repair> {
        let alone = layer.before.as_deref().unwrap_or(layer);
        let [fit, held] = self.rows.map(|rows| Rows::stack(rows, alone.pruned.groups));
        let mut repairs = Vec::new();
        if !fit.inputs.is_empty() && !held.inputs.is_empty() {
            repairs.extend(mend(pruned, alone, &fit, &held, options));
        }
        if let Some(first) = layer.before.as_deref() {
            let [fit, held] = self.patches.map(|runs| Patches::parts(runs, (first, layer), PART));
            if !fit.is_empty() && !held.is_empty() {
                repairs.extend(mend_both(pruned, (first, layer), &fit, &held, options));
            }
        }
        repairs
    }
}

/// Mends the second of two layers, then both at once.
fn mend_both(
    pruned: &mut Model,
    (first, second): (&Layer, &Layer),
    fit: &[Patches],
    held: &[Patches],
    options: &Options,
) -> Option<Repair> {
    let pair = Pair::new(first, second);
    let matrices = |pruned: &Model, layer: &Layer| -> Option<(Vec<f64>, Vec<f64>)> {
        let bias = layer.bias.as_ref().and_then(|bias| bias.read(pruned));
        Some((layer.pruned.matrix(pruned)?, bias.unwrap_or_else(|| vec![0.0; layer.units()])))
    };
    let parameters = |pruned: &Model| {
        let (first, second) = (matrices(pruned, first)?, matrices(pruned, second)?);
        Some(pair.parameters((&first.0, &first.1), (&second.0, &second.1)))
    };
    let (weight, bias) = matrices(pruned, first)?;
    let mut repair = mend(pruned, second, &pair.rows(fit, &weight, &bias), &pair.rows(held, &weight, &bias), options)?;
    let start = parameters(pruned)?;
    let write = |pruned: &mut Model, all: &[f64]| {
        let [weight, bias, second_weight, second_bias] = pair.split(all);
        put(pruned, first, weight, bias)?;
        put(pruned, second, second_weight, second_bias)
    };
    // Where they can not be written nothing is to be tried.
    if write(pruned, &start).is_none() {
        return Some(repair);
    }
    let before = pair.error(held, &start);
    write(pruned, &pair.refine(fit, held, &start))?;
    // Quantized weights were rounded.
    let after = pair.error(held, &parameters(pruned)?);
    if after < before {
        repair.after = after;
    } else {
        write(pruned, &start)?;
    }
    tracing::debug!(layer = repair.layer, before, after, "refitted with the layer before it");
    Some(repair)
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
