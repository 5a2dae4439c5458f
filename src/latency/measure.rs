//! How long runs take, models side by side.

use std::time::{Duration, Instant};

use crate::run::{RunError, Session, Tensors};

/// Milliseconds of several runs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spread {
    /// The fastest run: what a quiet machine gives.
    pub least: f64,
    /// The median.
    pub median: f64,
}

/// Median milliseconds of a run of each session on the same input; see [`spread`].
///
/// Errors: the first run that fails.
pub fn latency(
    sessions: &[&dyn Session],
    inputs: &Tensors,
    runs: usize,
    budget: Duration,
) -> Result<Vec<f64>, RunError> {
    Ok(spread(sessions, inputs, runs, budget)?
        .into_iter()
        .map(|spread| spread.median)
        .collect())
}

/// Milliseconds of a run of each session on the same input, one thread, the sessions taking turns so that a machine that slows
/// down slows all of them. Stops after `runs` rounds or when `budget` is used up, though not before three rounds; after one
/// where running each once to warm up took longer than the budget.
///
/// Errors: the first run that fails.
pub fn spread(
    sessions: &[&dyn Session],
    inputs: &Tensors,
    runs: usize,
    budget: Duration,
) -> Result<Vec<Spread>, RunError> {
    const LEAST: usize = 3;
    let warm_up = Instant::now();
    for session in sessions {
        session.run(inputs)?;
    }
    let least = if warm_up.elapsed() > budget { 1 } else { LEAST };
    let begin = Instant::now();
    let mut times: Vec<Vec<f64>> = vec![Vec::with_capacity(runs); sessions.len()];
    for round in 0..runs.max(least) {
        if round >= least && begin.elapsed() > budget {
            break;
        }
        for (session, times) in sessions.iter().zip(&mut times) {
            times.push(session.time(inputs)?);
        }
    }
    let spread = |times: Vec<f64>| Spread {
        least: times.iter().copied().fold(f64::INFINITY, f64::min),
        median: median(times),
    };
    Ok(times.into_iter().map(spread).collect())
}

fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    let middle = times.len() / 2;
    match (times.get(middle), times.len() % 2) {
        (Some(upper), 1) => *upper,
        (Some(upper), _) => (upper + times.get(middle.wrapping_sub(1)).unwrap_or(upper)) / 2.0,
        (None, _) => f64::NAN,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians() {
        assert_eq!(median(vec![3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(vec![4.0, 1.0, 2.0, 3.0]), 2.5);
    }
}
