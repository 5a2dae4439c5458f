//! Reports for programs.

use super::Report;

/// The report as JSON, ending in a newline. Numbers that are not finite become `null`.
pub fn json(report: &Report) -> String {
    serde_json::to_string_pretty(report).map_or_else(|_| String::new(), |text| text + "\n")
}
