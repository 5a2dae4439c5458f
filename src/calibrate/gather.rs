//! Activations tapped while a model runs, folded at once into moments.

use std::collections::BTreeMap;

use rand::seq::index::sample;
use rayon::prelude::*;

use super::moments::{Moments, ROWS_PER_COLUMN, Statistics};
use super::sequences::{Counting, SequenceAxes};
use crate::inputs::{Batches, GatherError, examples, run_in_order};
use crate::linear::Linear;
use crate::model::{Model, TensorRef};
use crate::progress::{Phase, Work};
use crate::rng::rng;
use crate::run::{Runtime, for_shapes};

/// Positions of a large map that one run gives rows for; neighbours say nearly the same.
pub const POSITIONS: usize = 256;
/// With fewer runs than this none is spared for judging alone.
pub const SPARED: usize = 48;
/// One run in this many is held out from what is computed of the others.
const HELD_OUT: usize = 6;

/// Whether one of so many runs is held out: what was found on the others is judged by it. Of few runs, the last.
pub fn held_out(run: usize, runs: usize) -> bool {
    if runs < HELD_OUT {
        runs > 1 && run + 1 == runs
    } else {
        run % HELD_OUT == HELD_OUT - 1
    }
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

/// Runs on some of the inputs.
#[derive(Clone, Copy)]
pub struct ChosenRuns<'a> {
    /// All inputs.
    pub batches: &'a dyn Batches,
    /// Which of them, by number.
    pub numbers: &'a [usize],
    /// What runs the model.
    pub runtime: &'a dyn Runtime,
}

/// Moments of the activations that some products read, over some runs of the original. Unless they are to be `added` to those
/// of other runs, columns of which these runs cannot tell how they go together are followed one by one.
/// The same runs give the same numbers, whatever the number of threads.
pub fn gather(
    model: &Model,
    views: &[Linear],
    on: ChosenRuns,
    added: bool,
    work: &Work,
) -> Result<Statistics, GatherError> {
    let ChosenRuns {
        batches,
        numbers: runs,
        runtime,
    } = on;
    work.progress.begin(Phase::Calibrate, runs.len() as u64);
    let mut wanted: BTreeMap<String, &Linear> = BTreeMap::new();
    views.iter().for_each(|view| {
        wanted.entry(view.key(model)).or_insert(view);
    });
    let mut taps: Vec<String> = wanted
        .values()
        .map(|view| model.index().value(view.data).name.clone())
        .collect();
    taps.sort();
    taps.dedup();
    let mut statistics = Statistics {
        samples: 0,
        of: BTreeMap::new(),
    };
    if runs.is_empty() {
        return Ok(statistics);
    }
    let session = for_shapes(model, &examples(batches, runs)?, |model, example| {
        runtime.prepare(model, example, &taps)
    })
    .map_err(|error| GatherError::Run(error.to_string()))?;
    let axes = SequenceAxes::of(model, batches);
    let count = (!added).then_some(runs.len());
    let mut tapped: Vec<TappedView> = wanted
        .into_iter()
        .map(|view| TappedView::new(model, &taps, view, count))
        .collect();
    run_in_order(&*session, batches, runs, work, |numbers, results| {
        tapped
            .par_iter_mut()
            .for_each(|tapped| tapped.add(batches, &axes, (numbers, &results)));
        statistics.samples += numbers.len();
        Ok(())
    })?;
    statistics.of = tapped.into_iter().map(TappedView::finish).collect();
    Ok(statistics)
}

/// A product whose input is followed.
struct TappedView<'a> {
    key: String,
    view: &'a Linear,
    /// Where its input stands among the results of a run.
    tap: usize,
    /// How many runs there will be; `None`: more than are known of.
    runs: Option<usize>,
    /// `None` before the first run.
    moments: Option<Moments>,
}

/// How many times as many rows as the first run others may give.
const LONGER: usize = 4;

impl<'a> TappedView<'a> {
    /// Nothing is seen yet.
    fn new(
        model: &Model,
        taps: &[String],
        (key, view): (String, &'a Linear),
        runs: Option<usize>,
    ) -> Self {
        let outputs = model.index().graph(crate::model::Index::MAIN).outputs.len();
        let name = &model.index().value(view.data).name;
        TappedView {
            key,
            view,
            tap: outputs + taps.iter().position(|tap| tap == name).unwrap_or(0),
            runs,
            moments: None,
        }
    }

    /// No moments yet: of columns one by one where all runs together will give too few rows to tell how they go together, as
    /// far as the first run shows.
    fn start(&self, first: usize) -> Moments {
        let Linear {
            groups, columns, ..
        } = *self.view;
        let rows = if first == 0 {
            POSITIONS
        } else {
            POSITIONS.min(first * LONGER)
        };
        let few = |runs: usize| ((runs * rows) as f64) < ROWS_PER_COLUMN * columns as f64;
        if groups == 1 && self.runs.is_some_and(few) {
            Moments::diagonal(columns)
        } else {
            Moments::new(groups, columns)
        }
    }

    /// What was found, by the view's key.
    fn finish(mut self) -> (String, Moments) {
        let found = self.moments.take();
        let moments = found.unwrap_or_else(|| self.start(POSITIONS));
        (self.key, moments)
    }

    /// Adds what some runs, of these numbers, gave.
    fn add(
        &mut self,
        batches: &dyn Batches,
        axes: &SequenceAxes,
        (numbers, results): (&[usize], &[Vec<TensorRef>]),
    ) {
        let axis = axes.axis(self.view.data);
        let rows = |(number, result): (&usize, &Vec<TensorRef>)| {
            let tensor = result.get(self.tap)?;
            let draw = |positions| picks(&self.key, *number, positions, POSITIONS);
            let picks =
                Counting::of(batches, *number, axis).drawn(self.view, &tensor.dims, draw)?;
            self.view.activations(tensor, &picks)
        };
        let parts: Vec<Vec<f32>> = numbers.par_iter().zip(results).filter_map(rows).collect();
        let width = self.view.groups * self.view.columns;
        let first = parts.first().map_or(0, Vec::len) / width.max(1);
        if self.moments.is_none() {
            self.moments = Some(self.start(first));
        }
        if let Some(moments) = &mut self.moments {
            moments.add_parts(&parts);
        }
    }
}

/// Puts matrices of several groups below each other, group by group.
pub fn stack<T: Copy>(mut parts: Vec<Vec<T>>, groups: usize) -> Vec<T> {
    if parts.len() == 1 {
        return parts.pop().unwrap_or_default();
    }
    let mut all = Vec::with_capacity(parts.iter().map(Vec::len).sum());
    if groups == 1 {
        // Each goes as soon as it is copied: there may be many.
        parts
            .into_iter()
            .for_each(|part| all.extend_from_slice(&part));
        return all;
    }
    for group in 0..groups {
        for part in &parts {
            let size = part.len() / groups;
            all.extend_from_slice(&part[group * size..(group + 1) * size]);
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analysis::{Pins, infer, relate};
    use crate::linear::views;
    use crate::model::text;

    #[test]
    fn columns_are_followed_one_by_one_where_all_runs_give_few_rows() {
        let model = text::model("input x f32[n,64]\nconst w f32[64,8]\ny = MatMul(x, w)\noutput y")
            .unwrap();
        let views = views(&model, &relate(&model, &infer(&model, &Pins::new())));
        let squares_alone = |runs: Option<usize>, first: usize| {
            let tapped = TappedView::new(&model, &[], (String::new(), &views[0]), runs);
            !tapped.start(first).squares.is_empty()
        };
        // 128 rows would do; others may be four times as long as the first.
        assert!(squares_alone(Some(31), 1) && !squares_alone(Some(32), 1));
        assert!(squares_alone(Some(3), 10) && !squares_alone(Some(4), 10));
        // Nothing is known of them, or there are more to come.
        assert!(!squares_alone(Some(1), 0) && !squares_alone(None, 1));
    }
}
