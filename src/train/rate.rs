//! The learning rate, by trial: a short course at each of some rates, from the same weights over the same batches, and the one
//! whose weights err least on inputs that are not learnt from. What is too fast for a model differs by orders of magnitude
//! between kinds of networks, and shows within a few dozen steps.

use super::TrainError;
use super::adamw::AdamW;
use super::course::Course;
use crate::inputs::Views;
use crate::progress::Work;

/// The largest rate of a course, where it is not chosen by trial.
pub(super) const RATE: f64 = 1e-3;
/// How much slower the next one is that is tried.
const SLOWER: f64 = 0.3;
/// Rates that are tried at most.
const TRIED: usize = 3;
/// The share of the steps that each trial takes,
const SHARE: f64 = 0.04;
/// but no fewer steps and no more; where so few are not that share, nothing is tried.
const STEPS: (usize, usize) = (24, 100);
/// A longer course gains more by a high rate than a short one: a lower one has to be so much better.
const BETTER: f64 = 0.98;

/// A rate that was tried, and the error that its trial came to.
pub(super) type TriedRate = (f64, f64);

/// How many steps a trial takes; `None`: there are too few for trials.
fn steps_of_trial(steps: usize) -> Option<usize> {
    let share = (steps as f64 * SHARE) as usize;
    (share >= STEPS.0).then(|| share.min(STEPS.1))
}

/// Tries rates, the highest first, as long as each is better than the one before. The weights are as they were afterwards.
/// Nothing is tried for a course of few steps. Errors: a part that does not run, a stop asked for.
pub(super) fn try_rates(
    course: &mut Course,
    steps: usize,
    views: &Views,
    work: &Work,
) -> Result<Vec<TriedRate>, TrainError> {
    let mut tried: Vec<TriedRate> = Vec::new();
    let Some(steps) = steps_of_trial(steps) else {
        return Ok(tried);
    };
    let start = course.student.weights.clone();
    let mut rate = RATE;
    while tried.len() < TRIED {
        let mut adam = AdamW::new(&start, rate, steps);
        for step in 0..steps {
            if work.progress.stop() {
                return Err(TrainError::Cancelled);
            }
            course.step(&mut adam, views, step)?;
        }
        let error = course.held_out_error()?;
        course.student.weights.clone_from(&start);
        work.progress.remark(&format!(
            "train: {steps} steps at a rate of {rate:.0e} end at a held-out error of {error:.4}"
        ));
        let is_worse = best(&tried).is_some_and(|(_, least)| error >= BETTER * least);
        tried.push((rate, error));
        if is_worse {
            break;
        }
        rate *= SLOWER;
    }
    Ok(tried)
}

/// The rate to take of those that were tried: the highest that no lower one is clearly better than.
pub(super) fn best(tried: &[TriedRate]) -> Option<TriedRate> {
    let first = *tried.first()?;
    Some(tried.iter().fold(first, |best, next| {
        let is_better = next.1 < BETTER * best.1 || (best.1.is_nan() && !next.1.is_nan());
        if is_better { *next } else { best }
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_highest_rate_stands_unless_a_lower_one_is_clearly_better() {
        assert_eq!(best(&[]), None);
        assert_eq!(best(&[(1e-3, 0.20), (3e-4, 0.199)]), Some((1e-3, 0.20)));
        assert_eq!(
            best(&[(1e-3, 0.20), (3e-4, 0.15), (9e-5, 0.16)]),
            Some((3e-4, 0.15))
        );
        assert_eq!(best(&[(1e-3, f64::NAN), (3e-4, 0.3)]), Some((3e-4, 0.3)));
    }

    #[test]
    fn short_courses_try_nothing() {
        assert_eq!(steps_of_trial(500), None);
        assert_eq!(steps_of_trial(1000), Some(40));
        assert_eq!(steps_of_trial(40_000), Some(100));
    }
}
