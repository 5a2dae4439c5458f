//! The passes over the data, layer after layer.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use rayon::prelude::*;

use super::frontier::{Frontier, FrontierPart};
use super::layers::Which;
use super::order::Depths;
use super::patches::Patches;
use super::request::{Fitting, Repair, RepairOptions, Teacher};
use super::rows::Rows;
use super::shelf::Shelf;
use super::solve::Method;
use super::support::Selector;
use super::task::{Found, NamedLayer, Task, tasks};
use crate::analysis::{Facts, Pins, infer};
use crate::calibrate::{ChosenRuns, Counting, SequenceAxes, held_out};
use crate::inputs::{Batches, GatherError};
use crate::model::{Model, NodeId};
use crate::progress::{Phase, Work};
use crate::run::{Runtime, Tensors};

/// Mends a pruned model (each reader of a small constant with its own copy). Errors: a model that does not run, inputs
/// that can not be read, a stop asked for.
pub fn recover(
    teacher: Teacher,
    pruned: Model,
    on: ChosenRuns,
    options: &RepairOptions,
    work: &Work,
) -> Result<(Model, Vec<Repair>), GatherError> {
    let which = match options.method {
        Method::LeastSquares => Which::Joined,
        Method::Statistics => Which::Touched,
    };
    let fitting = Fitting {
        method: options.method,
        warm: options.warm,
        selector: None,
    };
    let all = Passes {
        teacher,
        batches: on.batches,
        runs: on.numbers,
        runtime: on.runtime,
        fitting,
        held: &options.held,
        work,
    };
    all.run(pruned, which)
}

/// Fits every layer of a copy of the original anew, in topological order, with the weights that `selector` lets stay when
/// its turn comes. Errors: as [`recover`].
pub fn recover_on(
    teacher: Teacher,
    copy: Model,
    (batches, runs): (&dyn Batches, &[usize]),
    runtime: &dyn Runtime,
    (method, selector): (Method, &dyn Selector),
    work: &Work,
) -> Result<(Model, Vec<Repair>), GatherError> {
    let fitting = Fitting {
        method,
        warm: false,
        selector: Some(selector),
    };
    let all = Passes {
        teacher,
        batches,
        runs,
        runtime,
        fitting,
        held: &BTreeSet::new(),
        work,
    };
    all.run(copy, Which::All)
}

/// Names of the outputs of the layers that [`recover_on`] comes to.
pub fn fitted_layers(teacher: Teacher, pruned: &Model) -> BTreeSet<String> {
    let index = teacher.model.index();
    tasks(teacher, pruned, Which::All, &BTreeSet::new())
        .iter()
        .filter_map(|task| Some(index.value(task.output()?).name.clone()))
        .collect()
}

/// One model on its way through the passes.
struct RepairSide {
    facts: Facts,
    depths: Depths,
    frontier: Frontier,
    /// Along which the positions of sequences lie.
    axes: SequenceAxes,
}

impl RepairSide {
    fn new(model: &Model, layers: impl Iterator<Item = NodeId>, batches: &dyn Batches) -> Self {
        RepairSide {
            facts: infer(model, &Pins::new()),
            depths: Depths::new(model, layers),
            frontier: Frontier::default(),
            axes: SequenceAxes::of(model, batches),
        }
    }

    /// Makes the part of the model ready that gives what the tasks of a depth need, by name.
    fn part<'a>(
        &self,
        model: &Model,
        depth: usize,
        taps: impl Iterator<Item = Option<&'a String>>,
        examples: &[(usize, Tensors)],
        runtime: &dyn Runtime,
    ) -> Result<FrontierPart, GatherError> {
        self.frontier
            .part(
                model,
                (&self.facts, &self.depths, depth),
                &distinct(taps),
                examples,
                runtime,
            )
            .map_err(GatherError::Run)
    }
}

/// What stays the same for all passes.
struct Passes<'a> {
    teacher: Teacher<'a>,
    batches: &'a dyn Batches,
    runs: &'a [usize],
    runtime: &'a dyn Runtime,
    fitting: Fitting<'a>,
    /// Weights that stay as they are, by name.
    held: &'a BTreeSet<String>,
    work: &'a Work<'a>,
}

/// Runs at once.
const AT_ONCE: usize = 16;

impl Passes<'_> {
    /// Goes through all depths. Errors: as [`recover`].
    fn run(&self, mut pruned: Model, which: Which) -> Result<(Model, Vec<Repair>), GatherError> {
        let teacher = self.teacher;
        let tasks = tasks(teacher, &pruned, which, self.held);
        let mut sides = (
            RepairSide::new(
                teacher.model,
                tasks.iter().map(|task| task.nodes().0),
                self.batches,
            ),
            RepairSide::new(
                &pruned,
                tasks.iter().map(|task| task.nodes().1),
                self.batches,
            ),
        );
        let mut passes: BTreeMap<usize, Vec<Task>> = BTreeMap::new();
        for mut task in tasks {
            let Some(output) = task.output() else {
                continue;
            };
            let depth = sides.1.depths.value(output);
            if let Task::Layer(layer) = &mut task {
                // What is added must be final by then.
                if layer
                    .aim
                    .added
                    .is_some_and(|added| sides.1.depths.value(added) >= depth)
                    || layer.aim.added.is_some() != layer.original_aim.added.is_some()
                {
                    layer.forget_sum();
                }
            }
            passes.entry(depth).or_default().push(task);
        }
        self.work
            .progress
            .begin(Phase::Recover, passes.len() as u64);
        let mut repairs = Vec::new();
        for (depth, tasks) in passes {
            match self.pass(&mut pruned, depth, &tasks, &mut sides) {
                Ok(found) => repairs.extend(found),
                // A part that the runtime does not take: its layers stay as they are.
                Err(GatherError::Run(reason)) => {
                    tracing::warn!(depth, %reason, "layers are not mended")
                }
                Err(error) => return Err(error),
            }
            self.work.progress.advance(1);
        }
        Ok((pruned, repairs))
    }

    /// Runs both models up to the layers of one depth, and mends them.
    fn pass(
        &self,
        pruned: &mut Model,
        depth: usize,
        tasks: &[Task],
        sides: &mut (RepairSide, RepairSide),
    ) -> Result<Vec<Repair>, GatherError> {
        let model = self.teacher.model;
        let examples = self.examples()?;
        let (tasks, named): (Vec<&Task>, Vec<NamedLayer>) = tasks
            .iter()
            .filter_map(|task| Some((task, NamedLayer::new(task, model, pruned)?)))
            .unzip();
        let (ours, theirs) = (&sides.0, &sides.1);
        let original = named.iter().flat_map(NamedLayer::of_original);
        let original = ours.part(model, depth, original, &examples, self.runtime);
        let mended = named.iter().flat_map(NamedLayer::of_pruned);
        let mended = theirs.part(pruned, depth, mended, &examples, self.runtime);
        let ready = ReadyPass {
            tasks,
            named,
            original: original?,
            mended: mended?,
        };
        let mut found: Vec<Found> = ready.tasks.iter().map(|task| Found::new(task)).collect();
        let kept = self.run_all(&ready, sides, &mut found)?;
        if let Some(kept) = kept.0 {
            sides.0.frontier.advance(&ready.original, kept);
        }
        if let Some(kept) = kept.1 {
            sides.1.frontier.advance(&ready.mended, kept);
        }
        let mut repairs = Vec::new();
        for (task, found) in ready.tasks.into_iter().zip(found) {
            repairs.extend(found.mend(pruned, task, &self.fitting));
        }
        Ok(repairs)
    }

    /// One of the runs of each shape, and its place among them, the widest first.
    fn examples(&self) -> Result<Vec<(usize, Tensors)>, GatherError> {
        let mut first = BTreeMap::new();
        for (at, run) in self.runs.iter().enumerate() {
            let width = self
                .batches
                .sequence(*run)
                .map_or(0, |sequence| sequence.width);
            first.entry(Reverse(width)).or_insert((at, *run));
        }
        let one = |(at, run): &(usize, usize)| Ok((*at, self.batches.fetch(*run)?));
        first.values().map(one).collect()
    }

    /// Makes all runs, adds what they give to what is found for each task, and puts away what the next passes start from.
    fn run_all(
        &self,
        ready: &ReadyPass,
        sides: &(RepairSide, RepairSide),
        found: &mut [Found],
    ) -> Result<(Option<Shelf>, Option<Shelf>), GatherError> {
        let mut kept = (Some(Frontier::shelf()), Some(Frontier::shelf()));
        for (start, numbers) in self.runs.chunks(AT_ONCE).enumerate() {
            if self.work.progress.stop() {
                return Err(GatherError::Cancelled);
            }
            let one = |(at, number): (usize, &usize)| {
                self.run_once(ready, sides, start * AT_ONCE + at, *number)
            };
            let results: Vec<PassRun> = numbers
                .par_iter()
                .enumerate()
                .map(one)
                .collect::<Result<_, _>>()?;
            for (number, result) in numbers.iter().zip(results) {
                for ((into, task), rows) in found.iter_mut().zip(&ready.tasks).zip(result.rows) {
                    into.add(task, held_out(*number, self.runs.len()), rows);
                }
                kept = (
                    put_away(kept.0, result.original),
                    put_away(kept.1, result.mended),
                );
            }
        }
        Ok(kept)
    }

    /// Runs both models on a batch of this number, the `at`th of all.
    fn run_once(
        &self,
        ready: &ReadyPass,
        (ours, theirs): &(RepairSide, RepairSide),
        at: usize,
        number: usize,
    ) -> Result<PassRun, GatherError> {
        let inputs = self.batches.fetch(number)?;
        let ran = (
            ours.frontier.run(&ready.original, at, inputs.clone()),
            theirs.frontier.run(&ready.mended, at, inputs),
        );
        let (ran, ran_mended) = (
            ran.0.map_err(GatherError::Run)?,
            ran.1.map_err(GatherError::Run)?,
        );
        let count = self.runs.len();
        let rows = ready.tasks.iter().zip(&ready.named).map(|(task, named)| {
            let axis = theirs.axes.axis(task.data());
            let counting = Counting::of(self.batches, number, axis);
            named.rows(task, (number, counting), &ran, &ran_mended, count)
        });
        Ok(PassRun {
            rows: rows.collect(),
            original: Frontier::keeps(&ready.original, &ran, count),
            mended: Frontier::keeps(&ready.mended, &ran_mended, count),
        })
    }
}

/// The tasks of one depth, and the parts of both models that lead up to them.
struct ReadyPass<'a> {
    tasks: Vec<&'a Task>,
    named: Vec<NamedLayer>,
    original: FrontierPart,
    mended: FrontierPart,
}

/// What one run gives.
struct PassRun {
    /// Rows of each task.
    rows: Vec<(Option<Rows>, Option<Patches>)>,
    /// What is kept of both models; `None` where that is too much.
    original: Option<Tensors>,
    mended: Option<Tensors>,
}

/// Puts away what is kept of a run; nothing is kept any more where that is too much.
fn put_away(shelf: Option<Shelf>, run: Option<Tensors>) -> Option<Shelf> {
    let (mut shelf, run) = shelf.zip(run)?;
    match shelf.put(run) {
        Ok(()) => Some(shelf),
        Err(error) => {
            tracing::warn!(
                "activations can not be put away, so that more has to be computed again: {error}"
            );
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
