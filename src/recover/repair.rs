//! The passes over the data, layer after layer.

use std::collections::BTreeMap;

use super::aim::Aim;
use super::order::Depths;
use super::rows::{Layer, Rows, Taps};
use super::solve::{Method, Problem};
use crate::analysis::{Analysis, Pins, Selection, infer, relate};
use crate::calibrate::{Batches, GatherError, run_in_order};
use crate::linear::{Bias, Linear, views};
use crate::model::{Model, TensorRef, ValueId, prefix};
use crate::progress::{Phase, Work};
use crate::run::{RunError, Runtime, Session, Tensors, Unverifiable};

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

/// One run in this many is held out.
const HELD_OUT: usize = 6;

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
    let depths = Depths::new(&pruned, &layers.iter().map(|layer| layer.pruned.clone()).collect::<Vec<_>>());
    let mut passes: BTreeMap<usize, Vec<Layer>> = BTreeMap::new();
    for mut layer in layers {
        let Some(output) = layer.pruned.output else { continue };
        let depth = depths.value(output);
        // What is added must be final by then.
        if layer.aim.added.is_some_and(|added| depths.value(added) >= depth)
            || layer.aim.added.is_some() != layer.original_aim.added.is_some()
        {
            layer.forget_sum();
        }
        passes.entry(depth).or_default().push(layer);
    }
    work.progress.begin(Phase::Recover, passes.len() as u64);
    let mut repairs = Vec::new();
    for layers in passes.into_values() {
        repairs.extend(pass(teacher, &mut pruned, &layers, batches, runs, runtime, options, work)?);
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

/// Two models run on the same inputs: the outputs of the first, then those of the second.
struct Pair(Box<dyn Session>, Box<dyn Session>);

impl Session for Pair {
    fn run(&self, inputs: &Tensors) -> Result<Vec<TensorRef>, RunError> {
        let mut outputs = self.0.run(inputs)?;
        outputs.extend(self.1.run(inputs)?);
        Ok(outputs)
    }

    fn noise(&self) -> f64 {
        0.0
    }
}

/// The values that are tapped in one model.
#[derive(Default)]
struct Wanted(Vec<String>);

impl Wanted {
    fn add(&mut self, model: &Model, value: ValueId) -> usize {
        let name = &model.index().value(value).name;
        self.0.iter().position(|other| other == name).unwrap_or_else(|| {
            self.0.push(name.clone());
            self.0.len() - 1
        })
    }
}

#[allow(clippy::too_many_arguments)]
fn pass(
    teacher: Teacher,
    pruned: &mut Model,
    layers: &[Layer],
    batches: &dyn Batches,
    runs: &[usize],
    runtime: &dyn Runtime,
    options: &Options,
    work: &Work,
) -> Result<Vec<Repair>, GatherError> {
    let Some(first) = runs.first() else { return Ok(Vec::new()) };
    let (mut original_wanted, mut wanted) = (Wanted::default(), Wanted::default());
    let mut taps: Vec<Taps> = layers
        .iter()
        .filter_map(|layer| {
            Some(Taps {
                output: original_wanted.add(teacher.model, layer.original.output?),
                original_added: layer.original_aim.added.map(|added| original_wanted.add(teacher.model, added)),
                data: wanted.add(pruned, layer.pruned.data),
                added: layer.aim.added.map(|added| wanted.add(pruned, added)),
            })
        })
        .collect();
    let before = original_wanted.0.len();
    taps.iter_mut().for_each(|taps| {
        taps.data += before;
        taps.added = taps.added.map(|added| added + before);
    });
    let failed = |error: Unverifiable| GatherError::Run(error.to_string());
    let example = batches.fetch(*first)?;
    let session = |model: &Model, names: &[String]| {
        let part = prefix(model, names).map_err(|error| GatherError::Run(error.to_string()))?;
        runtime.prepare_variant(&part, &example).map_err(failed)
    };
    let pair = Pair(session(teacher.model, &original_wanted.0)?, session(pruned, &wanted.0)?);
    let mut rows: Vec<(Rows, Rows)> = vec![Default::default(); layers.len()];
    let mut broken = vec![false; layers.len()];
    run_in_order(&pair, batches, runs, &Work { progress: &Silent(work) }, |numbers, results| {
        for (at, layer) in layers.iter().enumerate() {
            let limit = layer.limit(runs.len());
            for (held, into) in [(false, 0), (true, 1)] {
                let chosen: Vec<usize> = (0..numbers.len()).filter(|at| (numbers[*at] % HELD_OUT == HELD_OUT - 1) == held).collect();
                let some: Vec<usize> = chosen.iter().map(|at| numbers[*at]).collect();
                let their: Vec<Vec<TensorRef>> = chosen.iter().map(|at| results[*at].clone()).collect();
                if some.is_empty() {
                    continue;
                }
                match layer.rows(taps[at], &some, &their, limit) {
                    Some(new) if into == 0 => rows[at].0.append(new, layer.pruned.groups),
                    Some(new) => rows[at].1.append(new, layer.pruned.groups),
                    None => broken[at] = true,
                }
            }
        }
        Ok(())
    })?;
    let mut repairs = Vec::new();
    for ((layer, (fit, held)), broken) in layers.iter().zip(&rows).zip(broken) {
        if !broken && !held.inputs.is_empty() {
            repairs.extend(mend(pruned, layer, fit, held, options));
        }
    }
    Ok(repairs)
}

/// Passes on whether to stop, and nothing else.
struct Silent<'a>(&'a Work<'a>);

impl crate::progress::Progress for Silent<'_> {
    fn stop(&self) -> bool {
        self.0.progress.stop()
    }
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
    let (mut new, mut new_bias, mut before, mut after) = (Vec::new(), Vec::new(), 0.0, 0.0);
    for group in 0..view.groups {
        let of = group * channels..(group + 1) * channels;
        let problem = Problem {
            inputs: &fit.inputs[part(&fit.inputs, columns, group)],
            aims: &fit.aims[part(&fit.aims, channels, group)],
            added: &fit.added[part(&fit.added, channels, group)],
            held_inputs: &held.inputs[part(&held.inputs, columns, group)],
            held_aims: &held.aims[part(&held.aims, channels, group)],
            held_added: &held.added[part(&held.added, channels, group)],
            columns,
            channels,
            scale: layer.aim.scale.get(of.clone())?,
            offset: layer.aim.offset.get(of.clone())?,
            function: layer.function(),
            biased: stands.is_some(),
        };
        let weight = &matrix[of.start * columns..of.end * columns];
        before += problem.error(weight, &bias[of.clone()]);
        let found = problem.solve(weight, &bias[of], options.method);
        after += found.error;
        new.extend(found.weight);
        new_bias.extend(found.bias);
    }
    let name = pruned.index().value(view.output?).name.clone();
    if after < before {
        view.set_matrix(pruned, &new)?;
        if let Some(bias) = &layer.bias {
            bias.write(pruned, &new_bias)?;
        }
    }
    tracing::debug!(layer = name, before, after, rows = fit.inputs.len() / columns.max(1) / view.groups, columns, "refitted");
    Some(Repair { layer: name, before, after: after.min(before) })
}
