//! Retraining with the original as teacher (Hinton et al., *Distilling the knowledge in a neural network*, 2015): no labels are
//! needed, and no more inputs than calibration has.

use std::time::{Duration, Instant};

use super::checkpoint::{Keeper, StateIdentity};
use super::course::Course;
use super::lessons::CourseState;
use super::rate::{self, RATE, try_rates};
use super::{Lesson, TrainError, Trained, Training, TrainingData, TrainingRecord};
use crate::inputs::Views;
use crate::model::Model;
use crate::progress::{Phase, Work};
use crate::recover::Teacher;
use crate::run::Runtime;

/// Multiplications that training may take where the number of steps is not given: half an hour to an hour on two
/// cores,
const WORK: f64 = 3.2e13;
/// and the number of steps within which that may move.
const STEPS: (usize, usize) = (200, 4000);
/// Looks at inputs that are not learnt from.
const LOOKS: usize = 20;

/// Trains the weights of a pruned model towards what the original gives. Errors: nothing can be trained, inputs that cannot be
/// read, classes or a kept state that do not fit, a part that does not run, a stop asked for.
pub fn distill(
    teacher: Teacher,
    pruned: Model,
    data: TrainingData,
    runtime: &dyn Runtime,
    training: &Training,
    work: &Work,
) -> Result<Trained, TrainError> {
    let mut course = Course::new(teacher, &pruned, data, runtime, training)?;
    let views = course.views()?;
    let steps = training.steps.unwrap_or_else(|| steps_within(course.work));
    let steps = steps.div_ceil(training.courses.max(1));
    work.progress.begin(Phase::Train, steps as u64);
    let held_out = course.held_out_error()?;
    let mut state = CourseState::new(&course.student.weights, held_out, steps);
    let identity = StateIdentity::of(&course, (steps, &views, held_out), data, training);
    let mut keeper = Keeper::new(training.checkpoint.as_ref(), identity);
    match keeper.found(&state, &mut course.student.weights)? {
        Some(kept) => {
            state = kept;
            work.progress.advance(state.step as u64);
        }
        None => {
            let tried = try_rates(&mut course, steps, &views, work)?;
            state.adam.largest = rate::best(&tried).map_or(RATE, |(rate, _)| rate);
        }
    }
    let rate = state.adam.largest;
    learn(&mut course, (&mut state, steps), &views, &mut keeper, work)?;
    let mut model = pruned;
    course.student.network().store(&mut model, &state.best)?;
    let record = TrainingRecord {
        steps,
        batch: course.batch,
        rate,
        loss: course.loss(),
        labelled: course.classes.as_ref().map_or(0, |classes| classes.count()),
        views: views.to_string(),
        judged_by: course.judges(),
        curve: state.curve,
        stops: course.student.network().stops.clone(),
        earlier: Vec::new(),
    };
    Ok(Trained { model, record })
}

/// Takes the steps that are left, and keeps the state on the way.
fn learn(
    course: &mut Course,
    (state, steps): (&mut CourseState, usize),
    views: &Views,
    keeper: &mut Keeper,
    work: &Work,
) -> Result<(), TrainError> {
    let pace = Pace {
        began: (Instant::now(), state.step),
        batch: course.batch,
        steps,
    };
    // What is no number cannot get better.
    while state.step < steps
        && state
            .curve
            .last()
            .is_some_and(|last| last.held_out.is_finite())
    {
        if work.progress.stop() {
            keeper.keep(state, &course.student.weights, work);
            return Err(TrainError::Cancelled);
        }
        let loss = course.step(&mut state.adam, views, state.step + 1)?;
        state.took(loss, &course.student.weights);
        work.progress.advance(1);
        if state.step % steps.div_ceil(LOOKS) == 0 || state.step == steps {
            let rate = state.adam.largest;
            let lesson = state.look(course)?;
            tracing::debug!(?lesson, "training");
            work.progress.remark(&pace.said(&lesson));
            if state.adam.largest < rate {
                let rate = state.adam.largest;
                let said = format!(
                    "train: steps led away; on from the best weights at a rate of {rate:.0e}"
                );
                work.progress.remark(&said);
            }
        }
        if keeper.is_due() {
            keeper.keep(state, &course.student.weights, work);
        }
    }
    keeper.end(state, &course.student.weights, work);
    Ok(())
}

/// How fast it goes.
struct Pace {
    /// When, and after how many steps.
    began: (Instant, usize),
    batch: usize,
    steps: usize,
}

impl Pace {
    /// How far training is, in one line.
    fn said(&self, lesson: &Lesson) -> String {
        let (began, from) = self.began;
        let seconds = began.elapsed().as_secs_f64().max(1e-3);
        let done = (lesson.step - from) as f64;
        let left = seconds / done.max(1.0) * (self.steps - lesson.step) as f64;
        let averaged = match lesson.averaged {
            Some(error) => format!(" (averaged {error:.4})"),
            None => String::new(),
        };
        format!(
            "train: step {} of {}, loss {:.4}, held-out error {:.4}{averaged}, {:.0} inputs/s, {} left",
            lesson.step,
            self.steps,
            lesson.loss.unwrap_or(0.0),
            lesson.held_out,
            done * self.batch as f64 / seconds,
            time(Duration::from_secs_f64(left))
        )
    }
}

/// A time as people say it.
fn time(time: Duration) -> String {
    match time.as_secs() {
        seconds @ 0..=99 => format!("{seconds} s"),
        seconds @ 100..=7199 => format!("{} min", (seconds + 30) / 60),
        seconds => format!("{:.1} h", seconds as f64 / 3600.0),
    }
}

/// Steps that fit into the usual work, where each takes so many multiplications.
fn steps_within(each: f64) -> usize {
    ((WORK / each.max(1.0)) as usize).clamp(STEPS.0, STEPS.1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_said_in_their_unit() {
        let said = |seconds: u64| time(Duration::from_secs(seconds));
        assert_eq!([7, 100, 7200].map(said), ["7 s", "2 min", "2.0 h"]);
    }
}
