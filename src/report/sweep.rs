//! The models of a sweep: a table, and a chart of what each costs and how far it moved.

use serde::Serialize;

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
            "top-1",
            "front",
            "file",
        ],
        &[0, 8, 9],
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
        left_out: 0,
    }
}

/// One model as a dot.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ChartDot {
    /// What it was to reach.
    pub name: String,
    /// Its place, in pixels.
    pub x: f64,
    /// Likewise, from above.
    pub y: f64,
    /// Whether it is on the front.
    pub on_front: bool,
}

/// Pixels of the chart, width and height.
pub const CHART: (f64, f64) = (520.0, 220.0);

/// Dots by what is left of the operations, and by drift from below; none where nothing was measured.
pub fn dots(report: &Report) -> Vec<ChartDot> {
    let drifts = report.sweep.iter().filter_map(|row| row.drift);
    let most = drifts.fold(0.0, f64::max);
    let Some(macs) = report.original.macs.filter(|macs| *macs > 0 && most > 0.0) else {
        return Vec::new();
    };
    let dot = |row: &SweepRow| {
        Some(ChartDot {
            name: row.target.clone(),
            x: CHART.0 * row.macs as f64 / macs as f64,
            y: CHART.1 * (1.0 - row.drift? / most),
            on_front: row.on_front,
        })
    };
    report.sweep.iter().filter_map(dot).collect()
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
        let dots = dots(&report);
        assert_eq!(
            (dots[0].x, dots[0].y, dots[0].on_front),
            (416.0, 165.0, true)
        );
        assert_eq!(
            (dots[1].x, dots[1].y, dots[1].on_front),
            (260.0, 0.0, false)
        );
    }
}
