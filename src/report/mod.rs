//! What was found, for people and for machines: JSON, Markdown, HTML, JUnit, and tables for the terminal.
//!
//! Invariant: computes nothing but the form; every number comes in with the [`Report`].

mod html;
mod json;
mod junit;
mod markdown;
mod terminal;
mod types;
mod units;
mod view;

use std::io::Write;
use std::path::{Path, PathBuf};

pub use json::json;
pub use junit::junit;
pub use markdown::markdown;
pub use terminal::{inspection, latencies, summary, verification};
pub use types::*;
pub use units::milliseconds;

/// A report that could not be written.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum ReportError {
    #[error("{}: no report of this kind; name it .json, .md, .html or .xml (JUnit)", .0.display())]
    Ending(PathBuf),
    #[error("{}: {source}", path.display())]
    Io { path: PathBuf, source: std::io::Error },
    #[error("the report can not be put together: {0}")]
    Template(#[from] minijinja::Error),
}

/// A form of reports, chosen by the file's ending.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Json,
    Markdown,
    Html,
    Junit,
}

fn form(path: &Path) -> Result<Form, ReportError> {
    let ending = path.extension().map(|ending| ending.to_string_lossy().to_ascii_lowercase());
    match ending.as_deref() {
        Some("json") => Ok(Form::Json),
        Some("md") => Ok(Form::Markdown),
        Some("html" | "htm") => Ok(Form::Html),
        Some("xml") => Ok(Form::Junit),
        _ => Err(ReportError::Ending(path.to_owned())),
    }
}

/// Whether a report can be written under this name, before the work is done for nothing. Errors: an unknown ending.
pub fn check_ending(path: &Path) -> Result<(), ReportError> {
    form(path).map(|_| ())
}

/// Writes a report in the form that the file's ending names, whole or not at all.
///
/// Errors: an unknown ending, a place that can not be written to.
pub fn write(report: &Report, path: &Path) -> Result<(), ReportError> {
    let text = match form(path)? {
        Form::Json => json(report),
        Form::Markdown => markdown(report),
        Form::Html => html::html(report)?,
        Form::Junit => junit(report),
    };
    write_file(path, &text)
}

/// Writes a text file, whole or not at all.
pub fn write_file(path: &Path, text: &str) -> Result<(), ReportError> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let fail = |source| ReportError::Io { path: path.to_owned(), source };
    // Something that is there and is no plain file (a pipe, a device) can only be written to.
    if std::fs::metadata(path).is_ok_and(|metadata| !metadata.is_file()) {
        return std::fs::write(path, text).map_err(fail);
    }
    let mut builder = tempfile::Builder::new();
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        builder.permissions(std::fs::Permissions::from_mode(0o666));
    }
    let mut file = builder.tempfile_in(folder).map_err(fail)?;
    file.write_all(text.as_bytes()).map_err(fail)?;
    file.persist(path).map_err(|error| fail(error.error))?;
    Ok(())
}
