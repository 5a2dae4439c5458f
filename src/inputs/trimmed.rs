//! Sequences without the padding behind them.

use std::sync::Arc;

use super::batches::{Sequence, SequenceInputs};
use super::{Batches, DataError, Tensors};

/// Inputs whose sequences end where the last of them does, or a little later: sequences of about the same length are cut to
/// one width, for a model is made ready for each width by itself.
#[derive(Clone, Debug)]
pub struct TrimmedBatches {
    batches: Arc<dyn Batches>,
    axes: SequenceInputs,
    /// By run.
    sequences: Vec<Sequence>,
}

impl TrimmedBatches {
    /// `lengths`: how many positions of each run count; `widths`: the widths to cut to, ascending.
    pub fn new(
        batches: Arc<dyn Batches>,
        axes: SequenceInputs,
        lengths: &[usize],
        widths: &[usize],
    ) -> Self {
        let cut = |counts: &usize| Sequence {
            counts: *counts,
            width: widths
                .iter()
                .copied()
                .find(|width| width >= counts)
                .unwrap_or(*counts),
        };
        TrimmedBatches {
            batches,
            axes,
            sequences: lengths.iter().map(cut).collect(),
        }
    }
}

impl Batches for TrimmedBatches {
    fn count(&self) -> usize {
        self.sequences.len()
    }

    fn fetch(&self, number: usize) -> Result<Tensors, DataError> {
        let mut inputs = self.batches.fetch(number)?;
        if let Some(Sequence { width, .. }) = self.sequence(number) {
            trim(&mut inputs, &self.axes, width);
        }
        Ok(inputs)
    }

    fn sequence(&self, number: usize) -> Option<Sequence> {
        self.sequences.get(number).copied()
    }

    fn sequence_axes(&self) -> Option<&SequenceInputs> {
        Some(&self.axes)
    }
}

/// Cuts inputs to their first positions along these axes.
pub fn trim(inputs: &mut Tensors, axes: &SequenceInputs, width: usize) {
    for (name, axis) in axes {
        if let Some(tensor) = inputs.get_mut(name) {
            *tensor = tensor.first_along(*axis, width);
        }
    }
}

/// At most so many widths for sequences of these lengths, ascending, so that as few positions as can be are computed in vain.
pub fn widths(lengths: &[usize], most: usize) -> Vec<usize> {
    let mut sorted = lengths.to_vec();
    sorted.sort_unstable();
    let mut distinct = sorted.clone();
    distinct.dedup();
    let counts: Vec<usize> = distinct
        .iter()
        .map(|length| sorted.partition_point(|other| other <= length))
        .collect();
    // The least positions of all sequences up to a length, by widths used so far, and where the last width but one ends.
    let mut least: Vec<(usize, Vec<usize>)> = distinct
        .iter()
        .zip(&counts)
        .map(|(length, count)| (length * count, vec![*length]))
        .collect();
    for _ in 1..most.max(1) {
        let before = least.clone();
        for (at, best) in least.iter_mut().enumerate() {
            for (from, (positions, widths)) in before[..at].iter().enumerate() {
                let more = positions + (counts[at] - counts[from]) * distinct[at];
                if more < best.0 {
                    *best = (more, [&widths[..], &[distinct[at]]].concat());
                }
            }
        }
    }
    least.pop().map_or_else(Vec::new, |(_, widths)| widths)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inputs::examples;
    use crate::model::TensorRef;

    #[test]
    fn widths_waste_least() {
        assert_eq!(widths(&[5, 5, 5, 9, 9, 20], 3), [5, 9, 20]);
        assert_eq!(widths(&[5, 5, 5, 6, 19, 20, 20], 2), [6, 20]);
        assert_eq!(widths(&[7, 3], 1), [7]);
        assert_eq!(widths(&[7, 3, 7], 9), [3, 7]);
        assert!(widths(&[], 4).is_empty());
    }

    #[test]
    fn a_run_is_as_wide_as_those_of_about_its_length() {
        let run = |start: i64| {
            let ids: Vec<i64> = (start..start + 6).collect();
            Tensors::from_iter([
                ("ids".to_owned(), TensorRef::from_i64(vec![1, 6], &ids)),
                ("whole".to_owned(), TensorRef::from_i64(vec![1, 6], &ids)),
            ])
        };
        let all: Arc<dyn Batches> = Arc::new(vec![run(0), run(10), run(20)]);
        let axes = SequenceInputs::from([("ids".to_owned(), 1)]);
        let trimmed = TrimmedBatches::new(all, axes, &[2, 5, 1], &[2, 5]);
        assert_eq!(trimmed.fetch(0).unwrap()["ids"].to_i64(), Some(vec![0, 1]));
        assert_eq!(trimmed.fetch(0).unwrap()["whole"].dims, [1, 6]);
        let last = Sequence {
            counts: 1,
            width: 2,
        };
        assert_eq!(trimmed.sequence(2), Some(last));
        let shapes = examples(&trimmed, &[2, 1, 0]).unwrap();
        let firsts: Vec<i64> = shapes
            .iter()
            .map(|example| example["ids"].to_i64().unwrap()[0])
            .collect();
        assert_eq!(firsts, [10, 20], "one of each width, the widest first");
        assert_eq!(trimmed.example().unwrap().unwrap()["ids"].dims, [1, 5]);
    }
}
