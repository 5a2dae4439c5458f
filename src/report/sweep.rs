//! The models of a sweep, as a table.

use super::swept::SweepRow;
use super::types::Report;
use super::units;
use super::view::{TextTable, UNKNOWN};

/// What each model costs and how far it moved; a star marks those on the front.
pub fn sweep(report: &Report) -> TextTable {
    let mut table = TextTable::new(
        &[
            "target",
            "params",
            "MACs",
            "size",
            "latency",
            "drift",
            "same top-1",
            "same ranks",
            "top-1",
            "front",
            "file",
        ],
        &[0, 9, 10],
    );
    let original = &report.original;
    let macs = original.macs.map_or(f64::NAN, |macs| macs as f64);
    let optional = |number: Option<f64>, show: fn(f64) -> String| {
        number.map_or_else(|| UNKNOWN.to_owned(), show)
    };
    let row = |row: &SweepRow| {
        vec![
            row.target.clone(),
            units::ratio(row.params as f64, original.params as f64),
            units::ratio(row.macs as f64, macs),
            units::ratio(row.bytes as f64, original.bytes as f64),
            optional(row.latency_ms, units::milliseconds),
            optional(row.drift, units::error),
            optional(row.agreement, units::percent),
            optional(row.rank_correlation, units::error),
            optional(row.accuracy, units::percent),
            if row.on_front { "*" } else { "" }.to_owned(),
            row.path.clone().unwrap_or_else(|| UNKNOWN.to_owned()),
        ]
    };
    table.rows = report.sweep.iter().map(row).collect();
    // Columns that say nothing are left out.
    let says = |column: usize| table.rows.iter().any(|row| row[column] != UNKNOWN);
    let shown: Vec<usize> = (0..table.head.len())
        .filter(|column| says(*column))
        .collect();
    TextTable {
        head: shown.iter().map(|column| table.head[*column]).collect(),
        text: (0..shown.len())
            .filter(|at| table.text.contains(&shown[*at]))
            .collect(),
        rows: table
            .rows
            .iter()
            .map(|row| shown.iter().map(|column| row[*column].clone()).collect())
            .collect(),
        ..Default::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::CostRow;

    #[test]
    fn models_are_dots_and_columns_without_numbers_are_left_out() {
        let row = |macs: u64, drift: f64| SweepRow {
            target: format!("macs=0.{macs}"),
            macs,
            drift: Some(drift),
            on_front: drift < 0.4,
            ..Default::default()
        };
        let report = Report {
            original: CostRow {
                macs: Some(10),
                ..Default::default()
            },
            sweep: vec![row(8, 0.1), row(5, 0.4)],
            ..Default::default()
        };
        let table = sweep(&report);
        assert!(!table.head.contains(&"top-1") && !table.head.contains(&"file"));
        assert_eq!(table.rows.len(), 2);
    }
}
