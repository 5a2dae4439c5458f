//! Memory that runs at the same time share.

use std::sync::{Arc, Condvar, Mutex, PoisonError};

use crate::progress::Memory;

/// What the runs that go on at a time have in use.
#[derive(Debug, Default)]
pub(super) struct InUse {
    bytes: Mutex<u64>,
    freed: Condvar,
}

/// Bytes that a run takes at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RunBytes {
    /// Those of the weights, which all runs share.
    pub weights: u64,
    /// Weights and all that is alive at the worst moment.
    pub most: u64,
}

/// What one run takes of the memory that all runs share.
#[derive(Clone, Debug)]
pub(super) struct RunShare {
    in_use: Arc<InUse>,
    bytes: u64,
    allowed: u64,
}

/// Bytes that a run has in use until this is dropped.
pub(super) struct Taken<'a>(&'a RunShare);

impl RunShare {
    pub fn new(in_use: Arc<InUse>, run: RunBytes, memory: Memory) -> Self {
        RunShare {
            in_use,
            bytes: run.most.saturating_sub(run.weights),
            allowed: memory.0.saturating_sub(run.weights),
        }
    }

    /// Waits until so much is free, or nothing else runs. What runs must not wait for work that may come to wait here.
    pub fn take(&self) -> Taken<'_> {
        let in_use = self
            .in_use
            .bytes
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let too_much = |used: &mut u64| *used > 0 && used.saturating_add(self.bytes) > self.allowed;
        let mut in_use = self
            .in_use
            .freed
            .wait_while(in_use, too_much)
            .unwrap_or_else(PoisonError::into_inner);
        *in_use += self.bytes;
        Taken(self)
    }
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        let RunShare { in_use, bytes, .. } = self.0;
        *in_use.bytes.lock().unwrap_or_else(PoisonError::into_inner) -= bytes;
        in_use.freed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::time::Duration;

    use super::*;

    /// The most that eight runs of 3 bytes beside 4 of weights had in use at once.
    fn most(memory: u64) -> u64 {
        let run = RunBytes {
            weights: 4,
            most: 7,
        };
        let share = RunShare::new(Arc::default(), run, Memory(memory));
        let (now, most) = (AtomicU64::new(0), AtomicU64::new(0));
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    let taken = share.take();
                    most.fetch_max(now.fetch_add(3, Ordering::SeqCst) + 3, Ordering::SeqCst);
                    std::thread::sleep(Duration::from_millis(20));
                    now.fetch_sub(3, Ordering::SeqCst);
                    drop(taken);
                });
            }
        });
        most.into_inner()
    }

    #[test]
    fn runs_wait_for_each_other_where_memory_does_not_hold_them_all() {
        assert_eq!(most(7), 3);
        assert_eq!(most(5), 3, "one alone does not wait");
        assert!((6..=9).contains(&most(13)), "two or three at a time");
    }
}
