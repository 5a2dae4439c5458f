//! Time as a cost: operators measured at their widths, the whole held against the clock.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::operator::Operator;
use super::request::{Data, Request};
use super::{Error, Prepared};
use crate::allocate::{Align, Choice, Target, Unreachable, cheapest};
use crate::analysis::{
    Analysis, ClassId, Extent, Facts, Grid, Group, Pins, Timed, constants, infer,
};
use crate::model::{Index, Model, NodeId};
use crate::progress::{Phase, Work};
use crate::relation::LabelId;
use crate::run::{Measured, Runtime, Session, Spread, Tensors, spread};

/// How near to a target a result counts as on it.
pub const NEAR: f64 = 0.05;
/// How near the search for one tries to come, for measurements differ.
const AIM: f64 = 0.03;
/// Corrections of the table, at most.
const TRIALS: usize = 5;
/// Time for measuring a whole model, and runs at most.
const BUDGET: Duration = Duration::from_millis(1500);
const RUNS: usize = 200;
/// Share of the whole that single operators can make up together.
const MOST: f64 = 0.95;

/// What the table foresaw of the result, against what was measured.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Foreseen {
    /// The fraction asked for.
    pub target: f64,
    /// Milliseconds of the original.
    pub original: f64,
    /// Milliseconds of the pruned model by the table, as corrected before it was run.
    pub predicted: f64,
    /// Milliseconds of the pruned model as cut.
    pub measured: f64,
    /// How often the table was corrected.
    pub corrections: usize,
}

/// Measured times of a model's operators.
pub(super) struct Clock<'a> {
    measured: Measured<'a>,
    runtime: &'a dyn Runtime,
    example: Tensors,
    pins: Pins,
    session: Box<dyn Session>,
    /// Milliseconds of the original, its fastest run.
    whole: f64,
    /// What the sum of operators is multiplied by, milliseconds per element that the others write, and what is left.
    share: Mutex<Option<(f64, f64, f64)>>,
    /// What measuring the whole has shown the table to be wrong by.
    correction: Mutex<f64>,
    pub foreseen: Mutex<Option<Foreseen>>,
}

/// A node with widths that may shrink.
struct Part {
    node: NodeId,
    labels: Vec<LabelId>,
    widths: Vec<Extent>,
}

impl<'a> Clock<'a> {
    /// Makes the original ready. Errors: it does not run.
    pub fn new(
        model: &Model,
        request: &Request,
        data: &Data,
        runtime: &'a dyn Runtime,
    ) -> Result<Self, Error> {
        let refused = |reason: String| {
            Error::Unverifiable(format!(
                "a latency has to be measured, and the model does not run: {reason}"
            ))
        };
        let example = data
            .inputs
            .example()?
            .ok_or_else(|| refused("there are no inputs".to_owned()))?;
        let session = runtime
            .prepare_variant(model, &example)
            .map_err(|error| refused(error.to_string()))?;
        let times = spread(&[&*session], &example, RUNS, BUDGET)
            .map_err(|error| refused(error.to_string()))?;
        let pins = example
            .iter()
            .map(|(name, value)| {
                (
                    name.clone(),
                    value.dims.iter().map(|dim| *dim as i64).collect(),
                )
            })
            .collect();
        Ok(Clock {
            measured: Measured::open(runtime, request.latency_table.as_deref()),
            runtime,
            example,
            pins,
            session,
            whole: times.first().map_or(0.0, |spread| spread.least),
            share: Mutex::default(),
            correction: Mutex::new(1.0),
            foreseen: Mutex::default(),
        })
    }

    /// Puts times into the account of a model: the original first, what is left of it after a round later.
    pub fn attach(&self, model: &Model, analysis: &mut Analysis, work: &Work) -> Result<(), Error> {
        let facts = infer(model, &self.pins);
        let constant = constants(model);
        let parts = parts(model, analysis);
        work.progress.begin(Phase::Latency, parts.len() as u64);
        let mut grids: BTreeMap<String, Arc<Grid>> = BTreeMap::new();
        let mut times: Vec<Timed> = Vec::new();
        let mut timed: Vec<bool> = vec![false; model.index().nodes().len()];
        for part in parts {
            if work.progress.stop() {
                return Err(Error::Cancelled);
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
        let rest = rest(model, analysis, &facts, &timed);
        let sum: f64 = times
            .iter()
            .map(|time| time.grid.at(&vec![1.0; time.widths.len()]))
            .sum();
        let elements: f64 = rest.iter().map(|(elements, _)| elements).sum();
        let Ok(mut share) = self.share.lock() else {
            return Ok(());
        };
        let (factor, each, fixed) = *share.get_or_insert_with(|| {
            let factor = if sum > self.whole * MOST {
                self.whole * MOST / sum
            } else {
                1.0
            };
            let left = (self.whole - sum * factor).max(0.0);
            if elements > 0.0 {
                (factor, left / elements, 0.0)
            } else {
                (factor, 0.0, left)
            }
        });
        tracing::info!(
            whole = self.whole,
            operators = sum,
            factor,
            "milliseconds of the original, and of its operators measured one by one"
        );
        times.iter_mut().for_each(|time| time.factor = factor);
        analysis.account.set_times(times, rest, each, fixed);
        if let Err(error) = self.measured.save() {
            tracing::warn!("the table of latencies can not be written: {error}");
        }
        Ok(())
    }

    /// The grid of a node, one for all nodes that are alike; `None` where it does not run alone.
    fn grid(
        &self,
        model: &Model,
        facts: &Facts,
        constant: &[bool],
        part: &Part,
        known: &mut BTreeMap<String, Arc<Grid>>,
    ) -> Option<Arc<Grid>> {
        let Some(operator) = Operator::new(model, facts, constant, part.node, &part.labels) else {
            let whole = Operator::new(model, facts, constant, part.node, &[])?;
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
            .map(|extent| points(*extent, extents.len()))
            .collect();
        let mut milliseconds = Vec::new();
        let count: usize = points.iter().map(Vec::len).product();
        for at in 0..count {
            let mut left = at;
            let mut chosen: Vec<usize> = points
                .iter()
                .rev()
                .map(|axis| {
                    let point = axis.get(left % axis.len()).copied().unwrap_or(1);
                    left /= axis.len();
                    point
                })
                .collect();
            chosen.reverse();
            let (key, alone, example) = operator.at(&chosen)?;
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

    /// The multiples of widths that are cheapest here, for each of some groups.
    pub fn align(
        &self,
        prepared: &Prepared,
        groups: &[usize],
        work: &Work,
    ) -> Result<Align, Error> {
        let (model, analysis) = (&prepared.working, &prepared.analysis);
        let (facts, constant, parts) = (
            infer(model, &self.pins),
            constants(model),
            parts(model, analysis),
        );
        let operators: Vec<_> = parts
            .iter()
            .map(|part| Operator::new(model, &facts, &constant, part.node, &part.labels))
            .collect();
        work.progress.begin(Phase::Latency, groups.len() as u64);
        let mut found = BTreeMap::new();
        for group in groups {
            if work.progress.stop() {
                return Err(Error::Cancelled);
            }
            let group: &Group = &analysis.groups[*group];
            let units = group.units.len();
            let mut times: BTreeMap<usize, f64> = BTreeMap::new();
            for width in odd(units) {
                let share = |class: ClassId| {
                    if group.classes.contains(&class) {
                        width as f64 / units as f64
                    } else {
                        1.0
                    }
                };
                let mut total = 0.0;
                for (part, operator) in parts.iter().zip(&operators) {
                    let Some(operator) = operator else { continue };
                    let shares: Vec<f64> =
                        part.widths.iter().map(|extent| extent.at(&share)).collect();
                    if width < units && shares.iter().all(|share| *share == 1.0)
                        || !touches(part, group)
                    {
                        continue;
                    }
                    let full = operator.extents();
                    let extents: Vec<usize> = full
                        .iter()
                        .zip(&shares)
                        .map(|(full, share)| (*full as f64 * share).round() as usize)
                        .collect();
                    let Some((key, alone, example)) = operator.at(&extents) else {
                        continue;
                    };
                    total += self.measured.time(&key, &alone, &example).unwrap_or(0.0);
                }
                times.insert(width, total);
            }
            let number = cheapest(&times);
            tracing::debug!(group = group.id, number, ?times, "milliseconds by width");
            // Depthwise convolutions fall to slow paths outside of blocks in other runtimes, whatever this one does.
            let least = if group.depthwise {
                4.min(units as u32 / 2).max(1)
            } else {
                1
            };
            found.insert(group.id.clone(), number.max(least));
            work.progress.advance(1);
        }
        if let Err(error) = self.measured.save() {
            tracing::warn!("the table of latencies can not be written: {error}");
        }
        Ok(Align::Measured(Arc::new(found)))
    }

    /// Milliseconds of the original and of another model, taking turns.
    fn against(&self, model: &Model) -> Result<(Spread, Spread), Error> {
        let failed = |reason: String| {
            Error::Unverifiable(format!(
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

    /// Chooses under targets of which one may be a latency, measures what was chosen, corrects the table by what it was wrong
    /// and chooses again, a few times. `now` is what is left of the original by the table where the choice begins.
    pub fn settle(
        &self,
        targets: &[Target],
        now: f64,
        choose: &dyn Fn(&[Target]) -> Result<Choice, Unreachable>,
        predict: &dyn Fn(&Choice) -> f64,
        cut: &dyn Fn(&Choice) -> Result<Model, Error>,
    ) -> Result<Result<Choice, Unreachable>, Error> {
        let Some(wanted) = targets.iter().find_map(|target| {
            if let Target::Latency(wanted) = target {
                Some(*wanted)
            } else {
                None
            }
        }) else {
            return Ok(choose(targets));
        };
        let whole = wanted * now;
        let mut best: Option<(f64, Choice, Foreseen)> = None;
        let mut last = None;
        for corrections in 0..TRIALS {
            let correction = self.correction.lock().map_or(1.0, |correction| *correction);
            let asked = (wanted / correction).min(1.0);
            let corrected: Vec<Target> = targets
                .iter()
                .map(|target| {
                    if matches!(target, Target::Latency(_)) {
                        target.with_fraction(asked)
                    } else {
                        *target
                    }
                })
                .collect();
            let (choice, unreachable) = match choose(&corrected) {
                Ok(choice) => (choice, None),
                Err(unreachable) => (unreachable.closest.clone(), Some(unreachable)),
            };
            if last.as_ref() == Some(&choice) {
                break;
            }
            let (original, pruned) = self.against(&cut(&choice)?)?;
            let table = predict(&choice) * now;
            let measured = pruned.median / original.median;
            let foreseen = Foreseen {
                target: whole,
                original: original.median,
                predicted: table * correction * original.median,
                measured: pruned.median,
                corrections,
            };
            tracing::info!(
                target = whole,
                predicted = table * correction,
                measured,
                "latency of the choice, as fractions of the original"
            );
            let off = measured / whole - 1.0;
            if best.as_ref().is_none_or(|(least, ..)| off.abs() < *least) {
                best = Some((off.abs(), choice.clone(), foreseen));
            }
            // Where another target asks for more, or nothing more can go, the latency is what it is.
            let binds = table >= (asked * now) * (1.0 - NEAR);
            if off.abs() <= AIM || (off < 0.0 && !binds) || (off > 0.0 && unreachable.is_some()) {
                if let (Some(unreachable), true) = (unreachable, off > NEAR) {
                    self.note(foreseen);
                    return Ok(Err(unreachable));
                }
                break;
            }
            if let Ok(mut correction) = self.correction.lock()
                && table > 0.0
                && measured.is_finite()
            {
                *correction = (measured / table).clamp(0.2, 5.0);
            }
            last = Some(choice);
        }
        match best {
            Some((_, choice, foreseen)) => {
                self.note(foreseen);
                Ok(Ok(choice))
            }
            None => Ok(choose(targets)),
        }
    }

    fn note(&self, found: Foreseen) {
        if let Ok(mut foreseen) = self.foreseen.lock() {
            *foreseen = Some(found);
        }
    }
}

fn touches(part: &Part, group: &Group) -> bool {
    let without = |class: ClassId| {
        if group.classes.contains(&class) {
            0.0
        } else {
            1.0
        }
    };
    part.widths.iter().any(|extent| extent.at(&without) < 1.0)
}

/// The nodes of the main graph that compute sums of products over widths that may shrink.
fn parts(model: &Model, analysis: &Analysis) -> Vec<Part> {
    let mut parts = Vec::new();
    for (node, entry) in model.index().nodes() {
        let relation = &analysis.relations[node.index()];
        if entry.graph != Index::MAIN
            || !relation.terms.iter().any(|term| relation.multiplies(term))
        {
            continue;
        }
        let mut labels: Vec<LabelId> = relation
            .terms
            .iter()
            .flat_map(|term| term.labels.iter().copied())
            .collect();
        labels.sort();
        labels.dedup();
        let widths =
            |label: &LabelId| Some((*label, analysis.width(analysis.spaces.label(node, *label))?));
        let (labels, widths): (Vec<_>, Vec<_>) = labels.iter().filter_map(widths).unzip();
        if !labels.is_empty() {
            parts.push(Part {
                node,
                labels,
                widths,
            });
        }
    }
    parts
}

/// The elements that all other nodes of the main graph write, and what their number depends on.
fn rest(
    model: &Model,
    analysis: &Analysis,
    facts: &Facts,
    timed: &[bool],
) -> Vec<(f64, Vec<Extent>)> {
    let mut rest = Vec::new();
    for (node, entry) in model.index().nodes() {
        if entry.graph != Index::MAIN || timed.get(node.index()).copied().unwrap_or(false) {
            continue;
        }
        for output in entry.outputs.iter().flatten() {
            let fact = facts.of(*output);
            let dims: Option<Vec<usize>> = fact
                .shape
                .as_ref()
                .and_then(|shape| shape.iter().map(|dim| dim.count()).collect());
            let Some(dims) = dims.filter(|_| {
                fact.contents.is_none() && fact.dtype.is_some_and(|dtype| dtype.is_float())
            }) else {
                continue;
            };
            let elements = dims.iter().product::<usize>() as f64;
            rest.push((
                elements,
                analysis
                    .spaces
                    .axes(*output)
                    .filter_map(|space| analysis.width(space))
                    .collect(),
            ));
        }
    }
    rest
}

/// Widths to measure, ascending: about eight where one or two vary, four where more do, on the blocks that kernels work in.
fn points(extent: usize, varying: usize) -> Vec<usize> {
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

/// Widths on and off the blocks that kernels work in: a few blocks of sixteen, each from its first unit to its last.
fn odd(units: usize) -> Vec<usize> {
    const BLOCK: usize = 16;
    const BLOCKS: usize = 4;
    let blocks = units.div_ceil(BLOCK);
    let stride = blocks.div_ceil(BLOCKS).max(1);
    let starts = (0..blocks).rev().step_by(stride).map(|block| block * BLOCK);
    let mut widths: Vec<usize> = starts
        .flat_map(|start| [1, 3, 4, 6, 8, 11, 12, 14, 16].map(|inside| start + inside))
        .collect();
    widths.retain(|width| *width <= units);
    widths.push(units);
    widths.sort_unstable();
    widths.dedup();
    widths
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_are_few_and_on_blocks() {
        assert_eq!(points(64, 2), [8, 16, 24, 32, 40, 48, 56, 64]);
        assert_eq!(points(16, 1), [2, 4, 6, 8, 10, 12, 14, 16]);
        assert_eq!(points(3, 1), [1, 2, 3]);
        assert_eq!(points(1536, 1).len(), 8);
        assert_eq!(points(100, 3), [32, 64, 96, 100]);
        assert_eq!(odd(16), [1, 3, 4, 6, 8, 11, 12, 14, 16]);
        assert!(odd(1000).len() < 40 && odd(1000).contains(&1000) && odd(5).contains(&5));
    }
}
