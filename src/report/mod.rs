//! Results as people and programs read them: terminal, JSON, Markdown, HTML, JUnit.
//!
//! Invariant: nothing is computed here but shares, units of measurement and layout. [`Report`] is the contract of the
//! JSON; the same [`sections`] are laid out by each of the forms for people.

mod html;
mod json;
mod junit;
mod markdown;
mod sections;
mod terminal;
mod types;
mod units;

use std::io::Write;
use std::path::{Path, PathBuf};

pub use html::html;
pub use json::json;
pub use junit::junit;
pub use markdown::markdown;
pub use sections::{Align, Column, Section, sections};
pub use terminal::{terminal, tradeoff_option};
pub use types::*;
pub use units::{bytes, count, milliseconds, number, percent, seconds};

/// What a report is written as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// `.json`
    Json,
    /// `.md`
    Markdown,
    /// `.html`
    Html,
    /// `.xml`
    Junit,
}

impl Format {
    /// By the ending of a file's name, so that a wrong one can be refused before any work is done.
    pub fn of(path: &Path) -> Result<Self, ReportError> {
        let ending = path.extension().map(|ending| ending.to_string_lossy().to_ascii_lowercase());
        match ending.as_deref() {
            Some("json") => Ok(Format::Json),
            Some("md" | "markdown") => Ok(Format::Markdown),
            Some("html" | "htm") => Ok(Format::Html),
            Some("xml") => Ok(Format::Junit),
            _ => Err(ReportError { path: path.to_owned(), kind: Kind::Ending }),
        }
    }
}

/// A report that could not be written.
#[derive(Debug, thiserror::Error)]
#[error("report {}: {kind}", path.display())]
pub struct ReportError {
    path: PathBuf,
    kind: Kind,
}

#[derive(Debug, thiserror::Error)]
enum Kind {
    #[error("the file's ending says which kind of report is meant: .json, .md, .html or .xml (JUnit)")]
    Ending,
    #[error("{0}")]
    Io(std::io::Error),
    #[error("{0}")]
    Layout(String),
}

/// Writes a report in the form that the file's ending asks for; whole or not at all.
/// Errors: an unknown ending; what the file system says.
pub fn write(report: &Report, path: &Path) -> Result<(), ReportError> {
    let layout = |problem: String| ReportError { path: path.to_owned(), kind: Kind::Layout(problem) };
    let text = match Format::of(path)? {
        Format::Json => json(report).map_err(|error| layout(error.to_string()))?,
        Format::Markdown => markdown(report),
        Format::Html => html(report).map_err(|error| layout(error.to_string()))?,
        Format::Junit => junit(report),
    };
    let io = |error: std::io::Error| ReportError { path: path.to_owned(), kind: Kind::Io(error) };
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut builder = tempfile::Builder::new();
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        // Temporary files are private to the user; a report is an ordinary file.
        builder.permissions(std::fs::Permissions::from_mode(0o644));
    }
    let mut file = builder.prefix(".onnx-prune-").tempfile_in(folder).map_err(io)?;
    file.write_all(text.as_bytes()).map_err(io)?;
    file.persist(path).map_err(|failed| io(failed.error))?;
    Ok(())
}

#[cfg(test)]
mod tests;
