//! Inputs kept apart: what is fitted and chosen is judged on them, and on nothing else.

use std::sync::Arc;

use rand::Rng;

use super::batches::{Sequence, SequenceInputs};
use super::{Batches, DataError, Tensors};
use crate::rng::rng;

/// One sample in so many is kept apart,
const SHARE: usize = 8;
/// of these at least so many,
const LEAST: usize = 8;
/// and at most so many.
const MOST: usize = 128;

/// The runs that are kept apart, ascending: an eighth of the samples, at least 8 and at most 128, but never more than half
/// of the runs. One run in each stretch of the data, drawn from its place: data may be sorted, or repeat itself at a
/// regular distance. The same number of runs gives the same ones.
pub fn apart(runs: usize, samples: usize) -> Vec<usize> {
    let each = (samples / runs.max(1)).max(1);
    let count = (samples / SHARE)
        .clamp(LEAST, MOST)
        .div_ceil(each)
        .min(runs / 2);
    let mut random = rng(0, "inputs kept apart");
    (0..count)
        .map(|stretch| random.random_range(stretch * runs / count..(stretch + 1) * runs / count))
        .collect()
}

/// Some of the runs over inputs, as if there were no others.
#[derive(Clone, Debug)]
pub struct Part {
    batches: Arc<dyn Batches>,
    runs: Vec<usize>,
}

impl Part {
    /// These runs, in this order.
    pub fn new(batches: Arc<dyn Batches>, runs: Vec<usize>) -> Self {
        Part { batches, runs }
    }

    /// What is kept apart, and the rest.
    pub fn split(batches: &Arc<dyn Batches>, apart: &[usize]) -> (Self, Self) {
        let rest = (0..batches.count())
            .filter(|run| apart.binary_search(run).is_err())
            .collect();
        (
            Part::new(batches.clone(), apart.to_vec()),
            Part::new(batches.clone(), rest),
        )
    }
}

impl Batches for Part {
    fn count(&self) -> usize {
        self.runs.len()
    }

    fn fetch(&self, number: usize) -> Result<Tensors, DataError> {
        // A number beyond the last is refused by the batches themselves.
        self.batches
            .fetch(self.runs.get(number).copied().unwrap_or(usize::MAX))
    }

    fn sequence(&self, number: usize) -> Option<Sequence> {
        self.batches.sequence(*self.runs.get(number)?)
    }

    fn sequence_axes(&self) -> Option<&SequenceInputs> {
        self.batches.sequence_axes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::TensorRef;

    #[test]
    fn an_eighth_is_kept_apart_within_bounds() {
        let count = |samples: usize| apart(samples, samples).len();
        assert_eq!(
            [1024, 5000, 200, 64, 40, 16].map(count),
            [128, 128, 25, 8, 8, 8]
        );
        // Where there are few, half of them; one alone is fitted to.
        assert_eq!([15, 9, 2, 1, 0].map(count), [7, 4, 1, 0, 0]);
        // Samples count, not batches.
        assert_eq!(
            (
                apart(16, 1024).len(),
                apart(8, 64).len(),
                apart(2, 1024).len()
            ),
            (2, 1, 1)
        );
    }

    #[test]
    fn every_stretch_of_the_data_is_seen() {
        let runs = apart(1024, 1024);
        assert!(runs.is_sorted() && runs.iter().enumerate().all(|(at, run)| run / 8 == at));
        assert!((0..8).all(|place| runs.iter().any(|run| run % 8 == place)));
    }

    #[test]
    fn the_two_parts_are_all_there_is() {
        let batch = |number: usize| {
            Tensors::from_iter([(
                "x".to_owned(),
                TensorRef::from_i64(vec![1], &[number as i64]),
            )])
        };
        let all: Arc<dyn Batches> = Arc::new((0..20).map(batch).collect::<Vec<_>>());
        let (kept, rest) = Part::split(&all, &apart(20, 20));
        assert_eq!((kept.count(), rest.count()), (8, 12));
        let numbers = |part: &Part| {
            (0..part.count())
                .map(|run| part.fetch(run).unwrap()["x"].to_i64().unwrap()[0])
                .collect::<Vec<_>>()
        };
        let mut both = [numbers(&kept), numbers(&rest)].concat();
        both.sort_unstable();
        assert_eq!(both, (0..20).collect::<Vec<_>>());
    }
}
