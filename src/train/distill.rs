//! Retraining with the original as teacher (Hinton et al., *Distilling the knowledge in a neural network*, 2015): no labels are
//! needed, and no more inputs than calibration has.

use super::adamw::AdamW;
use super::course::Course;
use super::{Lesson, TrainError, Trained, Training, TrainingRecord};
use crate::inputs::Batches;
use crate::model::Model;
use crate::progress::{Phase, Work};
use crate::recover::Teacher;
use crate::run::Runtime;

/// The largest rate.
const RATE: f64 = 1e-3;
/// Multiplications that training may take where the number of steps is not given: half an hour to an hour on two
/// cores,
const WORK: f64 = 3.2e13;
/// and the number of steps within which that may move.
const STEPS: (usize, usize) = (200, 4000);
/// Looks at inputs that are not learnt from.
const LOOKS: usize = 20;

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
        judged_by: course.judges(),
        curve,
        stops: course.student.network.stops,
    };
    Ok(Trained { model, record })
}

/// Steps that fit into the usual work, where each takes so many multiplications.
fn steps_within(each: f64) -> usize {
    ((WORK / each.max(1.0)) as usize).clamp(STEPS.0, STEPS.1)
}
