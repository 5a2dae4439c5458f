//! What long work tells whoever waits for it, without printing.

use std::fmt;

/// What is being done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Phase {
    /// Reading and checking the model.
    Load,
    /// Finding what can be removed.
    Analyse,
    /// Reading or making inputs.
    Inputs,
    /// Running the original for statistics.
    Calibrate,
    /// Scoring units.
    Score,
    /// Choosing units under the targets.
    Allocate,
    /// Removing them.
    Cut,
    /// Changing the weights that stay.
    Recover,
    /// Comparing the pruned model with the original.
    Verify,
    /// Timing models.
    Measure,
    /// Writing files.
    Save,
}

impl Phase {
    /// The short name, as in a report's `seconds`.
    pub fn name(self) -> &'static str {
        match self {
            Phase::Load => "load",
            Phase::Analyse => "analyse",
            Phase::Inputs => "inputs",
            Phase::Calibrate => "calibrate",
            Phase::Score => "score",
            Phase::Allocate => "allocate",
            Phase::Cut => "cut",
            Phase::Recover => "recover",
            Phase::Verify => "verify",
            Phase::Measure => "measure",
            Phase::Save => "save",
        }
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Where long work reports to. All methods do nothing by default.
pub trait Progress: Sync {
    /// A phase begins, of `total` steps (0: unknown).
    fn begin(&self, phase: Phase, total: u64) {
        let _ = (phase, total);
    }

    /// So many more steps are done.
    fn advance(&self, steps: u64) {
        let _ = steps;
    }

    /// Something that the user should know, in one line.
    fn note(&self, note: &str) {
        let _ = note;
    }

    /// Whether the work should end as soon as it can.
    fn stop(&self) -> bool {
        false
    }
}

impl Progress for () {}

/// What long functions are given beside their subject.
#[derive(Clone, Copy)]
pub struct Work<'a> {
    /// Where to report to.
    pub progress: &'a dyn Progress,
    /// Threads that may be used.
    pub threads: usize,
    /// What all randomness derives from.
    pub seed: u64,
}

impl Default for Work<'_> {
    /// Silent, one thread, seed 0.
    fn default() -> Self {
        Work { progress: &(), threads: 1, seed: 0 }
    }
}

impl fmt::Debug for Work<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Work").field("threads", &self.threads).field("seed", &self.seed).finish_non_exhaustive()
    }
}
