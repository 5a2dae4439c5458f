//! Activations tapped while a model runs, folded at once into moments.

use std::collections::BTreeMap;

use rand::seq::index::sample;
use rayon::prelude::*;

use super::moments::{Moments, Statistics};
use super::{DataError, Inputs, Tensors};
use crate::linear::Linear;
use crate::model::{Model, TensorRef};
use crate::progress::{Phase, Work};
use crate::rng::rng;
use crate::run::{Runtime, Session, run_all};

/// Inputs of a model, one run after the other, made when they are asked for.
pub trait Batches: Sync {
    /// How many there are.
    fn count(&self) -> usize;

    /// One of them. Errors: it can not be read.
    fn fetch(&self, number: usize) -> Result<Tensors, DataError>;
}

impl Batches for Inputs {
    fn count(&self) -> usize {
        self.len()
    }

    fn fetch(&self, number: usize) -> Result<Tensors, DataError> {
        self.batch(number)
    }
}

impl Batches for Vec<Tensors> {
    fn count(&self) -> usize {
        self.len()
    }

    fn fetch(&self, number: usize) -> Result<Tensors, DataError> {
        Ok(self[number].clone())
    }
}

/// Why there are no statistics.
#[derive(Debug, thiserror::Error)]
pub enum GatherError {
    /// The inputs can not be read.
    #[error(transparent)]
    Data(#[from] DataError),
    /// The model does not run.
    #[error("{0}")]
    Run(String),
    /// Somebody asked to stop.
    #[error("stopped")]
    Cancelled,
}

/// Positions of a large map that one run gives rows for; neighbours say nearly the same.
pub const POSITIONS: usize = 256;
/// Bytes of activations that may be alive at once.
const ALIVE: usize = 256 << 20;
/// Runs at once, at most.
const RUNS: usize = 32;

/// One run in this many is held out from what is computed of the others.
const HELD_OUT: usize = 6;

/// Whether a run is held out: what was found on the others is judged by it.
pub fn held_out(run: usize) -> bool {
    run % HELD_OUT == HELD_OUT - 1
}

/// The positions that a run gives rows for: all, or so many drawn from the run's number.
pub fn picks(key: &str, run: usize, positions: usize, limit: usize) -> Vec<usize> {
    if positions <= limit {
        return (0..positions).collect();
    }
    let mut picks = sample(&mut rng(run as u64, key), positions, limit).into_vec();
    picks.sort_unstable();
    picks
}

/// Runs a session over some runs, so many at once that their outputs fit in memory, and hands the outputs on in order.
pub fn run_in_order(
    session: &dyn Session,
    batches: &dyn Batches,
    runs: &[usize],
    work: &Work,
    mut take: impl FnMut(&[usize], &[Vec<TensorRef>]) -> Result<(), GatherError>,
) -> Result<(), GatherError> {
    let (mut start, mut at_once) = (0, 1);
    while start < runs.len() {
        if work.progress.stop() {
            return Err(GatherError::Cancelled);
        }
        let numbers = &runs[start..(start + at_once).min(runs.len())];
        let inputs = numbers.par_iter().map(|number| batches.fetch(*number)).collect::<Result<Vec<_>, _>>()?;
        let outputs: Vec<Vec<TensorRef>> =
            run_all(session, &inputs).into_iter().collect::<Result<_, _>>().map_err(|error| GatherError::Run(error.to_string()))?;
        let bytes = outputs.iter().flatten().map(|tensor| tensor.bytes.len()).sum::<usize>() / numbers.len().max(1);
        take(numbers, &outputs)?;
        work.progress.advance(numbers.len() as u64);
        start += numbers.len();
        at_once = (ALIVE / bytes.max(1)).clamp(1, RUNS);
    }
    Ok(())
}

/// Moments of the activations that some products read, over some runs of the original.
/// The same runs give the same numbers, whatever the number of threads.
pub fn gather(
    model: &Model,
    views: &[Linear],
    batches: &dyn Batches,
    runs: &[usize],
    runtime: &dyn Runtime,
    work: &Work,
) -> Result<Statistics, GatherError> {
    work.progress.begin(Phase::Calibrate, runs.len() as u64);
    let mut wanted: BTreeMap<String, &Linear> = BTreeMap::new();
    views.iter().for_each(|view| {
        wanted.entry(view.key(model)).or_insert(view);
    });
    let mut taps: Vec<String> = wanted.values().map(|view| model.index().value(view.data).name.clone()).collect();
    taps.sort();
    taps.dedup();
    let mut statistics = Statistics { samples: 0, of: BTreeMap::new() };
    let Some(first) = runs.first() else { return Ok(statistics) };
    let session = runtime.prepare(model, &batches.fetch(*first)?, &taps).map_err(|error| GatherError::Run(error.to_string()))?;
    let outputs = model.index().graph(crate::model::Index::MAIN).outputs.len();
    let mut folded: Vec<(String, &Linear, usize, Moments)> = wanted
        .into_iter()
        .map(|(key, view)| {
            let name = &model.index().value(view.data).name;
            let tap = outputs + taps.iter().position(|tap| tap == name).unwrap_or(0);
            (key, view, tap, Moments::new(view.groups, view.columns))
        })
        .collect();
    run_in_order(&*session, batches, runs, work, |numbers, results| {
        folded.par_iter_mut().for_each(|(key, view, tap, moments)| {
            let rows = |(number, result): (&usize, &Vec<TensorRef>)| {
                let tensor = result.get(*tap)?;
                view.activations(tensor, &picks(key, *number, view.positions(&tensor.dims)?, POSITIONS))
            };
            let parts: Vec<Vec<f32>> = numbers.iter().zip(results).filter_map(rows).collect();
            moments.add_parts(&parts);
        });
        statistics.samples += numbers.len();
        Ok(())
    })?;
    statistics.of = folded.into_iter().map(|(key, _, _, moments)| (key, moments)).collect();
    Ok(statistics)
}

/// Puts matrices of several groups on top of each other, group by group.
pub fn stack(parts: &[Vec<f32>], groups: usize) -> Vec<f32> {
    if let ([only], _) = (parts, groups) {
        return only.clone();
    }
    let mut all = Vec::with_capacity(parts.iter().map(Vec::len).sum());
    for group in 0..groups {
        for part in parts {
            let size = part.len() / groups.max(1);
            all.extend_from_slice(&part[group * size..(group + 1) * size]);
        }
    }
    all
}
