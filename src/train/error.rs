//! Why weights cannot be trained.

use crate::inputs::DataError;
use crate::model::LoadError;
use crate::run::{RunError, Unverifiable};

/// Why weights cannot be trained.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TrainError {
    /// No weight can be trained.
    #[error("no weight of the model can be trained: {}", reason(.0))]
    NothingTrainable(Vec<String>),
    /// Too few inputs to learn from some and judge by others.
    #[error("{0} inputs are too few to learn from some and judge by others")]
    TooFewInputs(usize),
    /// True classes that do not fit the inputs or the outputs.
    #[error("labels cannot be learnt from: {0}")]
    Labels(String),
    /// The state that training was to go on from.
    #[error("{}: {problem}", path.display())]
    Checkpoint {
        /// The file.
        path: std::path::PathBuf,
        /// Why it is of no use.
        problem: String,
    },
    /// Operands that do not fit together.
    #[error("{node}: {problem}")]
    Misfit {
        /// The node.
        node: String,
        /// What does not fit.
        problem: String,
    },
    /// Inputs that cannot be read.
    #[error(transparent)]
    Data(#[from] DataError),
    /// A part of the model cannot be taken by itself.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// A part of the model does not run.
    #[error(transparent)]
    Unverifiable(#[from] Unverifiable),
    /// A part of the model failed to run.
    #[error(transparent)]
    ForwardRun(#[from] RunError),
    /// Somebody asked to stop.
    #[error("stopped")]
    Cancelled,
}

fn reason(stops: &[String]) -> String {
    const SHOWN: usize = 3;
    if stops.is_empty() {
        return "no output depends on one through operators that can be differentiated".to_owned();
    }
    let shown: Vec<&str> = stops.iter().take(SHOWN).map(String::as_str).collect();
    let more = if stops.len() > SHOWN { " and more" } else { "" };
    format!("there is no derivative at {}{more}", shown.join(", "))
}
