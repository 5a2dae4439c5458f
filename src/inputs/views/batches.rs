//! Pictures in several views each, as runs of their own.

use std::sync::Arc;

use super::{Views, are_pictures};
use crate::inputs::{Batches, DataError, Tensors};
use crate::model::TensorRef;
use crate::rng::rng;

/// Runs that stay together: what divides runs by this number divides pictures likewise.
const BLOCK: usize = 6;

/// Each picture as it is, and in so many views by the seed. Of six pictures in a row first come all as they are, then all in a
/// view, and so on: to hold one run in six out is to hold pictures out, in all their views. Pictures beyond the last six come
/// as they are.
#[derive(Clone, Debug)]
pub struct ViewedBatches {
    batches: Arc<dyn Batches>,
    views: Views,
    /// Views of each, the picture as it is among them.
    each: usize,
    seed: u64,
}

impl ViewedBatches {
    /// `each`: as what a picture counts, at least once, as it is.
    pub fn new(batches: Arc<dyn Batches>, views: Views, each: usize, seed: u64) -> Self {
        ViewedBatches {
            batches,
            views,
            each: each.max(1),
            seed,
        }
    }

    /// Which picture a run is of, and in which view, 0 as it is.
    fn place(&self, number: usize) -> (usize, usize) {
        let whole = self.batches.count() / BLOCK;
        let (block, rest) = (number / (BLOCK * self.each), number % (BLOCK * self.each));
        if block < whole {
            (block * BLOCK + rest % BLOCK, rest / BLOCK)
        } else {
            (number - whole * BLOCK * (self.each - 1), 0)
        }
    }

    /// Another picture that is held out where this one is.
    fn other(&self, picture: usize, step: usize) -> usize {
        let blocks = (self.batches.count() / BLOCK).max(1);
        (picture / BLOCK + 1 + step % blocks.max(2).saturating_sub(1)) % blocks * BLOCK
            + picture % BLOCK
    }
}

impl Batches for ViewedBatches {
    fn count(&self) -> usize {
        let count = self.batches.count();
        count / BLOCK * BLOCK * self.each + count % BLOCK
    }

    fn fetch(&self, number: usize) -> Result<Tensors, DataError> {
        let (picture, view) = self.place(number);
        let inputs = self.batches.fetch(picture)?;
        if view == 0 {
            return Ok(inputs);
        }
        let mut random = rng(self.seed, &format!("view {view} of {picture}"));
        if !self.views.mix {
            return Ok(self.views.apply(&inputs, &mut random));
        }
        let count = |inputs: &Tensors| {
            inputs
                .values()
                .find_map(|tensor| tensor.dims.first())
                .copied()
        };
        let Some(rows) = count(&inputs) else {
            return Ok(inputs);
        };
        let other = self.batches.fetch(self.other(picture, view))?;
        let both = self.views.apply(&joined(&inputs, &other), &mut random);
        let first = |(name, tensor): (String, TensorRef)| {
            let is_picture = are_pictures(&tensor);
            let own = inputs.get(&name).filter(|_| !is_picture).cloned();
            (name, own.unwrap_or_else(|| tensor.first_along(0, rows)))
        };
        Ok(both.into_iter().map(first).collect())
    }
}

/// Pictures of two runs, those of the second behind those of the first.
fn joined(one: &Tensors, other: &Tensors) -> Tensors {
    let join = |(name, tensor): (&String, &TensorRef)| {
        let behind = other.get(name).filter(|_| are_pictures(tensor));
        let Some(behind) = behind.filter(|behind| behind.dims[1..] == tensor.dims[1..]) else {
            return (name.clone(), tensor.clone());
        };
        let mut dims = tensor.dims.clone();
        dims[0] += behind.dims[0];
        let bytes = [&tensor.bytes[..], &behind.bytes[..]].concat().into();
        let dtype = tensor.dtype;
        (name.clone(), TensorRef { dtype, dims, bytes })
    };
    one.iter().map(join).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn pictures(count: usize) -> Arc<dyn Batches> {
        let one = |number: usize| {
            let numbers: Vec<f32> = (0..3 * 16 * 16)
                .map(|at| (number * 1000 + at) as f32)
                .collect();
            let tensor = TensorRef::from_f32(vec![1, 3, 16, 16], &numbers);
            Tensors::from_iter([("x".to_owned(), tensor)])
        };
        Arc::new((0..count).map(one).collect::<Vec<_>>())
    }

    #[test]
    fn views_of_one_picture_are_held_out_together() {
        let views = Views {
            mix: true,
            flip: true,
            ..Views::default()
        };
        let plain = pictures(20);
        let seen = ViewedBatches::new(plain.clone(), views, 4, 3);
        assert_eq!(seen.count(), 18 * 4 + 2);
        let mut as_they_are = BTreeSet::new();
        for run in 0..seen.count() {
            let (picture, view) = seen.place(run);
            assert_eq!(run % 6, picture % 6);
            let tensors = seen.fetch(run).unwrap();
            assert_eq!(tensors["x"].dims, [1, 3, 16, 16]);
            assert_eq!(tensors, seen.fetch(run).unwrap());
            if view == 0 {
                assert_eq!(tensors, plain.fetch(picture).unwrap());
                as_they_are.insert(picture);
            } else {
                let other = seen.other(picture, view);
                assert!(other != picture && other % 6 == picture % 6 && other < 18);
            }
        }
        assert_eq!(as_they_are.len(), 20);
    }
}
