//! Why ONNX Runtime is not at hand, or does not do what is asked of it.

use std::path::PathBuf;

use ort::value::TensorElementType;

use crate::files::FileError;
use crate::proto::Dtype;
use crate::run::quiet::ForeignPanic;

/// Why no library of ONNX Runtime can be used.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum LibraryError {
    /// None was found where they are looked for.
    #[error("no library was found")]
    NotFound,
    /// The same, with one sentence on how to get one.
    #[error("{0}")]
    NotAtHand(String),
    /// None was named.
    #[error("there is no library of ONNX Runtime")]
    NoneNamed,
    /// Those that were named, each with what is wrong with it.
    #[error("{}", listed(.0))]
    Unusable(Vec<(PathBuf, String)>),
}

fn listed(tried: &[(PathBuf, String)]) -> String {
    let one = |(path, problem): &(PathBuf, String)| format!("{}: {problem}", path.display());
    tried.iter().map(one).collect::<Vec<_>>().join("; ")
}

/// What can go wrong in ONNX Runtime.
#[derive(Debug, thiserror::Error)]
pub(super) enum OrtFailure {
    /// What it says; its own errors are gone before its library could be.
    #[error("{0}")]
    Refused(String),
    #[error(transparent)]
    Panicked(#[from] ForeignPanic),
    #[error(transparent)]
    Io(#[from] std::io::Error),
    #[error(transparent)]
    NotSaved(#[from] FileError),
    #[error("the session is gone")]
    SessionGone,
    #[error("ONNX Runtime has no type {0}")]
    NoType(Dtype),
    #[error("a tensor's bytes do not fit its shape")]
    Misfit,
    #[error("a result of type {0}")]
    ResultType(TensorElementType),
    #[error("an optional value, which is not read")]
    Optional,
    #[error("a sequence of tensors of several types")]
    MixedSequence,
    #[error("output '{name}': {problem}")]
    Output {
        name: String,
        problem: Box<OrtFailure>,
    },
}

impl<R> From<ort::Error<R>> for OrtFailure {
    fn from(error: ort::Error<R>) -> Self {
        OrtFailure::Refused(error.to_string())
    }
}

impl OrtFailure {
    /// The same, in one line that is not too long.
    pub(super) fn in_short(self) -> Self {
        OrtFailure::Refused(short(&self.to_string()))
    }
}

/// One line of a message that may have many.
fn short(message: &str) -> String {
    const LONG: usize = 300;
    let line = message.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(LONG) {
        Some((at, _)) => format!("{}…", line.get(..at).unwrap_or_default()),
        None => line,
    }
}
