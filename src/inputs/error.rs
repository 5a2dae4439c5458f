//! What can be wrong with the inputs that a user gives.

use std::fmt;
use std::path::{Path, PathBuf};

/// What can be done where the shape of an input is in doubt.
pub const GIVE_SHAPE: &str = "give the shape of the input";
/// What can be done where means and deviations do not fit.
pub const SCALING: &str = "mean and deviation are one number, or one per channel";
/// What can be done where a file of statistics is none of the model.
pub const CALIBRATE: &str = "make it by calibrating the model that is pruned";
/// What can be done where inputs cannot be made up.
pub const GIVE_INPUTS: &str = "which cannot be made up; give inputs";

/// Inputs that can not be used, naming the file, the array, and what was expected.
#[derive(Debug)]
pub struct DataError {
    path: PathBuf,
    kind: DataErrorKind,
}

#[derive(Debug, thiserror::Error)]
pub(super) enum DataErrorKind {
    #[error("{0}")]
    Io(#[from] std::io::Error),
    #[error("{0}")]
    Format(String),
    #[error("has {}; the model wants {}", arrays(.found), list(.missing))]
    Names {
        found: Vec<String>,
        missing: Vec<String>,
    },
    #[error("a single array, but the model has {} inputs: {}", .inputs.len(), list(.inputs))]
    OneArray { inputs: Vec<String> },
    #[error("array '{array}' is {found}, the model wants {expected}")]
    Shape {
        array: String,
        found: String,
        expected: String,
        hint: &'static str,
    },
    #[error("array '{array}' holds {found}, which cannot become {expected}: {why}")]
    Type {
        array: String,
        found: String,
        expected: String,
        why: String,
    },
    #[error("array '{array}' holds {what} in sample {sample}")]
    NotFinite {
        array: String,
        what: &'static str,
        sample: usize,
    },
    #[error("{found} samples, but the model's batch is fixed at {batch}")]
    TooFew { found: usize, batch: usize },
    #[error("no inputs found: {0}")]
    Empty(&'static str),
    #[error("{0}")]
    Preprocess(String),
    #[error("{0}")]
    Statistics(String),
    #[error("{0}")]
    Spec(String),
}

impl DataError {
    pub(super) fn new(path: &Path, kind: impl Into<DataErrorKind>) -> Self {
        DataError {
            path: path.to_owned(),
            kind: kind.into(),
        }
    }

    /// What a model declares, or a shape that is given for it, that cannot be used.
    pub(super) fn spec(problem: String) -> Self {
        DataError::new(Path::new(""), DataErrorKind::Spec(problem))
    }

    /// Ids that a model does not have.
    pub(crate) fn ids(problem: String) -> Self {
        DataError::spec(problem)
    }

    /// A file of statistics that cannot be used.
    pub(crate) fn of_statistics(path: &Path, problem: String) -> Self {
        DataError::new(path, DataErrorKind::Statistics(problem))
    }

    /// What the user can do about it.
    pub fn hint(&self) -> &'static str {
        match &self.kind {
            DataErrorKind::Io(_) => "check the path",
            DataErrorKind::Format(_) => {
                "save plain arrays with numpy.savez or numpy.save, or images as JPEG or PNG"
            }
            DataErrorKind::Names { .. } => {
                "name the arrays as the model's inputs: numpy.savez(path, NAME=array)"
            }
            DataErrorKind::OneArray { .. } => "put an array per input into an .npz file",
            DataErrorKind::Shape { hint, .. } => hint,
            DataErrorKind::Type { .. } => "save the array in the type that the model's input has",
            DataErrorKind::NotFinite { .. } => {
                "leave such samples out, or look at how they were made"
            }
            DataErrorKind::TooFew { .. } => {
                "give at least one whole batch, or export the model with a dynamic batch axis"
            }
            DataErrorKind::Empty(_) => {
                "give an .npz or .npy file, a folder of .jpg or .png images, or a folder with ONNX test_data_set_* folders"
            }
            DataErrorKind::Statistics(_) => CALIBRATE,
            DataErrorKind::Preprocess(_) => SCALING,
            DataErrorKind::Spec(_) => GIVE_SHAPE,
        }
    }
}

impl fmt::Display for DataError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.path.as_os_str().is_empty() {
            let separator = if matches!(self.kind, DataErrorKind::Names { .. }) {
                " "
            } else {
                ": "
            };
            write!(f, "{}{separator}", self.path.display())?;
        }
        write!(f, "{} ({})", self.kind, self.hint())
    }
}

impl std::error::Error for DataError {}

fn arrays(names: &[String]) -> String {
    match names {
        [] => "no arrays".into(),
        [name] => format!("the array {name}"),
        _ => format!("arrays {}", list(names)),
    }
}

/// Names in a row; only the first of very many.
fn list(names: &[String]) -> String {
    const SHOWN: usize = 12;
    let mut text = names
        .iter()
        .take(SHOWN)
        .map(String::as_str)
        .collect::<Vec<_>>()
        .join(", ");
    if names.len() > SHOWN {
        text += &format!(" and {} more", names.len() - SHOWN);
    }
    text
}
