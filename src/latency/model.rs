//! Time as a cost: operators measured at their widths, the whole held against the clock.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::isolate::IsolatedNode;
use super::measure::{Spread, spread};
use super::parts::{TimedPart, parts, rest};
use super::table::Measured;
use crate::analysis::{Analysis, Facts, Pins, constants, infer};
use crate::cost::{CostModel, Grid, Timed};
use crate::inputs::{Batches, GatherError};
use crate::model::Model;
use crate::progress::{Phase, Work};
use crate::run::{Runtime, Session, Tensors};

/// Time for measuring a whole model, and runs at most.
const BUDGET: Duration = Duration::from_millis(1500);
const RUNS: usize = 200;
/// Share of the whole that single operators can make up together.
const MAX_OPERATOR_SHARE: f64 = 0.95;

/// Measured times of a model's operators.
pub struct LatencyModel<'a> {
    pub(super) measured: Measured<'a>,
    runtime: &'a dyn Runtime,
    example: Tensors,
    pins: Pins,
    session: Box<dyn Session>,
    /// Milliseconds of the original, its fastest run.
    whole: f64,
    share: Share,
}

/// How the time of the whole is shared out.
#[derive(Clone, Copy)]
struct Share {
    /// What the sum of operators is multiplied by.
    factor: f64,
    /// Milliseconds per element that the other nodes write.
    each: f64,
    /// Milliseconds that are left.
    fixed: f64,
}

/// Times of nodes by their widths, and the elements that the other nodes write.
struct Times {
    timed: Vec<Timed>,
    rest: Vec<(f64, Vec<crate::cost::KeptShare>)>,
}

impl<'a> LatencyModel<'a> {
    /// Makes the original ready and measures it. `table`: the file that keeps the times of operators.
    /// Errors: it does not run, inputs that cannot be read.
    pub fn new(
        model: &Model,
        inputs: &dyn Batches,
        table: Option<&std::path::Path>,
        runtime: &'a dyn Runtime,
    ) -> Result<Self, GatherError> {
        let refused = |reason: String| {
            GatherError::Run(format!(
                "a latency has to be measured, and the model does not run: {reason}"
            ))
        };
        let example = inputs
            .example()?
            .ok_or_else(|| refused("there are no inputs".to_owned()))?;
        let session = runtime
            .prepare_variant(model, &example)
            .map_err(|error| refused(error.to_string()))?;
        let times = spread(&[&*session], &example, RUNS, BUDGET)
            .map_err(|error| refused(error.to_string()))?;
        let dims = |value: &crate::model::TensorRef| -> Vec<i64> {
            value.dims.iter().map(|dim| *dim as i64).collect()
        };
        let pins = example
            .iter()
            .map(|(name, value)| (name.clone(), dims(value)))
            .collect();
        Ok(LatencyModel {
            measured: Measured::open(runtime, table),
            runtime,
            example,
            pins,
            session,
            whole: times.first().map_or(0.0, |spread| spread.least),
            share: Share {
                factor: 1.0,
                each: 0.0,
                fixed: 0.0,
            },
        })
    }

    /// Measures the original's operators, finds out how the time of the whole is shared out between them and all others,
    /// and puts times into the cost model. Errors: a stop asked for.
    pub fn fit(
        &mut self,
        model: &Model,
        analysis: &Analysis,
        cost: &mut CostModel,
        work: &Work,
    ) -> Result<(), GatherError> {
        let times = self.times(model, analysis, work)?;
        let whole = |time: &Timed| time.grid.at(&vec![1.0; time.widths.len()]);
        let sum: f64 = times.timed.iter().map(whole).sum();
        let elements: f64 = times.rest.iter().map(|(elements, _)| elements).sum();
        let factor = if sum > self.whole * MAX_OPERATOR_SHARE {
            self.whole * MAX_OPERATOR_SHARE / sum
        } else {
            1.0
        };
        let left = (self.whole - sum * factor).max(0.0);
        let (each, fixed) = if elements > 0.0 {
            (left / elements, 0.0)
        } else {
            (0.0, left)
        };
        self.share = Share {
            factor,
            each,
            fixed,
        };
        tracing::info!(
            whole = self.whole,
            operators = sum,
            factor,
            "milliseconds of the original, and of its operators measured one by one"
        );
        self.put(times, cost);
        Ok(())
    }

    /// Puts times into the cost model of what is left of the original after a round, by the shares found of the original.
    /// Errors: a stop asked for.
    pub fn attach(
        &self,
        model: &Model,
        analysis: &Analysis,
        cost: &mut CostModel,
        work: &Work,
    ) -> Result<(), GatherError> {
        let times = self.times(model, analysis, work)?;
        self.put(times, cost);
        Ok(())
    }

    fn put(&self, mut times: Times, cost: &mut CostModel) {
        let Share {
            factor,
            each,
            fixed,
        } = self.share;
        times.timed.iter_mut().for_each(|time| time.factor = factor);
        cost.set_times(times.timed, times.rest, each, fixed);
        self.save();
    }

    /// Keeps what was measured for later runs.
    pub(super) fn save(&self) {
        if let Err(error) = self.measured.save() {
            tracing::warn!("the table of latencies can not be written: {error}");
        }
    }

    /// What is known of the model at the shapes that it is measured with.
    pub(super) fn facts(&self, model: &Model) -> Facts {
        infer(model, &self.pins)
    }

    fn times(&self, model: &Model, analysis: &Analysis, work: &Work) -> Result<Times, GatherError> {
        let facts = self.facts(model);
        let constant = constants(model);
        let parts = parts(model, analysis);
        work.progress.begin(Phase::Latency, parts.len() as u64);
        let mut grids: BTreeMap<String, Arc<Grid>> = BTreeMap::new();
        let mut times: Vec<Timed> = Vec::new();
        let mut timed: Vec<bool> = vec![false; model.index().nodes().len()];
        for part in parts {
            if work.progress.stop() {
                return Err(GatherError::Cancelled);
            }
            if let Some(grid) = self.grid(model, &facts, &constant, &part, &mut grids) {
                if let Some(timed) = timed.get_mut(part.node.index()) {
                    *timed = true;
                }
                times.push(Timed {
                    widths: part.widths,
                    grid,
                    factor: 1.0,
                });
            }
            work.progress.advance(1);
        }
        Ok(Times {
            timed: times,
            rest: rest(model, analysis, &facts, &timed),
        })
    }

    /// The grid of a node, one for all nodes that are alike; `None` where it does not run alone.
    fn grid(
        &self,
        model: &Model,
        facts: &Facts,
        constant: &[bool],
        part: &TimedPart,
        known: &mut BTreeMap<String, Arc<Grid>>,
    ) -> Option<Arc<Grid>> {
        let Some(operator) = IsolatedNode::new(model, facts, constant, part.node, &part.labels)
        else {
            let whole = IsolatedNode::new(model, facts, constant, part.node, &[])?;
            let (key, alone, example) = whole.at(&[])?;
            return Some(Arc::new(Grid::proportional(
                part.widths.len(),
                self.measured.time(&key, &alone, &example)?,
            )));
        };
        let extents = operator.extents();
        let (whole, ..) = operator.at(&extents)?;
        let key = format!("{whole} {:?}", part.labels);
        if let Some(grid) = known.get(&key) {
            return Some(grid.clone());
        }
        let points: Vec<Vec<usize>> = extents
            .iter()
            .map(|extent| grid_points(*extent, extents.len()))
            .collect();
        let mut milliseconds = Vec::new();
        let count: usize = points.iter().map(Vec::len).product();
        for number in 0..count {
            let (key, alone, example) = operator.at(&point(&points, number))?;
            milliseconds.push(self.measured.time(&key, &alone, &example)?);
        }
        let axes = points.iter().zip(&extents).map(|(axis, full)| {
            axis.iter()
                .map(|point| *point as f64 / *full as f64)
                .collect()
        });
        let grid = Arc::new(Grid::new(axes.collect(), milliseconds)?);
        known.insert(key, grid.clone());
        Some(grid)
    }

    /// Milliseconds of the original and of another model, taking turns. Errors: one does not run.
    pub(super) fn time_pair(&self, model: &Model) -> Result<(Spread, Spread), GatherError> {
        let failed = |reason: String| {
            GatherError::Run(format!(
                "the pruned model's latency can not be measured: {reason}"
            ))
        };
        let session = self
            .runtime
            .prepare_variant(model, &self.example)
            .map_err(|error| failed(error.to_string()))?;
        let times = spread(&[&*self.session, &*session], &self.example, RUNS, BUDGET)
            .map_err(|error| failed(error.to_string()))?;
        match times[..] {
            [original, pruned] => Ok((original, pruned)),
            _ => Err(failed("it gave no time".to_owned())),
        }
    }
}

/// One point of a grid by its number, the last axis running fastest.
fn point(axes: &[Vec<usize>], number: usize) -> Vec<usize> {
    let mut left = number;
    let mut chosen: Vec<usize> = axes
        .iter()
        .rev()
        .map(|axis| {
            let point = axis.get(left % axis.len()).copied().unwrap_or(1);
            left /= axis.len();
            point
        })
        .collect();
    chosen.reverse();
    chosen
}

/// Widths to measure, ascending: about eight where one or two vary, four where more do, on the blocks that kernels work in.
fn grid_points(extent: usize, varying: usize) -> Vec<usize> {
    let parts = if varying > 2 { 4 } else { 8 };
    let step = match extent / parts {
        0 => 1,
        step @ 1..=7 => step,
        step => step.next_multiple_of(8),
    };
    let mut points: Vec<usize> = (step..extent).step_by(step).collect();
    points.push(extent);
    points
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_are_few_and_on_blocks() {
        assert_eq!(grid_points(64, 2), [8, 16, 24, 32, 40, 48, 56, 64]);
        assert_eq!(grid_points(16, 1), [2, 4, 6, 8, 10, 12, 14, 16]);
        assert_eq!(grid_points(3, 1), [1, 2, 3]);
        assert_eq!(grid_points(1536, 1).len(), 8);
        assert_eq!(grid_points(100, 3), [32, 64, 96, 100]);
        let axes = [vec![1, 2], vec![3, 6, 9]];
        assert_eq!((point(&axes, 0), point(&axes, 5)), (vec![1, 3], vec![2, 9]));
        assert_eq!(point(&axes, 2), [1, 9]);
    }
}
