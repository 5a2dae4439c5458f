//! All that the steps of training need: both models as networks, what is held against what, and which inputs are for what.

use rand_chacha::ChaCha8Rng;

use super::adamw::AdamW;
use super::aims::{Shared, shared};
use super::limits::{clip, hold_zeros};
use super::loss::{LossTerm, variance};
use super::network::ForwardRun;
use super::samples::{can_be_stacked, stacked};
use super::student::Student;
use super::{TrainError, Training};
use crate::analysis::{Pins, infer};
use crate::calibrate::held_out;
use crate::gradient::FloatArray;
use crate::inputs::{Batches, Views};
use crate::model::{Model, TensorRef};
use crate::recover::Teacher;
use crate::rng::rng;
use crate::run::{Runtime, Tensors};

/// What all sums inside count, beside all outputs.
const SUMS: f64 = 1.0;
/// Inputs of a step at most.
const BATCH: usize = 64;
/// Bytes of values that a step may keep.
const ALIVE: usize = 1 << 30;
/// What a run and its derivatives take, in runs.
const BACKWARD: f64 = 3.0;
/// Inputs that are not learnt from, at most.
const HELD_OUT: usize = 256;
/// The share of rows that must keep their class in a view.
const NEAR: f64 = 0.8;

/// Which inputs are for what, as numbers of runs.
struct Shares {
    /// Those that are learnt from.
    learnt: Vec<usize>,
    /// Those that weights are judged by.
    judged: Vec<usize>,
}

/// All that a step needs.
pub(super) struct Course<'a> {
    inputs: &'a dyn Batches,
    teacher: Student,
    pub student: Student,
    terms: Vec<LossTerm>,
    /// How many of the terms are of outputs.
    outputs: usize,
    shares: Shares,
    /// Inputs of a step.
    pub batch: usize,
    /// About how many multiplications a step takes.
    pub work: f64,
    training: Training,
}

impl Shares {
    /// Errors: too few for both.
    fn new(count: usize) -> Result<Self, TrainError> {
        let (judged, learnt): (Vec<usize>, Vec<usize>) =
            (0..count).partition(|run| held_out(*run, count));
        let judged: Vec<usize> = judged.into_iter().take(HELD_OUT).collect();
        match learnt.is_empty() || judged.is_empty() {
            true => Err(TrainError::TooFewInputs(count)),
            false => Ok(Shares { learnt, judged }),
        }
    }

    /// The inputs that weights are judged by, in batches of one size (the last one begins anew), for the part that a runtime
    /// computes is made ready for that.
    fn judged_batches(&self, batch: usize) -> impl Iterator<Item = Vec<usize>> {
        let (judged, count) = (&self.judged, self.judged.len());
        (0..count.div_ceil(batch)).map(move |at| {
            let runs = at * batch..(at + 1) * batch;
            runs.map(|run| judged[run % count]).collect()
        })
    }
}

/// The shapes of some inputs.
fn pins(inputs: &Tensors) -> Pins {
    let dims = |tensor: &TensorRef| tensor.dims.iter().map(|dim| *dim as i64).collect();
    let pin = |(name, tensor): (&String, &TensorRef)| (name.clone(), dims(tensor));
    inputs.iter().map(pin).collect()
}

/// How many runs are put together for a step: as many as fit, where the model can take several as one.
fn runs_of_a_step(model: &Model, single: &Tensors, kept: usize, learnt: usize) -> usize {
    let rows = single.values().filter_map(|tensor| tensor.dims.first());
    let rows = rows.copied().max().unwrap_or(1).max(1);
    let fits = (ALIVE / kept.max(1)).clamp(1, BATCH.div_ceil(rows));
    if can_be_stacked(model) {
        fits.min(learnt)
    } else {
        1
    }
}

/// What is made small, from what the original gives on a batch.
fn terms(values: Vec<Shared>, seen: &[FloatArray]) -> Vec<LossTerm> {
    let outputs = values.iter().filter(|value| value.is_output).count();
    let sums = (values.len() - outputs).max(1) as f64;
    let term = |(value, seen): (Shared, &FloatArray)| LossTerm {
        weight: match value.is_output {
            true => 1.0 / outputs.max(1) as f64,
            false => SUMS / sums,
        },
        kept: value.kept,
        variance: variance(seen),
    };
    values.into_iter().zip(seen).map(term).collect()
}

impl<'a> Course<'a> {
    /// Makes both models ready. Errors: no output depends on weights that can be trained, too few inputs, a part that does not run.
    pub fn new(
        teacher: Teacher,
        pruned: &Model,
        inputs: &'a dyn Batches,
        runtime: &dyn Runtime,
        training: &Training,
    ) -> Result<Self, TrainError> {
        let shares = Shares::new(inputs.count())?;
        let single = inputs.fetch(0)?;
        let facts = infer(pruned, &pins(&single));
        let values = shared(teacher, pruned, &facts)?;
        let outputs = values.iter().filter(|value| value.is_output).count();
        let names: Vec<String> = values.iter().map(|value| value.name.clone()).collect();
        let (alone, kept) = ran(pruned, &single, &names, runtime)?;
        let (original, seen) = ran(teacher.model, &single, &names, runtime)?;
        let work = original.work(&seen, &single)? + BACKWARD * alone.work(&kept, &single)?;
        let batch = runs_of_a_step(pruned, &single, kept.bytes(), shares.learnt.len());
        let example = stacked(inputs, &shares.learnt[..batch])?;
        let teacher = Student::new(teacher.model, &example, &names, runtime)?;
        Ok(Course {
            inputs,
            student: Student::new(pruned, &example, &names, runtime)?,
            terms: terms(values, &teacher.outputs(&example)?),
            teacher,
            outputs,
            shares,
            batch,
            work: work * batch as f64,
            training: *training,
        })
    }

    /// How many inputs weights are judged by.
    pub fn judges(&self) -> usize {
        self.shares.judged.len()
    }

    /// The views in which the original still sees what it saw.
    pub fn views(&self) -> Result<Views, TrainError> {
        let batch = stacked(self.inputs, &self.shares.learnt[..self.batch])?;
        let plain = self.teacher.outputs(&batch)?;
        let views = self.training.augment.of_training(&batch);
        views.kept(|views| {
            let seen = views.apply(&batch, &mut rng(self.training.seed, "views"));
            Ok(agreement(&plain[0], &self.teacher.outputs(&seen)?[0]) >= NEAR)
        })
    }

    /// One batch, in a view of it.
    fn draw(&self, views: &Views, step: usize) -> Result<Tensors, TrainError> {
        let mut random: ChaCha8Rng = rng(self.training.seed, &format!("training step {step}"));
        let runs: Vec<usize> =
            rand::seq::index::sample(&mut random, self.shares.learnt.len(), self.batch)
                .iter()
                .map(|at| self.shares.learnt[at])
                .collect();
        Ok(views.apply(&stacked(self.inputs, &runs)?, &mut random))
    }

    pub fn step(
        &mut self,
        adam: &mut AdamW,
        views: &Views,
        step: usize,
    ) -> Result<f64, TrainError> {
        let batch = self.draw(views, step)?;
        let targets = self.teacher.outputs(&batch)?;
        let given = self.student.given(&batch)?;
        let run = self.student.run(&given, true)?;
        let network = &self.student.network;
        let (mut loss, mut seeds) = (0.0, Vec::new());
        for ((value, aim), target) in network.outputs.iter().zip(&self.terms).zip(&targets) {
            let Some(found) = run.value(*value) else {
                continue;
            };
            let (error, gradient) = aim.error(found, &aim.of(target));
            loss += error;
            seeds.push((*value, gradient));
        }
        let mut gradients = network.gradients(&run, &self.student.weights, &given, seeds);
        if self.training.keeps_zeros {
            hold_zeros(&self.student.weights, &mut gradients);
        }
        clip(&mut gradients);
        adam.step(&mut self.student.weights, &gradients);
        Ok(loss)
    }

    /// Error of the outputs on inputs that are not learnt from.
    pub fn held_out_error(&self) -> Result<f64, TrainError> {
        let (mut sum, mut count) = (0.0, 0);
        for runs in self.shares.judged_batches(self.batch) {
            let batch = stacked(self.inputs, &runs)?;
            let (targets, found) = (self.teacher.outputs(&batch)?, self.student.outputs(&batch)?);
            let outputs = found
                .iter()
                .zip(&targets)
                .zip(&self.terms)
                .take(self.outputs);
            sum += outputs
                .map(|((found, target), aim)| aim.error(found, &aim.of(target)).0)
                .sum::<f64>();
            count += 1;
        }
        Ok(sum / count.max(1) as f64)
    }
}

/// A run of a model on one input, all values kept.
fn ran(
    model: &Model,
    single: &Tensors,
    names: &[String],
    runtime: &dyn Runtime,
) -> Result<(Student, ForwardRun), TrainError> {
    let student = Student::new(model, single, names, runtime)?;
    let run = student.run(&student.given(single)?, true)?;
    Ok((student, run))
}

/// The share of rows whose largest entry is in the same place.
fn agreement(one: &FloatArray, other: &FloatArray) -> f64 {
    let row = one.dims.last().copied().unwrap_or(1).max(1);
    let largest = |row: &[f32]| {
        row.iter()
            .enumerate()
            .max_by(|a, b| a.1.total_cmp(b.1))
            .map(|(at, _)| at)
    };
    let same = one
        .data
        .chunks(row)
        .zip(other.data.chunks(row))
        .filter(|(a, b)| largest(a) == largest(b))
        .count();
    same as f64 / (one.data.len() / row).max(1) as f64
}
