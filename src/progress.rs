//! What long work tells its caller, and how it is told to stop. Nothing here prints.

use std::fmt;

/// A part of the work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs)]
pub enum Phase {
    Load,
    Analyse,
    Calibrate,
    Score,
    Run,
    Search,
    Sensitivity,
    Cut,
    Recover,
    Verify,
    Drift,
    Latency,
    Save,
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Phase::Load => "load",
            Phase::Analyse => "analyse",
            Phase::Calibrate => "calibrate",
            Phase::Score => "score",
            Phase::Run => "run the original",
            Phase::Search => "search",
            Phase::Cut => "cut",
            Phase::Sensitivity => "measure sensitivity",
            Phase::Recover => "recover",
            Phase::Verify => "check exactness",
            Phase::Drift => "measure drift",
            Phase::Latency => "measure latency",
            Phase::Save => "save",
        })
    }
}

/// Somebody who watches.
pub trait Progress: Sync {
    /// A phase begins, of `total` steps (0: unknown).
    fn begin(&self, _phase: Phase, _total: u64) {}

    /// Some of its steps are done.
    fn advance(&self, _steps: u64) {}

    /// Whether the work should stop; asked between items.
    fn stop(&self) -> bool {
        false
    }
}

/// Nobody.
impl Progress for () {}

/// How work is to be done.
#[derive(Clone, Copy)]
pub struct Work<'a> {
    /// Who watches.
    pub progress: &'a dyn Progress,
}
