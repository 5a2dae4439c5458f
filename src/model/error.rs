//! What can go wrong between a file and a model.

use std::fmt;
use std::path::{Path, PathBuf};

use super::foreign::Foreign;
use super::tensor_problem::TensorProblem;

/// A model that could not be loaded.
#[derive(Debug)]
pub struct LoadError {
    path: PathBuf,
    kind: LoadKind,
}

#[derive(Debug, thiserror::Error)]
pub(super) enum LoadKind {
    #[error("{0}")]
    Io(#[from] std::io::Error),
    #[error("the file is empty")]
    Empty,
    #[error("this is {}, not an ONNX model", .0.what)]
    Foreign(Foreign),
    #[error("not an ONNX model: {0}")]
    NotProtobuf(String),
    #[error("the message has no graph, so it is not an ONNX model")]
    NoGraph,
    #[error("the name '{0}' is defined twice")]
    NameClash(String),
    #[error("{node} reads '{value}', which nothing produces")]
    NotProduced { value: String, node: String },
    #[error("{node} depends on its own output")]
    Cycle { node: String },
    #[error("tensor '{tensor}': {problem}")]
    Tensor {
        tensor: String,
        problem: TensorProblem,
    },
    #[error("IR version {0} is older than this tool reads (3)")]
    OldIr(i64),
}

impl LoadError {
    pub(super) fn new(path: &Path, kind: LoadKind) -> Self {
        LoadError {
            path: path.to_owned(),
            kind,
        }
    }

    /// What the user can do about it.
    pub fn hint(&self) -> &'static str {
        match &self.kind {
            LoadKind::Io(error) if error.kind() == std::io::ErrorKind::NotFound => "check the path",
            LoadKind::Io(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
                "run again when nobody writes to it"
            }
            LoadKind::Io(error)
                if matches!(
                    error.kind(),
                    std::io::ErrorKind::InvalidInput | std::io::ErrorKind::IsADirectory
                ) =>
            {
                "give a regular file"
            }
            LoadKind::Io(_) => "check that the file can be read",
            LoadKind::Foreign(other) => other.hint,
            LoadKind::Empty | LoadKind::NotProtobuf(_) | LoadKind::NoGraph => {
                "is the file complete, and really an .onnx file? download or export it again"
            }
            LoadKind::NameClash(_) | LoadKind::NotProduced { .. } | LoadKind::Cycle { .. } => {
                "the graph is not valid ONNX; export it again, or look at it with onnx.checker"
            }
            LoadKind::Tensor { .. } => {
                "the weights do not fit the graph; bring the files that were exported together"
            }
            LoadKind::OldIr(_) => "convert the model with onnx.version_converter first",
        }
    }
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.path.as_os_str().is_empty() {
            write!(f, "{} ({})", self.kind, self.hint())
        } else {
            write!(
                f,
                "{}: {} ({})",
                self.path.display(),
                self.kind,
                self.hint()
            )
        }
    }
}

impl std::error::Error for LoadError {}
