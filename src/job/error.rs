//! What can go wrong in the main job.

use crate::allocate::Unreachable;
use crate::calibrate::{DataError, GatherError};
use crate::model::LoadError;
use crate::plan::PlanError;
use crate::score::GivenError;
use crate::surgery::SurgeryError;

/// What can go wrong in the main job.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum Error {
    #[error(transparent)]
    Model(#[from] LoadError),
    #[error(transparent)]
    Surgery(#[from] SurgeryError),
    #[error(transparent)]
    Plan(#[from] PlanError),
    #[error(transparent)]
    Unreachable(#[from] Unreachable),
    #[error(transparent)]
    Scores(#[from] GivenError),
    #[error(
        "whole layers are chosen by what they do to the outputs; give inputs with --data, or leave layers out of --units"
    )]
    LayersNeedData,
    #[error(transparent)]
    Inputs(#[from] DataError),
    #[error(
        "score {0} is computed from activations; give inputs with --data, or statistics with --stats"
    )]
    NeedsData(String),
    #[error("--allow-io '{text}': the model has no such input or output; there are {ends}")]
    NoSuchEnd { text: String, ends: String },
    #[error("--allow-io: axis {axis} of '{name}' ({shape}) is not there or has no fixed extent")]
    NoSuchAxis {
        name: String,
        axis: i64,
        shape: String,
    },
    #[error("{0}")]
    NoMatch(String),
    #[error("nothing can be pruned: {0}")]
    Nothing(String),
    #[error("{0}")]
    Unverifiable(String),
    #[error("a pruned form of the model does not run, though the original does: {0}")]
    Broken(String),
    #[error("the rounds left '{0}' in another shape than the plan; prune in one round")]
    Rounds(String),
    #[error("stopped")]
    Cancelled,
}

impl From<GatherError> for Error {
    fn from(error: GatherError) -> Self {
        match error {
            GatherError::Cancelled => Error::Cancelled,
            GatherError::Data(error) => Error::Inputs(error),
            GatherError::Run(reason) => Error::Unverifiable(reason),
        }
    }
}
