//! Which inputs are for what: those that are learnt from, and those that weights are judged by.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use rand::Rng;

use super::TrainError;
use crate::calibrate::held_out;
use crate::inputs::Batches;

/// Inputs that are not learnt from, at most.
const HELD_OUT: usize = 256;

/// The inputs of one shape, as numbers of runs: a batch has inputs of one shape.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct ShapeShares {
    /// Those that are learnt from.
    pub learnt: Vec<usize>,
    /// Those that weights are judged by.
    pub judged: Vec<usize>,
}

/// Inputs by the widths of their sequences, the widest first; all in one where none says which positions count.
pub(super) struct Shares(pub Vec<ShapeShares>);

impl Shares {
    /// Errors: too few for both.
    pub fn new(inputs: &dyn Batches) -> Result<Self, TrainError> {
        let count = inputs.count();
        let mut by_width: BTreeMap<Reverse<usize>, ShapeShares> = BTreeMap::new();
        let (mut judged, mut learnt) = (0, 0);
        for run in 0..count {
            let width = inputs.sequence(run).map_or(0, |sequence| sequence.width);
            let shares = by_width.entry(Reverse(width)).or_default();
            if !held_out(run, count) {
                learnt += 1;
                shares.learnt.push(run);
            } else if judged < HELD_OUT {
                judged += 1;
                shares.judged.push(run);
            }
        }
        match judged == 0 || learnt == 0 {
            true => Err(TrainError::TooFewInputs(count)),
            false => Ok(Shares(by_width.into_values().collect())),
        }
    }

    /// How many inputs are learnt from.
    pub fn learnt(&self) -> usize {
        self.0.iter().map(|shares| shares.learnt.len()).sum()
    }

    /// How many inputs weights are judged by.
    pub fn judged(&self) -> usize {
        self.0.iter().map(|shares| shares.judged.len()).sum()
    }

    /// So many inputs of each shape, any of them: the shapes that batches have.
    pub fn examples(&self, batch: usize) -> impl Iterator<Item = Vec<usize>> {
        self.0.iter().map(move |shares| {
            let runs = shares.learnt.iter().chain(&shares.judged);
            runs.copied().cycle().take(batch).collect()
        })
    }

    /// The inputs that weights are judged by, in batches of one size (the last one of a shape begins anew), for the part that a
    /// runtime computes is made ready for that.
    pub fn judged_batches(&self, batch: usize) -> impl Iterator<Item = Vec<usize>> {
        self.0.iter().flat_map(move |ShapeShares { judged, .. }| {
            let count = judged.len();
            (0..count.div_ceil(batch)).map(move |at| {
                let runs = at * batch..(at + 1) * batch;
                runs.map(|run| judged[run % count]).collect()
            })
        })
    }

    /// Inputs of one shape to learn from, each as likely as any other; some of them twice where the shape has too few.
    pub fn draw(&self, batch: usize, random: &mut impl Rng) -> Vec<usize> {
        let mut at = match self.0.len() {
            1 => 0,
            _ => random.random_range(0..self.learnt()),
        };
        for ShapeShares { learnt, .. } in &self.0 {
            if at >= learnt.len() {
                at -= learnt.len();
                continue;
            }
            return match learnt.len() >= batch {
                true => rand::seq::index::sample(random, learnt.len(), batch)
                    .iter()
                    .map(|at| learnt[at])
                    .collect(),
                false => (0..batch)
                    .map(|_| learnt[random.random_range(0..learnt.len())])
                    .collect(),
            };
        }
        Vec::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inputs::{SequenceInputs, Tensors, TrimmedBatches};
    use crate::rng::rng;
    use std::sync::Arc;

    #[test]
    fn a_batch_has_inputs_of_one_width() {
        let all: Arc<dyn Batches> = Arc::new(vec![Tensors::new(); 100]);
        let lengths: Vec<usize> = (0..100)
            .map(|run| if run % 10 < 7 { 4 } else { 9 })
            .collect();
        let trimmed = TrimmedBatches::new(all, SequenceInputs::new(), &lengths, &[4, 9]);
        let shares = Shares::new(&trimmed).unwrap();
        assert_eq!(shares.learnt() + shares.judged(), 100);
        let widths = |runs: &[usize]| -> Vec<usize> {
            let mut widths: Vec<usize> = runs.iter().map(|run| lengths[*run]).collect();
            widths.dedup();
            widths
        };
        let examples: Vec<_> = shares.examples(3).map(|runs| widths(&runs)).collect();
        assert_eq!(examples, [[9], [4]]);
        let mut random = rng(1, "shares");
        let mut wide = 0;
        for _ in 0..500 {
            let runs = shares.draw(40, &mut random);
            assert_eq!(runs.len(), 40);
            let width = widths(&runs);
            assert_eq!(width.len(), 1);
            assert!(runs.iter().all(|run| !held_out(*run, 100)));
            wide += usize::from(width[0] == 9);
        }
        assert!(
            (100..200).contains(&wide),
            "{wide} of 500, for three in ten"
        );
        let mut judged: Vec<usize> = shares.judged_batches(4).flatten().collect();
        assert!(
            shares
                .judged_batches(4)
                .all(|runs| runs.len() == 4 && widths(&runs).len() == 1)
        );
        judged.sort_unstable();
        judged.dedup();
        assert_eq!(judged.len(), shares.judged());
    }
}
