//! Verdicts, as reports name them.

use serde::Serialize;

/// The outcome of the check of exactness.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs)]
pub enum ExactnessVerdict {
    Exact,
    Inexact,
    Unverifiable,
    #[default]
    Skipped,
}

/// What became of a check.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum CheckVerdict {
    /// It holds.
    Pass,
    /// It does not.
    Fail,
    /// It could not be found out.
    Unverifiable,
    /// There was nothing to hold it against.
    Measured,
    /// Nobody looked.
    #[default]
    Skipped,
}
