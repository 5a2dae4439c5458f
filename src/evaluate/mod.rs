//! Measurements of the original, of pruned forms of it, and of how far these are apart.
//!
//! Invariant: measures, and changes nothing.

mod baseline;
mod compare;
mod outputs;
mod sequences;
mod setup;
mod trunk;
mod variation;

pub use baseline::{ALLOWANCE, Baseline, Checks, Estimate, Latency, Prove, fitted_runs};
pub use compare::{Compared, Comparison};
pub use setup::RunSetup;
pub use trunk::{Stage, Trunk};

use crate::inputs::{DataError, GatherError};

/// Why nothing could be measured.
#[derive(Debug, thiserror::Error)]
pub enum EvaluateError {
    /// The original does not run, or its inputs cannot be read, or a stop was asked for.
    #[error(transparent)]
    Original(#[from] GatherError),
    /// A form of the model does not run, though the original does.
    #[error("a pruned form of the model does not run, though the original does: {0}")]
    Broken(String),
}

impl EvaluateError {
    fn unverifiable(reason: impl Into<String>) -> Self {
        EvaluateError::Original(GatherError::Run(reason.into()))
    }
}

impl From<DataError> for EvaluateError {
    fn from(error: DataError) -> Self {
        EvaluateError::Original(error.into())
    }
}
