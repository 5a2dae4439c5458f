//! What can go wrong while a model is pruned.

use crate::evaluate::EvaluateError;
use crate::inputs::{DataError, GatherError};
use crate::model::LoadError;
use crate::plan::PlanError;
use crate::score::GivenError;
use crate::surgery::SurgeryError;
use crate::train::TrainError;
use crate::workspace::WorkspaceError;

/// What can go wrong while a model is pruned.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PruneError {
    /// The model's file cannot be read or does not hold together.
    #[error(transparent)]
    Model(#[from] LoadError),
    /// The cut cannot be carried out.
    #[error(transparent)]
    Surgery(#[from] SurgeryError),
    /// The plan is not one of this model.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// The scores that were given do not fit the model.
    #[error(transparent)]
    Scores(#[from] GivenError),
    /// The inputs cannot be used.
    #[error(transparent)]
    Inputs(#[from] DataError),
    /// Whole layers may go, and there are no inputs to choose them by.
    #[error("whole layers are chosen by what they do to the outputs, which needs inputs")]
    LayersNeedData,
    /// The score is computed from activations, and there are none.
    #[error("score {0} is computed from activations, which needs inputs or statistics")]
    NeedsData(String),
    /// An input or output that may shrink is not there.
    #[error("'{text}': the model has no such input or output; there are {ends}")]
    NoSuchEnd {
        /// What was asked for.
        text: String,
        /// The inputs and outputs that there are.
        ends: String,
    },
    /// An axis that may shrink is not there, or has no fixed extent.
    #[error("axis {axis} of '{name}' ({shape}) is not there or has no fixed extent")]
    NoSuchAxis {
        /// The input or output.
        name: String,
        /// The axis asked for.
        axis: i64,
        /// The shape that it has.
        shape: String,
    },
    /// The groups named are not there.
    #[error("{0}")]
    NoMatch(String),
    /// The model does not run where it has to.
    #[error("{0}")]
    Unverifiable(String),
    /// The same, while the most that may go within a drift is searched for; a size can be reached without.
    #[error("the search for a drift needs to run the model, and cannot: {0}")]
    SearchNeedsRun(String),
    /// What cuts do to the outputs cannot be measured: the model does not run.
    #[error(
        "what cuts of its groups do to the outputs is measured by running the model, which fails: {0}"
    )]
    CurvesNeedRun(String),
    /// A form of the model does not run, though the original does: a fault of this crate.
    #[error("a pruned form of the model does not run, though the original does: {0}")]
    Broken(String),
    /// The weights cannot be trained.
    #[error(transparent)]
    Training(Box<TrainError>),
    /// Rows of the vocabulary cannot go.
    #[error("the vocabulary cannot be cut: {0}")]
    Vocabulary(String),
    /// Rounds left a tensor in another shape than the plan does.
    #[error("the rounds left '{0}' in another shape than the plan; prune in one round")]
    Rounds(String),
    /// A stop was asked for.
    #[error("stopped")]
    Cancelled,
}

impl From<GatherError> for PruneError {
    fn from(error: GatherError) -> Self {
        match error {
            GatherError::Cancelled => PruneError::Cancelled,
            GatherError::Data(error) => PruneError::Inputs(error),
            GatherError::Run(reason) => PruneError::Unverifiable(reason),
        }
    }
}

impl From<EvaluateError> for PruneError {
    fn from(error: EvaluateError) -> Self {
        match error {
            EvaluateError::Original(error) => error.into(),
            EvaluateError::Broken(reason) => PruneError::Broken(reason),
        }
    }
}

impl From<TrainError> for PruneError {
    fn from(error: TrainError) -> Self {
        match error {
            TrainError::Cancelled => PruneError::Cancelled,
            TrainError::Data(error) => PruneError::Inputs(error),
            other => PruneError::Training(Box::new(other)),
        }
    }
}

impl From<WorkspaceError> for PruneError {
    fn from(error: WorkspaceError) -> Self {
        match error {
            WorkspaceError::Model(error) => PruneError::Model(error),
            WorkspaceError::Surgery(error) => PruneError::Surgery(error),
        }
    }
}
