//! All that the steps of training need: both models as networks, what is held against what, and which inputs are for what.

use rand::Rng;
use rand_chacha::ChaCha8Rng;

use super::adamw::AdamW;
use super::aims::{Shared, shared};
use super::classes::TrueClasses;
use super::limits::{clip, hold_zeros};
use super::loss::LossTerm;
use super::measure::{ErrorMeasure, OutputKind, OutputLoss};
use super::positions::{Marks, counted, mark, marks, position_axes, spare, take_marks};
use super::samples::{can_be_stacked, stacked};
use super::shares::Shares;
use super::student::Student;
use super::{TrainError, Training, TrainingData};
use crate::analysis::{Pins, infer};
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
/// The share of batches that are seen as they are, where true classes are known: what is mixed has no class of its own, and
/// the original alone says what it is to give.
const UNMIXED: f64 = 0.5;
/// The share of rows that must keep their class in a view.
const NEAR: f64 = 0.8;

/// One batch, in a view of it.
struct DrawnBatch {
    inputs: Tensors,
    /// Which positions count.
    marks: Marks,
    /// True classes, where they are known and learnt from.
    classes: Option<Vec<i64>>,
}

/// All that a step needs.
pub(super) struct Course<'a> {
    inputs: &'a dyn Batches,
    teacher: Student,
    pub student: Student,
    terms: Vec<LossTerm>,
    /// The axis of each term's value that positions of sequences lie along.
    axes: Vec<Option<usize>>,
    /// How many of the terms are of outputs.
    outputs: usize,
    /// True classes, where they are learnt from.
    pub classes: Option<TrueClasses>,
    shares: Shares,
    /// Inputs of a step.
    pub batch: usize,
    /// About how many multiplications a step takes.
    pub work: f64,
    training: &'a Training,
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

/// What is made small, from what the original gives on a batch, and the part of that which counts: outputs by what is asked for,
/// sums inside by squared error.
fn terms(
    values: Vec<Shared>,
    (seen, counting): (&[FloatArray], &[FloatArray]),
    asked: Option<OutputLoss>,
) -> Vec<LossTerm> {
    let outputs = values.iter().filter(|value| value.is_output).count();
    let sums = (values.len() - outputs).max(1) as f64;
    let term = |(value, (seen, counting)): (Shared, (&FloatArray, &FloatArray))| {
        let (weight, measure) = match value.is_output {
            true => {
                let measure = ErrorMeasure::of(asked, OutputKind::of(seen));
                (1.0 / outputs.max(1) as f64, measure)
            }
            false => (SUMS / sums, ErrorMeasure::Squared),
        };
        LossTerm {
            weight,
            kept: value.kept,
            measure,
            variation: measure.variation(counting),
        }
    };
    let pairs = seen.iter().zip(counting);
    values.into_iter().zip(pairs).map(term).collect()
}

impl<'a> Course<'a> {
    /// Makes both models ready. Errors: no output depends on weights that can be trained, too few inputs, classes that do not
    /// fit, a part that does not run.
    pub fn new(
        teacher: Teacher,
        pruned: &Model,
        data: TrainingData<'a>,
        runtime: &dyn Runtime,
        training: &'a Training,
    ) -> Result<Self, TrainError> {
        let inputs = data.inputs;
        let shares = Shares::new(inputs)?;
        let singles: Vec<Tensors> = shares
            .examples(1)
            .map(|runs| stacked(inputs, &runs))
            .collect::<Result<_, _>>()?;
        let single = &singles[0];
        let facts = infer(pruned, &pins(single));
        let values = shared(teacher, pruned, &facts)?;
        let outputs = values.iter().filter(|value| value.is_output).count();
        let names: Vec<String> = values.iter().map(|value| value.name.clone()).collect();
        let students =
            [pruned, teacher.model].map(|model| Student::new(model, &singles, &names, runtime));
        let [alone, original] = students;
        let work = RunWork::of(&original?, &alone?, &singles, &shares)?;
        let batch = runs_of_a_step(pruned, single, work.bytes, shares.learnt());
        let examples: Vec<Tensors> = shares
            .examples(batch)
            .map(|runs| stacked(inputs, &runs))
            .collect::<Result<_, _>>()?;
        let teacher = Student::new(teacher.model, &examples, &names, runtime)?;
        let seen = teacher.outputs(&examples[0])?;
        let axes = position_axes(pruned, inputs, &names);
        let runs = shares.examples(batch).next().unwrap_or_default();
        let marks = marks(inputs, &runs, &examples[0]);
        let pairs = seen.iter().zip(&axes);
        let counting: Vec<FloatArray> = pairs
            .map(|(seen, axis)| counted(seen, *axis, &marks))
            .collect();
        let labels = data.labels.filter(|_| training.labelled);
        let classes = labels.map(|ids| TrueClasses::new(ids, inputs, &seen[..outputs]));
        Ok(Course {
            inputs,
            student: Student::new(pruned, &examples, &names, runtime)?,
            terms: terms(values, (&seen, &counting), training.loss),
            axes,
            teacher,
            outputs,
            classes: classes.transpose()?,
            shares,
            batch,
            work: work.multiplications * batch as f64,
            training,
        })
    }

    /// How outputs are held against the original's, in words.
    pub fn loss(&self) -> String {
        let mut words: Vec<&str> = Vec::new();
        for term in self.terms.iter().take(self.outputs) {
            if !words.contains(&term.measure.words()) {
                words.push(term.measure.words());
            }
        }
        words.join(" and ")
    }

    /// How many inputs weights are judged by.
    pub fn judges(&self) -> usize {
        self.shares.judged()
    }

    /// The views in which the original still sees what it saw.
    pub fn views(&self) -> Result<Views, TrainError> {
        let runs = self.shares.examples(self.batch).next().unwrap_or_default();
        let batch = stacked(self.inputs, &runs)?;
        let plain = self.teacher.outputs(&batch)?;
        let views = self.training.augment.of_training(&batch);
        views.kept(|views| {
            let seen = views.apply(&batch, &mut rng(self.training.seed, "views"));
            Ok(agreement(&plain[0], &self.teacher.outputs(&seen)?[0]) >= NEAR)
        })
    }

    /// One batch, in a view of it.
    fn draw(&self, views: &Views, step: usize) -> Result<DrawnBatch, TrainError> {
        let mut random: ChaCha8Rng = rng(self.training.seed, &format!("training step {step}"));
        let runs = self.shares.draw(self.batch, &mut random);
        let classes = match &self.classes {
            Some(classes) if random.random_bool(UNMIXED) => Some(classes.of(&runs)),
            _ => None,
        };
        let views = match classes {
            Some(_) => Views {
                mix: false,
                splice: false,
                ..*views
            },
            None => *views,
        };
        let mut batch = stacked(self.inputs, &runs)?;
        mark(self.inputs, &runs, &mut batch);
        let mut inputs = views.apply(&batch, &mut random);
        Ok(DrawnBatch {
            marks: take_marks(&mut inputs),
            inputs,
            classes,
        })
    }

    /// One step; gives its loss.
    pub fn step(
        &mut self,
        adam: &mut AdamW,
        views: &Views,
        step: usize,
    ) -> Result<f64, TrainError> {
        let DrawnBatch {
            inputs: batch,
            marks,
            classes,
        } = self.draw(views, step)?;
        let targets = self.teacher.outputs(&batch)?;
        let given = self.student.given(&batch)?;
        let run = self.student.run(&given, true)?;
        let network = self.student.network();
        let (mut loss, mut seeds) = (0.0, Vec::new());
        for (at, (value, target)) in network.outputs.iter().zip(&targets).enumerate() {
            let Some(found) = run.value(*value) else {
                continue;
            };
            let (error, gradient) = self.error(at, found, (target, &marks));
            loss += error;
            seeds.push((*value, gradient));
        }
        if let (Some(known), Some(classes)) = (&self.classes, classes) {
            let output = network.outputs[known.output];
            if let Some(found) = run.value(output) {
                let (error, gradient) = known.error(found, &classes)?;
                loss += error;
                seeds.push((output, gradient));
            }
        }
        let mut gradients = self.student.gradients(&run, &given, seeds);
        if self.training.keeps_zeros {
            hold_zeros(&self.student.weights, &mut gradients);
        }
        clip(&mut gradients);
        adam.step(&mut self.student.weights, &gradients);
        Ok(loss)
    }

    /// The error of one term's value, at the positions that count, and its derivative.
    fn error(
        &self,
        term: usize,
        found: &FloatArray,
        (original, marks): (&FloatArray, &Marks),
    ) -> (f64, FloatArray) {
        let mut target = self.terms[term].of(original);
        if let (Some(axis), Some(marks)) = (self.axes[term], marks) {
            spare(&mut target, found, axis, marks);
        }
        self.terms[term].error(found, &target)
    }

    /// Error of the outputs on inputs that are not learnt from; true classes count there, too.
    pub fn held_out_error(&self) -> Result<f64, TrainError> {
        let (mut sum, mut count) = (0.0, 0);
        for runs in self.shares.judged_batches(self.batch) {
            let batch = stacked(self.inputs, &runs)?;
            let (targets, found) = (self.teacher.outputs(&batch)?, self.student.outputs(&batch)?);
            let marks = marks(self.inputs, &runs, &batch);
            let outputs = found.iter().zip(&targets).take(self.outputs).enumerate();
            sum += outputs
                .map(|(at, (found, target))| self.error(at, found, (target, &marks)).0)
                .sum::<f64>();
            if let Some(classes) = &self.classes {
                sum += classes.error(&found[classes.output], &classes.of(&runs))?.0;
            }
            count += 1;
        }
        Ok(sum / count.max(1) as f64)
    }

    /// The same with other weights.
    pub fn held_out_error_of(&mut self, weights: &[FloatArray]) -> Result<f64, TrainError> {
        let own = std::mem::replace(&mut self.student.weights, weights.to_vec());
        let error = self.held_out_error();
        self.student.weights = own;
        error
    }
}

/// What a step takes for each of its inputs, on average.
struct RunWork {
    /// About how many multiplications.
    multiplications: f64,
    /// Bytes of values that are kept, of the widest input.
    bytes: usize,
}

impl RunWork {
    /// From one input of each shape. Errors: a part that does not run.
    fn of(
        original: &Student,
        pruned: &Student,
        singles: &[Tensors],
        shares: &Shares,
    ) -> Result<Self, TrainError> {
        let (mut sum, mut bytes) = (0.0, 0);
        for (single, shares) in singles.iter().zip(&shares.0) {
            let ran = |student: &Student| student.run(&student.given(single)?, true);
            let (seen, kept) = (ran(original)?, ran(pruned)?);
            let work = original.work(&seen, single)? + BACKWARD * pruned.work(&kept, single)?;
            sum += work * shares.learnt.len() as f64;
            bytes = bytes.max(kept.bytes());
        }
        Ok(RunWork {
            multiplications: sum / shares.learnt() as f64,
            bytes,
        })
    }
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
