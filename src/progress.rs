//! What long work tells its caller, and how it is told to stop. Nothing here prints.

use std::fmt;
use std::path::Path;

/// A part of the work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs)]
#[non_exhaustive]
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
    Train,
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
            Phase::Train => "train",
            Phase::Verify => "check exactness",
            Phase::Drift => "measure drift",
            Phase::Latency => "measure latency",
            Phase::Save => "save",
        })
    }
}

/// Receives progress, and may ask for a stop.
///
/// ```
/// use onnx_prune::{Dataset, Limits, Progress, PruneError, Pruner, Request, TractRuntime, Work, load};
///
/// struct Impatient;
/// impl Progress for Impatient {
///     fn stop(&self) -> bool {
///         true
///     }
/// }
///
/// let model = load("fixtures/digits_cnn.onnx".as_ref(), Limits::default())?;
/// let (dataset, runtime) = (Dataset::made_up(&model, 4, 0)?, TractRuntime::new(true));
/// let pruner = Pruner::new(&model, &dataset, Some(&runtime), Work::new(&Impatient));
/// assert!(matches!(pruner.run(&Request::default()), Err(PruneError::Cancelled)));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub trait Progress: Sync {
    /// A phase begins, of `total` steps (0: unknown).
    fn begin(&self, _phase: Phase, _total: u64) {}

    /// Some of its steps are done.
    fn advance(&self, _steps: u64) {}

    /// How it goes, in words, now and then.
    fn remark(&self, _text: &str) {}

    /// A file was written from which the work can be gone on with.
    fn kept(&self, _file: &Path) {}

    /// Whether the work should stop; asked between items.
    fn stop(&self) -> bool {
        false
    }
}

/// Ignores it.
impl Progress for () {}

/// Bytes that a step of the work may take: folding a constant, making up inputs, all runs of models at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Memory(pub u64);

impl Default for Memory {
    /// 8 GiB, for callers who do not say.
    fn default() -> Self {
        Memory(8 << 30)
    }
}

/// What can be done where memory does not suffice.
pub const MORE_MEMORY: &str = "allow more memory or give smaller inputs";

impl Memory {
    /// Whether so many bytes fit; `None` stands for more than can be counted.
    pub(crate) fn holds(self, bytes: Option<u64>) -> bool {
        bytes.is_some_and(|bytes| bytes <= self.0)
    }
}

impl fmt::Display for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&size_text(self.0 as f64))
    }
}

/// Bytes as people write them; with three digits.
pub fn size_text(bytes: f64) -> String {
    const UNITS: [&str; 7] = ["bytes", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    let unit = (bytes.max(1.0).log2() / 10.0)
        .floor()
        .clamp(0.0, UNITS.len() as f64 - 1.0) as usize;
    let number = bytes / 1024f64.powi(unit as i32);
    let digits = if unit == 0 || number >= 99.95 { 0 } else { 1 };
    format!(
        "{number:.digits$} {}",
        UNITS.get(unit).copied().unwrap_or_default()
    )
}

/// How work is to be done.
#[derive(Clone, Copy)]
pub struct Work<'a> {
    /// Who watches.
    pub progress: &'a dyn Progress,
    /// What a step may take.
    pub memory: Memory,
}

impl<'a> Work<'a> {
    /// Work that somebody watches, within the usual memory.
    pub fn new(progress: &'a dyn Progress) -> Self {
        Work {
            progress,
            memory: Memory::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_written_with_their_unit() {
        assert_eq!(
            [0.0, 700.0, 1536.0, 4294967296.0].map(size_text),
            ["0 bytes", "700 bytes", "1.5 KiB", "4.0 GiB"]
        );
        assert!(
            Memory(10).holds(Some(10))
                && !Memory(10).holds(Some(11))
                && !Memory(u64::MAX).holds(None)
        );
    }
}
