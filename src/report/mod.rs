//! What was found, for people and for machines: JSON, Markdown, HTML, JUnit, and tables for the terminal.
//!
//! Invariant: computes nothing but the form; every number comes in with the [`Report`].

mod chart;
mod html;
mod json;
mod junit;
mod learning;
mod markdown;
mod sentences;
mod sweep;
mod swept;
mod terminal;
mod types;
mod units;
mod verdicts;
mod view;
mod zeros;

use std::path::{Path, PathBuf};

pub use json::json;
pub use junit::junit;
pub use markdown::markdown;
pub use sentences::{exactness as told_exactness, vocabulary as told_vocabulary};
pub use swept::SweepRow;
pub use terminal::{inspection, latencies, sparsification, summary, sweep, verification};
pub use types::*;
pub use units::error as number;
pub use verdicts::{CheckVerdict, ExactnessVerdict};
pub use view::ceiling;

/// A report that cannot be made.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum ReportError {
    #[error("{}: no report of this kind; name it .json, .md, .html or .xml (JUnit)", .0.display())]
    Ending(PathBuf),
    #[error("the report cannot be put together: {0}")]
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
    let ending = path
        .extension()
        .map(|ending| ending.to_string_lossy().to_ascii_lowercase());
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

/// A report in the form that a file's ending names. Errors: an unknown ending.
pub fn text(report: &Report, path: &Path) -> Result<String, ReportError> {
    Ok(match form(path)? {
        Form::Json => json(report),
        Form::Markdown => markdown(report),
        Form::Html => html::html(report)?,
        Form::Junit => junit(report),
    })
}
