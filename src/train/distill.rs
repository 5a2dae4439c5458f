//! Retraining with the original as teacher (Hinton et al., *Distilling the knowledge in a neural network*, 2015): no labels are
//! needed, and no more inputs than calibration has.

use rand_chacha::ChaCha8Rng;

use super::TrainError;
use super::adamw::AdamW;
use super::aims::shared;
use super::loss::{Aim, variance};
use super::network::Run;
use super::samples::{can_be_stacked, stacked};
use super::student::Student;
use super::views::Views;
use crate::analysis::{Pins, infer};
use crate::calibrate::held_out;
use crate::gradient::Array;
use crate::inputs::Batches;
use crate::model::Model;
use crate::progress::{Phase, Work};
use crate::recover::Teacher;
use crate::rng::rng;
use crate::run::{Runtime, Tensors};

/// How plans name weights that were trained.
pub const TRAINED: &str = "distill";

/// How to retrain.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Training {
    /// Steps of a batch; chosen by the model's size where `None`.
    pub steps: Option<usize>,
    /// Seed of batches and views.
    pub seed: u64,
    /// Whether single weights that are zero stay so.
    pub keeps_zeros: bool,
}

/// A point of the learning curve.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize)]
pub struct Lesson {
    /// Steps done.
    pub step: usize,
    /// Error of the outputs on inputs that were not learnt from, relative to how much the original's vary.
    pub held_out: f64,
}

/// How a model was retrained, and what came of it.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct TrainingRecord {
    /// Steps that were taken.
    pub steps: usize,
    /// Inputs of a step.
    pub batch: usize,
    /// In which views inputs were learnt from.
    pub views: String,
    /// Inputs that were not learnt from, by which the best weights were chosen.
    pub judged_by: usize,
    /// The learning curve, from before the first step.
    pub curve: Vec<Lesson>,
    /// Nodes without a derivative, before which weights stay as they are.
    pub stops: Vec<String>,
}

impl TrainingRecord {
    /// Error before the first step, and the least that was found.
    pub fn errors(&self) -> (f64, f64) {
        let errors = || self.curve.iter().map(|lesson| lesson.held_out);
        (
            errors().next().unwrap_or(0.0),
            errors().fold(f64::INFINITY, f64::min),
        )
    }
}

impl std::fmt::Display for TrainingRecord {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (before, after) = self.errors();
        write!(
            f,
            "trained for {} steps of {} inputs (views: {}): squared error of the outputs on {} inputs that were not learnt from \
             {before:.4} → {after:.4} of their variance",
            self.steps, self.batch, self.views, self.judged_by
        )?;
        match &self.stops[..] {
            [] => Ok(()),
            [only] => write!(
                f,
                "; what {only} reads stayed as it was, for it has no derivative"
            ),
            [first, more @ ..] => write!(
                f,
                "; what {first} and {} nodes more read stayed as it was, for they have no derivative",
                more.len()
            ),
        }
    }
}

/// What retraining came to.
#[derive(Debug)]
pub struct Trained {
    /// The model with the best weights; those that it came with where none were better.
    pub model: Model,
    /// How it came to them.
    pub record: TrainingRecord,
}

/// The largest rate.
const RATE: f64 = 1e-3;
/// What all sums inside count, beside all outputs.
const SUMS: f64 = 1.0;
/// Inputs of a step at most.
const BATCH: usize = 64;
/// Bytes of values that a step may keep.
const ALIVE: usize = 1 << 30;
/// Multiplications that training may take where the number of steps is not given: some twenty minutes on two cores,
const WORK: f64 = 2.4e13;
/// and the number of steps within which that may move.
const STEPS: (usize, usize) = (200, 4000);
/// What a run and its derivatives take, in runs.
const BACKWARD: f64 = 3.0;
/// Looks at inputs that are not learnt from.
const LOOKS: usize = 20;
/// Inputs that are not learnt from, at most.
const HELD_OUT: usize = 256;
/// The share of rows that must keep their class in a view.
const NEAR: f64 = 0.8;

/// All that a step needs.
struct Course<'a> {
    inputs: &'a dyn Batches,
    teacher: Student,
    student: Student,
    aims: Vec<Aim>,
    outputs: usize,
    learnt: Vec<usize>,
    judged: Vec<Vec<usize>>,
    /// How many inputs these are.
    judges: usize,
    batch: usize,
    /// About how many multiplications a step takes.
    work: f64,
    training: Training,
}

/// Trains the weights of a pruned model towards what the original gives. Errors: nothing can be trained, inputs that cannot be
/// read, a part that does not run, a stop asked for.
pub fn distill(
    teacher: Teacher,
    pruned: Model,
    inputs: &dyn Batches,
    runtime: &dyn Runtime,
    training: &Training,
    work: &Work,
) -> Result<Trained, TrainError> {
    let mut course = Course::new(teacher, &pruned, inputs, runtime, training)?;
    let views = course.views()?;
    let steps = training.steps.unwrap_or_else(|| steps_within(course.work));
    work.progress.begin(Phase::Recover, steps as u64);
    let mut adam = AdamW::new(&course.student.weights, RATE, steps);
    let mut best = course.student.weights.clone();
    let mut curve = vec![Lesson {
        step: 0,
        held_out: course.held_out_error()?,
    }];
    let mut least = curve[0].held_out;
    for step in 1..=steps {
        if work.progress.stop() {
            return Err(TrainError::Cancelled);
        }
        let loss = course.step(&mut adam, &views, step)?;
        work.progress.advance(1);
        if step % steps.div_ceil(LOOKS) != 0 && step != steps {
            continue;
        }
        let held_out = course.held_out_error()?;
        tracing::debug!(step, loss, held_out, "training");
        curve.push(Lesson { step, held_out });
        if held_out < least {
            least = held_out;
            best.clone_from(&course.student.weights);
        }
        if !held_out.is_finite() {
            break;
        }
    }
    let mut model = pruned;
    course.student.network.store(&mut model, &best)?;
    let record = TrainingRecord {
        steps,
        batch: course.batch,
        views: views.to_string(),
        judged_by: course.judges,
        curve,
        stops: course.student.network.stops,
    };
    Ok(Trained { model, record })
}

impl<'a> Course<'a> {
    fn new(
        teacher: Teacher,
        pruned: &Model,
        inputs: &'a dyn Batches,
        runtime: &dyn Runtime,
        training: &Training,
    ) -> Result<Self, TrainError> {
        let count = inputs.count();
        let (judged, learnt): (Vec<usize>, Vec<usize>) =
            (0..count).partition(|run| held_out(*run, count));
        let Some(single) = inputs
            .example()?
            .filter(|_| !learnt.is_empty() && !judged.is_empty())
        else {
            return Err(TrainError::TooFewInputs(count));
        };
        let dims =
            |tensor: &crate::model::TensorRef| tensor.dims.iter().map(|dim| *dim as i64).collect();
        let pins: Pins = single
            .iter()
            .map(|(name, tensor)| (name.clone(), dims(tensor)))
            .collect();
        let facts = infer(pruned, &pins);
        let values = shared(
            teacher.model,
            teacher.analysis,
            teacher.selection,
            pruned,
            &facts,
        );
        let names: Vec<String> = values.iter().map(|value| value.name.clone()).collect();
        let (alone, kept) = ran(pruned, &single, &names, runtime)?;
        let (original, seen) = ran(teacher.model, &single, &names, runtime)?;
        let work = original.work(&seen, &single)? + BACKWARD * alone.work(&kept, &single)?;
        let rows = single
            .values()
            .filter_map(|tensor| tensor.dims.first())
            .copied()
            .max()
            .unwrap_or(1)
            .max(1);
        let fits = (ALIVE / kept.bytes().max(1)).clamp(1, BATCH.div_ceil(rows));
        let batch = if can_be_stacked(pruned) {
            fits.min(learnt.len())
        } else {
            1
        };
        let example = stacked(inputs, &learnt[..batch])?;
        let teacher = Student::new(teacher.model, &example, &names, runtime)?;
        let student = Student::new(pruned, &example, &names, runtime)?;
        let outputs = values.iter().filter(|value| value.is_output).count();
        let seen = teacher.outputs(&example)?;
        let sums = (values.len() - outputs).max(1) as f64;
        let aims = values.into_iter().zip(&seen).map(|(value, seen)| Aim {
            weight: if value.is_output {
                1.0 / outputs.max(1) as f64
            } else {
                SUMS / sums
            },
            kept: value.kept,
            variance: variance(seen),
        });
        let judged: Vec<usize> = judged.into_iter().take(HELD_OUT).collect();
        let judges = judged.len();
        // Batches of one size only, for the part that a runtime computes is made ready for that.
        let judged = (0..judged.len().div_ceil(batch))
            .map(|at| {
                (0..batch)
                    .map(|of| judged[(at * batch + of) % judged.len()])
                    .collect()
            })
            .collect();
        Ok(Course {
            inputs,
            aims: aims.collect(),
            teacher,
            student,
            outputs,
            learnt,
            judged,
            judges,
            batch,
            work: work * batch as f64,
            training: *training,
        })
    }

    /// The views in which the original still sees what it saw.
    fn views(&self) -> Result<Views, TrainError> {
        let batch = stacked(self.inputs, &self.learnt[..self.batch])?;
        let mut views = Views::possible(&batch);
        let plain = self.teacher.outputs(&batch)?;
        let keeps = |views: Views| -> Result<bool, TrainError> {
            let seen = views.apply(&batch, &mut rng(self.training.seed, "views"));
            Ok(agreement(&plain[0], &self.teacher.outputs(&seen)?[0]) >= NEAR)
        };
        views.flip = views.flip
            && keeps(Views {
                flip: true,
                ..Views::default()
            })?;
        views.shift = views.shift
            && keeps(Views {
                shift: true,
                ..Views::default()
            })?;
        Ok(views)
    }

    /// One batch, in a view of it.
    fn draw(&self, views: &Views, step: usize) -> Result<Tensors, TrainError> {
        let mut random: ChaCha8Rng = rng(self.training.seed, &format!("training step {step}"));
        let runs: Vec<usize> = rand::seq::index::sample(&mut random, self.learnt.len(), self.batch)
            .iter()
            .map(|at| self.learnt[at])
            .collect();
        Ok(views.apply(&stacked(self.inputs, &runs)?, &mut random))
    }

    fn step(&mut self, adam: &mut AdamW, views: &Views, step: usize) -> Result<f64, TrainError> {
        let batch = self.draw(views, step)?;
        let targets = self.teacher.outputs(&batch)?;
        let given = self.student.given(&batch)?;
        let run = self.student.run(&given, true)?;
        let network = &self.student.network;
        let (mut loss, mut seeds) = (0.0, Vec::new());
        for ((value, aim), target) in network.outputs.iter().zip(&self.aims).zip(&targets) {
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
    fn held_out_error(&self) -> Result<f64, TrainError> {
        let (mut sum, mut count) = (0.0, 0);
        for runs in &self.judged {
            let batch = stacked(self.inputs, runs)?;
            let (targets, found) = (self.teacher.outputs(&batch)?, self.student.outputs(&batch)?);
            let outputs = found
                .iter()
                .zip(&targets)
                .zip(&self.aims)
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
) -> Result<(Student, Run), TrainError> {
    let student = Student::new(model, single, names, runtime)?;
    let run = student.run(&student.given(single)?, true)?;
    Ok((student, run))
}

/// Steps that fit into the usual work, where each takes so many multiplications.
fn steps_within(each: f64) -> usize {
    ((WORK / each.max(1.0)) as usize).clamp(STEPS.0, STEPS.1)
}

/// Takes the gradients of matrix entries that are zero away.
fn hold_zeros(weights: &[Array], gradients: &mut [Option<Array>]) {
    for (weight, gradient) in weights.iter().zip(gradients) {
        let (Some(gradient), true) = (gradient, weight.dims.len() > 1) else {
            continue;
        };
        for (gradient, weight) in gradient.data.iter_mut().zip(&weight.data) {
            if *weight == 0.0 {
                *gradient = 0.0;
            }
        }
    }
}

/// The longest step that gradients may ask for, as a norm.
const LONGEST: f64 = 5.0;

/// Shortens gradients whose norm is too long (Pascanu et al. 2013).
fn clip(gradients: &mut [Option<Array>]) {
    let squares = gradients.iter().flatten().map(|gradient| {
        gradient
            .data
            .iter()
            .map(|x| f64::from(*x).powi(2))
            .sum::<f64>()
    });
    let norm = squares.sum::<f64>().sqrt();
    if norm > LONGEST {
        let factor = (LONGEST / norm) as f32;
        for gradient in gradients.iter_mut().flatten() {
            *gradient = gradient.map(|x| x * factor);
        }
    }
}

/// The share of rows whose largest entry is in the same place.
fn agreement(one: &Array, other: &Array) -> f64 {
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
