//! Why the text of an option is refused.

use crate::prune::PatternError;
use crate::score::SCORES;
use crate::train::OutputLoss;

/// Why the text of an option is refused.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub(super) enum OptionError {
    #[error("write METRIC=VALUE, for example macs=0.5")]
    NoMetric,
    #[error("no such metric; there are macs, params, bytes, latency, drift and agreement")]
    Metric,
    #[error("{0} is the fraction that remains, above 0 and at most 1")]
    Fraction(String),
    #[error("drift is the relative output error allowed, 0 or more")]
    Drift,
    #[error("agreement is the share of inputs that keep their class, above 0 and at most 1")]
    Agreement,
    #[error("no such score; available: {}, or a file of scores (.json)", scores())]
    Score,
    #[error("no such runtime; there are auto, tract and ort (ONNX Runtime)")]
    Runtime,
    #[error("there are dense and sparse")]
    Storage,
    #[error("'{0}' is no shard; write i/n, from 1/n to n/n")]
    Shard(String),
    #[error("no such way to recover; available: none, statistics, least-squares, distill")]
    Recovery,
    #[error("no such loss; available: auto, {}", losses())]
    Loss,
    #[error(
        "no such kind '{0}'; there are channels, heads, head-dims, width, layers, directions, experts, or auto alone"
    )]
    Kind(String),
    #[error("a whole number from 1, or auto")]
    Align,
    #[error(transparent)]
    Pattern(#[from] PatternError),
    #[error("{0}")]
    Glob(globset::ErrorKind),
    #[error("write NAME=SHAPE, for example input_ids=1x128")]
    NoShape,
    #[error("'{0}' is no shape; write whole numbers from 1, as in 1x3x224x224")]
    Shape(String),
    #[error("'{0}' is no number")]
    Number(String),
    #[error("a whole number from 1")]
    Positive,
    #[error("a number from 0")]
    Negative,
    #[error("a share from 0 to 1")]
    Share,
    #[error("a share from 0 to below 1")]
    Sparsity,
    #[error("'{0}' is no size; write 4GiB or 500MB, for example")]
    Size(String),
    #[error("write METRIC=A..B, for example macs=0.9..0.3, or macs=0.9..0.3:5 for five models")]
    NoRange,
    #[error(
        "both ends are {0}; write METRIC=A..B, for example macs=0.9..0.3, or macs=0.9..0.3:5 for five models"
    )]
    EmptyRange(f64),
    #[error("a sweep has from 2 to {0} models")]
    Models(usize),
    #[error("a sweep of drifts begins above 0")]
    NoDrift,
}

fn scores() -> String {
    let names: Vec<&str> = SCORES.iter().map(|entry| entry.name).collect();
    names.join(", ")
}

fn losses() -> String {
    OutputLoss::NAMED.map(|(name, _)| name).join(", ")
}
