//! Why a model can not be made sparse.

use super::mask::MaskError;
use crate::inputs::{DataError, GatherError};
use crate::model::LoadError;
use crate::train::TrainError;

/// What went wrong.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum Error {
    #[error("no weights can be zeroed: {0}")]
    Nothing(String),
    #[error("score {0} looks at activations, so it needs inputs")]
    NeedsData(String),
    #[error("neither a share of zeros nor a pattern that gives one is asked for")]
    NoTarget,
    #[error("{0}")]
    Unverifiable(String),
    #[error("what was made of the model does not run: {0}")]
    Broken(String),
    #[error(transparent)]
    Plan(#[from] MaskError),
    #[error(transparent)]
    Data(#[from] DataError),
    #[error(transparent)]
    Load(#[from] LoadError),
    #[error(transparent)]
    Training(Box<TrainError>),
    #[error("stopped")]
    Cancelled,
}

impl From<TrainError> for Error {
    fn from(error: TrainError) -> Self {
        match error {
            TrainError::Cancelled => Error::Cancelled,
            TrainError::Data(error) => Error::Data(error),
            other => Error::Training(Box::new(other)),
        }
    }
}

impl From<GatherError> for Error {
    fn from(error: GatherError) -> Self {
        match error {
            GatherError::Data(error) => Error::Data(error),
            GatherError::Run(reason) => Error::Unverifiable(reason),
            GatherError::Cancelled => Error::Cancelled,
        }
    }
}
