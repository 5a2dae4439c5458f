//! What flows through linear spaces, as second moments on both sides.

use std::collections::BTreeMap;

use faer::Mat;
use rayon::prelude::*;

use super::find::{LinearSpace, SpaceHolder};
use super::stretch::Stretches;
use crate::analysis::Analysis;
use crate::calibrate::{ChosenRuns, Moments, picks};
use crate::inputs::{GatherError, run_in_order};
use crate::model::{Index, Model, TensorRef};
use crate::progress::{Phase, Work};

/// Runs that a basis is computed from, at most.
const RUNS: usize = 256;
/// Stretches of a tensor that one run gives rows for.
const POSITIONS: usize = 256;

/// Second moments of what is multiplied, by block, on either side.
pub(super) struct SecondMoments {
    pub primal: Vec<Mat<f64>>,
    pub dual: Vec<Mat<f64>>,
}

/// What flowed through a space, by where it was seen.
pub(super) type SeenMoments = BTreeMap<(usize, SpaceHolder), Moments>;

/// Rows of a tensor: blocks × picks × elements. `None`: it does not fit.
fn rows(
    analysis: &Analysis,
    space: &LinearSpace,
    holder: &SpaceHolder,
    tensor: &TensorRef,
    pick: &dyn Fn(usize) -> Vec<usize>,
) -> Option<(usize, Vec<f32>)> {
    let numbers = tensor.to_f32()?;
    let stretches = Stretches::of(analysis, space, holder, &tensor.dims)?;
    let picked = pick(stretches.count());
    let mut rows = Vec::new();
    for block in 0..stretches.blocks() {
        for at in &picked {
            for place in stretches.places(block, *at) {
                rows.push(*numbers.get(place)?);
            }
        }
    }
    Some((stretches.blocks(), rows))
}

/// Runs the model and adds up what flows through some spaces. Errors: it does not run, inputs that cannot be read, a stop
/// asked for.
pub(super) fn gather(
    model: &Model,
    analysis: &Analysis,
    spaces: &[LinearSpace],
    on: ChosenRuns,
    work: &Work,
) -> Result<SeenMoments, GatherError> {
    let name = |holder: &SpaceHolder| model.index().value(holder.value).name.clone();
    let mut wanted: Vec<(usize, SpaceHolder)> = Vec::new();
    for (at, space) in spaces.iter().enumerate() {
        let operands = space.pairs.iter().flatten();
        let flows = operands.filter(|holder| model.tensor_proto(holder.value).is_none());
        wanted.extend(flows.map(|holder| (at, *holder)));
    }
    wanted.sort();
    wanted.dedup();
    let mut taps: Vec<String> = wanted.iter().map(|(_, holder)| name(holder)).collect();
    taps.sort();
    taps.dedup();
    let runs = &on.numbers[..on.numbers.len().min(RUNS)];
    work.progress.begin(Phase::Calibrate, runs.len() as u64);
    let (Some(first), false) = (runs.first(), wanted.is_empty()) else {
        return Ok(SeenMoments::new());
    };
    let session = on
        .runtime
        .prepare(model, &on.batches.fetch(*first)?, &taps)
        .map_err(|error| GatherError::Run(error.to_string()))?;
    let outputs = model.index().graph(Index::MAIN).outputs.len();
    let mut seen: Vec<Option<Moments>> = vec![None; wanted.len()];
    run_in_order(&*session, on.batches, runs, work, |numbers, results| {
        let together = seen.par_iter_mut().zip(&wanted);
        together.for_each(|(seen, (at, holder))| {
            let tap = outputs
                + taps
                    .iter()
                    .position(|tap| *tap == name(holder))
                    .unwrap_or(0);
            let key = name(holder);
            for (number, result) in numbers.iter().zip(&results) {
                let pick = |count| picks(&key, *number, count, POSITIONS);
                let tensor = result.get(tap);
                let found =
                    tensor.and_then(|tensor| rows(analysis, &spaces[*at], holder, tensor, &pick));
                if let Some((blocks, rows)) = found {
                    let columns = analysis.classes.get(spaces[*at].class).extent as usize;
                    seen.get_or_insert_with(|| Moments::new(blocks, columns))
                        .add(&rows);
                }
            }
        });
        Ok(())
    })?;
    let seen = wanted.iter().zip(seen);
    Ok(seen
        .filter_map(|((at, holder), moments)| Some(((spaces[*at].group, *holder), moments?)))
        .collect())
}

/// Second moments on both sides of a space: of activations as they were seen, of constants as they stand; where no activation
/// was seen on a side, of the weights that write it. `None`: a constant cannot be read.
pub(super) fn operands(
    model: &Model,
    analysis: &Analysis,
    space: &LinearSpace,
    seen: &SeenMoments,
) -> Option<SecondMoments> {
    let of_constant = |holder: &SpaceHolder| -> Option<Vec<Mat<f64>>> {
        let tensor = model.constant(holder.value)?;
        let (blocks, rows) = rows(analysis, space, holder, &tensor, &|count| {
            (0..count).collect()
        })?;
        let columns = analysis.classes.get(space.class).extent as usize;
        let mut moments = Moments::new(blocks, columns);
        moments.add(&rows);
        Some(moments.gram)
    };
    let is_constant = |holder: &SpaceHolder| model.tensor_proto(holder.value).is_some();
    let mut sides = [Vec::new(), Vec::new()];
    for pair in &space.pairs {
        // What a constant sums has its mean carried by a bias; what another activation sums has not.
        let fixed = pair.iter().any(is_constant);
        for holder in pair {
            let side = &mut sides[usize::from(holder.dual)];
            if is_constant(holder) {
                if !space.orthogonal {
                    side.push(of_constant(holder)?);
                }
            } else if let Some(moments) = seen.get(&(space.group, *holder)) {
                side.push(normalised(moments, fixed));
            }
        }
    }
    for dual in [false, true] {
        let side = &mut sides[usize::from(dual)];
        if side.is_empty() {
            let writers = space.writers.iter().filter(|writer| writer.dual == dual);
            side.extend(writers.map(of_constant).collect::<Option<Vec<_>>>()?);
        }
    }
    // One matrix for both sides goes by all that flows on either.
    if space.orthogonal {
        let [primal, dual] = &mut sides;
        primal.append(dual);
    }
    let [primal, dual] = sides.map(added);
    let (primal, dual) = match (primal, dual) {
        (Some(primal), Some(dual)) => (primal, dual),
        (Some(only), None) => (only.clone(), only.iter().map(unit).collect()),
        (None, Some(only)) => (only.iter().map(unit).collect(), only),
        (None, None) => return None,
    };
    Some(SecondMoments { primal, dual })
}

/// The matrix that treats all directions alike.
fn unit(like: &Mat<f64>) -> Mat<f64> {
    Mat::identity(like.nrows(), like.ncols())
}

/// Second moments by block, divided by the sum of all: what is read in several places counts alike.
fn normalised(moments: &Moments, centred: bool) -> Vec<Mat<f64>> {
    let (columns, rows) = (moments.columns(), moments.rows.max(1.0));
    let of_block = |block: usize| {
        let mean = moments.mean(block);
        Mat::from_fn(columns, columns, |row, column| {
            let mean = if centred {
                mean[row] * mean[column]
            } else {
                0.0
            };
            moments.gram[block][(row, column)] / rows - mean
        })
    };
    let blocks: Vec<Mat<f64>> = (0..moments.groups()).map(of_block).collect();
    let diagonal = |matrix: &Mat<f64>| (0..columns).map(|at| matrix[(at, at)]).sum::<f64>();
    let all: f64 = blocks.iter().map(diagonal).sum();
    let scale = if all > 0.0 { 1.0 / all } else { 1.0 };
    blocks
        .iter()
        .map(|block| Mat::from_fn(columns, columns, |row, column| block[(row, column)] * scale))
        .collect()
}

/// The sum of matrices, block by block. `None`: there are none.
fn added(parts: Vec<Vec<Mat<f64>>>) -> Option<Vec<Mat<f64>>> {
    let mut parts = parts.into_iter();
    let mut sum = parts.next()?;
    for part in parts {
        sum.iter_mut()
            .zip(&part)
            .for_each(|(sum, part)| *sum += part);
    }
    Some(sum)
}
