//! The models of a sweep: a table, and a chart of what each costs and how far it moved.

use serde::Serialize;

use super::swept::SweepRow;
use super::types::{PointRow, Report};
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

/// One model as a dot.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ChartDot {
    /// What it was to reach.
    pub name: String,
    /// Its place, in pixels.
    pub x: f64,
    /// Likewise, from above.
    pub y: f64,
    /// What it looks like: of a sweep whether it is on the front, else whether it was made.
    pub class: &'static str,
}

/// Pixels of the chart, width and height.
pub const CHART: (f64, f64) = (520.0, 220.0);

/// Dots by what is left of the operations, and by drift from below; none where nothing was measured. Of a sweep they are its
/// models, else the points of the trade-off.
pub fn dots(report: &Report) -> Vec<ChartDot> {
    let all = match report.sweep.is_empty() {
        true => points(report),
        false => models(report),
    };
    let most = all.iter().map(|dot| dot.y).fold(0.0, f64::max);
    let macs = report.original.macs.unwrap_or_default() as f64;
    if macs <= 0.0 || most <= 0.0 {
        return Vec::new();
    }
    let place = |dot: ChartDot| ChartDot {
        x: CHART.0 * dot.x / macs,
        y: CHART.1 * (1.0 - dot.y / most),
        ..dot
    };
    all.into_iter().map(place).collect()
}

/// The models of a sweep, at their operations and drifts.
fn models(report: &Report) -> Vec<ChartDot> {
    let dot = |row: &SweepRow| {
        Some(ChartDot {
            name: row.target.clone(),
            x: row.macs as f64,
            y: row.drift?,
            class: if row.on_front { "rest" } else { "full" },
        })
    };
    report.sweep.iter().filter_map(dot).collect()
}

/// The points of the trade-off likewise, where some are foreseen; outputs of a drift above 1 have nothing in common.
fn points(report: &Report) -> Vec<ChartDot> {
    if !report.tradeoff.iter().any(|point| point.estimated) {
        return Vec::new();
    }
    let dot = |point: &PointRow| ChartDot {
        name: String::new(),
        x: point.macs as f64,
        y: point.drift,
        class: if point.estimated { "foreseen" } else { "rest" },
    };
    let near = report.tradeoff.iter().filter(|point| point.drift <= 1.0);
    near.map(dot).collect()
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
            (dots[0].x, dots[0].y, dots[0].class),
            (416.0, 165.0, "rest")
        );
        assert_eq!((dots[1].x, dots[1].y, dots[1].class), (260.0, 0.0, "full"));
    }

    #[test]
    fn points_are_dots_where_some_are_foreseen() {
        let point = |macs, drift, estimated| PointRow {
            macs,
            drift,
            estimated,
            ..Default::default()
        };
        let mut report = Report {
            original: CostRow {
                macs: Some(10),
                ..Default::default()
            },
            tradeoff: vec![
                point(8, 0.1, true),
                point(5, 0.2, false),
                point(2, 1.5, true),
            ],
            ..Default::default()
        };
        let found: Vec<(f64, f64, &str)> = dots(&report)
            .iter()
            .map(|dot| (dot.x, dot.y, dot.class))
            .collect();
        assert_eq!(found, [(416.0, 110.0, "foreseen"), (260.0, 0.0, "rest")]);
        report.tradeoff.retain(|point| !point.estimated);
        assert_eq!(dots(&report), []);
    }
}
