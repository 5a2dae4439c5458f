//! For programs.

use super::Report;

/// The report as JSON, indented. Numbers that are not finite become `null`.
pub fn json(report: &Report) -> Result<String, serde_json::Error> {
    serde_json::to_string_pretty(report).map(|text| text + "\n")
}
