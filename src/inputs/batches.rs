//! Runs over inputs that are made when they are asked for, some at a time.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::fmt::Debug;

use rayon::prelude::*;

use super::{DataError, Inputs, Tensors};
use crate::model::TensorRef;
use crate::progress::Work;
use crate::run::Session;

/// Inputs of a model, one run after the other, made when they are asked for.
pub trait Batches: Debug + Send + Sync {
    /// How many there are.
    fn count(&self) -> usize;

    /// One of them. Errors: it can not be read.
    fn fetch(&self, number: usize) -> Result<Tensors, DataError>;

    /// The first of those whose sequences are longest, or of all; `None` where there is none. Errors: it can not be read.
    fn example(&self) -> Result<Option<Tensors>, DataError> {
        let runs: Vec<usize> = (0..self.count()).collect();
        Ok(examples(self, &runs)?.into_iter().next())
    }

    /// How much of its sequences counts in a run; `None`: all of everything, and all runs have the same shapes.
    fn sequence(&self, _number: usize) -> Option<Sequence> {
        None
    }

    /// The axis of each input that sequences lie along, where only a part of them counts.
    fn sequence_axes(&self) -> Option<&SequenceInputs> {
        None
    }
}

/// Inputs that hold sequences, and the axis of each that these lie along.
pub type SequenceInputs = BTreeMap<String, usize>;

/// Sequences of one run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sequence {
    /// Positions that count: the others cannot reach an output.
    pub counts: usize,
    /// Positions that there are.
    pub width: usize,
}

/// One of some runs of each width of sequences, the widest first: runs of one width have the same shapes. Errors: one that
/// can not be read.
pub fn examples<B: Batches + ?Sized>(
    batches: &B,
    runs: &[usize],
) -> Result<Vec<Tensors>, DataError> {
    let mut first = BTreeMap::new();
    for run in runs {
        let width = batches.sequence(*run).map_or(0, |sequence| sequence.width);
        first.entry(Reverse(width)).or_insert(*run);
    }
    first.values().map(|run| batches.fetch(*run)).collect()
}

/// The same of all runs of two sets of inputs, of which the second may be empty: those of the first, then what is new. Errors: one
/// that cannot be read.
pub fn examples_of_both(
    first: &dyn Batches,
    second: Option<&dyn Batches>,
) -> Result<Vec<Tensors>, DataError> {
    let of = |inputs: &dyn Batches| examples(inputs, &(0..inputs.count()).collect::<Vec<_>>());
    let mut all = of(first)?;
    let second = second.filter(|inputs| inputs.sequence_axes().is_some());
    let dims = |tensors: &Tensors| -> Vec<Vec<usize>> {
        tensors.values().map(|tensor| tensor.dims.clone()).collect()
    };
    for example in second.map_or_else(|| Ok(Vec::new()), of)? {
        if all.iter().all(|other| dims(other) != dims(&example)) {
            all.push(example);
        }
    }
    Ok(all)
}

impl Batches for Inputs {
    fn count(&self) -> usize {
        self.len()
    }

    fn fetch(&self, number: usize) -> Result<Tensors, DataError> {
        self.batch(number)
    }
}

impl Batches for Vec<Tensors> {
    fn count(&self) -> usize {
        self.len()
    }

    fn fetch(&self, number: usize) -> Result<Tensors, DataError> {
        Ok(self[number].clone())
    }
}

/// Why runs over inputs came to nothing.
#[derive(Debug, thiserror::Error)]
pub enum GatherError {
    /// The inputs can not be read.
    #[error(transparent)]
    Data(#[from] DataError),
    /// The model does not run.
    #[error("{0}")]
    Run(String),
    /// Somebody asked to stop.
    #[error("stopped")]
    Cancelled,
}

/// Bytes of results that may be alive at once.
const ALIVE: usize = 256 << 20;
/// Runs at once, at most.
const RUNS: usize = 32;

/// Makes something of some inputs, of so many at once that what is made, `bytes` of each, fits in memory, and hands it on
/// in order.
pub fn in_order<T: Send>(
    batches: &dyn Batches,
    runs: &[usize],
    work: &Work,
    make: impl Fn(usize, Tensors) -> Result<T, GatherError> + Sync,
    bytes: impl Fn(&T) -> usize,
    mut take: impl FnMut(&[usize], Vec<T>) -> Result<(), GatherError>,
) -> Result<(), GatherError> {
    let (mut start, mut at_once) = (0, rayon::current_num_threads().clamp(1, RUNS));
    while start < runs.len() {
        if work.progress.stop() {
            return Err(GatherError::Cancelled);
        }
        let numbers = &runs[start..(start + at_once).min(runs.len())];
        let one = |number: &usize| make(*number, batches.fetch(*number)?);
        let made: Vec<T> = numbers.par_iter().map(one).collect::<Result<_, _>>()?;
        let each = made.iter().map(&bytes).sum::<usize>() / numbers.len().max(1);
        take(numbers, made)?;
        work.progress.advance(numbers.len() as u64);
        start += numbers.len();
        at_once = (ALIVE / each.max(1)).clamp(1, RUNS);
    }
    Ok(())
}

/// Runs a session over some runs, and hands the outputs on in order.
pub fn run_in_order(
    session: &dyn Session,
    batches: &dyn Batches,
    runs: &[usize],
    work: &Work,
    take: impl FnMut(&[usize], Vec<Vec<TensorRef>>) -> Result<(), GatherError>,
) -> Result<(), GatherError> {
    let run = |_, inputs: Tensors| {
        session
            .run(&inputs)
            .map_err(|error| GatherError::Run(error.to_string()))
    };
    in_order(batches, runs, work, run, |outputs| size(outputs), take)
}

/// Bytes of some tensors.
pub fn size<'a>(tensors: impl IntoIterator<Item = &'a TensorRef>) -> usize {
    tensors.into_iter().map(|tensor| tensor.bytes.len()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_come_in_order_and_a_failure_ends_the_work() {
        let batches = vec![Tensors::new(); 100];
        let runs: Vec<usize> = (0..100).rev().collect();
        let mut seen = Vec::new();
        let work = Work::new(&());
        // Results so large that only few may be alive.
        in_order(
            &batches,
            &runs,
            &work,
            |number, _| Ok(number),
            |_| ALIVE / 3,
            |numbers, made| {
                assert!(numbers.len() <= rayon::current_num_threads().max(3));
                seen.extend(made);
                Ok(())
            },
        )
        .unwrap();
        assert_eq!(seen, runs);
        let fails = |number: usize, _| {
            if number == 40 {
                Err(GatherError::Run("no".to_owned()))
            } else {
                Ok(())
            }
        };
        let mut count = 0;
        let failed = in_order(
            &batches,
            &runs,
            &work,
            fails,
            |()| 0,
            |numbers, _| {
                count += numbers.len();
                Ok(())
            },
        );
        assert!(matches!(failed, Err(GatherError::Run(_))) && count < 60);
    }
}
