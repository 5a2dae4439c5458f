//! Batches that take long to make, kept within a budget.

use std::collections::BTreeMap;
use std::sync::Mutex;

use super::batches::size;
use super::{Batches, DataError, Tensors};

/// Bytes of batches that are kept.
pub const KEPT: usize = 512 << 20;

/// Batches of which as many are kept as fit, once they were made; the others are made anew each time. Whoever goes over all
/// of them again and again finds the first ones ready each time, where keeping the latest would never help.
#[derive(Debug)]
pub struct CachedBatches<B> {
    batches: B,
    budget: usize,
    held: Mutex<HeldBatch>,
}

#[derive(Debug, Default)]
struct HeldBatch {
    bytes: usize,
    of: BTreeMap<usize, Tensors>,
}

impl<B: Batches> CachedBatches<B> {
    /// Keeps no more than so many bytes.
    pub fn new(batches: B, budget: usize) -> Self {
        CachedBatches {
            batches,
            budget,
            held: Mutex::default(),
        }
    }
}

impl<B: Batches> Batches for CachedBatches<B> {
    fn count(&self) -> usize {
        self.batches.count()
    }

    fn fetch(&self, number: usize) -> Result<Tensors, DataError> {
        if let Some(ready) = self
            .held
            .lock()
            .ok()
            .and_then(|held| held.of.get(&number).cloned())
        {
            return Ok(ready);
        }
        let made = self.batches.fetch(number)?;
        let bytes = size(made.values());
        if let Ok(mut held) = self.held.lock()
            && held.bytes + bytes <= self.budget
            && held.of.insert(number, made.clone()).is_none()
        {
            held.bytes += bytes;
        }
        Ok(made)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::model::TensorRef;

    /// Batches of eight bytes that count how often one is made.
    #[derive(Debug)]
    struct Counted(Arc<AtomicUsize>);

    impl Batches for Counted {
        fn count(&self) -> usize {
            3
        }

        fn fetch(&self, number: usize) -> Result<Tensors, DataError> {
            self.0.fetch_add(1, Ordering::Relaxed);
            Ok(Tensors::from_iter([(
                "x".to_owned(),
                TensorRef::from_f32(vec![2], &[number as f32, 1.0]),
            )]))
        }
    }

    #[test]
    fn what_does_not_fit_is_made_anew_and_is_the_same() {
        let made = Arc::new(AtomicUsize::new(0));
        let ready = CachedBatches::new(Counted(made.clone()), 20);
        let all = |ready: &CachedBatches<Counted>| {
            (0..ready.count())
                .map(|number| ready.fetch(number).unwrap())
                .collect::<Vec<_>>()
        };
        let first = all(&ready);
        assert_eq!(made.load(Ordering::Relaxed), 3);
        for pass in 1..4 {
            assert_eq!(all(&ready), first);
            assert_eq!(
                made.load(Ordering::Relaxed),
                3 + pass,
                "two fit, the third is made in each pass"
            );
        }
    }
}
