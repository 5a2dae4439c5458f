//! A model of a sweep, as reports tell of it.

use serde::Serialize;

use super::verdicts::ExactnessVerdict;

/// One model of a sweep.
#[derive(Clone, Debug, Default, Serialize)]
pub struct SweepRow {
    /// What it was to reach: `macs=0.5`.
    pub target: String,
    /// Multiply-accumulates of one run.
    pub macs: u64,
    /// Elements of weights.
    pub params: u64,
    /// Bytes on disk.
    pub bytes: u64,
    /// Milliseconds of one run, where it was measured.
    pub latency_ms: Option<f64>,
    /// The largest relative L2 drift of any output, as all that follows on inputs kept apart where there are such.
    pub drift: Option<f64>,
    /// The least share of rows of any output that keep their class.
    pub agreement: Option<f64>,
    /// The largest divergence of any output that holds scores of classes, in nats.
    pub kl: Option<f64>,
    /// The least correlation of the ranks of similarities of any output that holds embeddings.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rank_correlation: Option<f64>,
    /// Top-1 on labels.
    pub accuracy: Option<f64>,
    /// Whether the surgery did what the plan says.
    pub exactness: ExactnessVerdict,
    /// The file; `None` where none was written.
    pub path: Option<String>,
    /// Whether its target and the thresholds are met.
    pub stands: bool,
    /// Whether no other is as cheap and as near to the original (or as accurate), and better in one.
    pub on_front: bool,
}
