//! The chart of what models cost and how far they moved: those of a sweep, or the points of a trade-off.

use serde::Serialize;

use super::swept::SweepRow;
use super::types::{PointRow, Report};

/// Pixels from the first to the last operation.
const WIDTH: f64 = 520.0;
/// Pixels from no drift to the largest.
const HEIGHT: f64 = 220.0;
/// Marks of the drift, at most.
const MARKS: f64 = 5.0;

/// Dots and axes, in pixels from the left and from above.
#[derive(Debug, PartialEq, Serialize)]
pub(super) struct Chart {
    width: f64,
    height: f64,
    dots: Vec<ChartDot>,
    /// Shares of the original's operations, and where they stand.
    across: Vec<(String, f64)>,
    /// Drifts, likewise.
    up: Vec<(String, f64)>,
}

impl Chart {
    /// `None`: nothing was measured that could be drawn.
    pub fn of(report: &Report) -> Option<Self> {
        let (dots, most) = dots(report).filter(|(dots, _)| !dots.is_empty())?;
        let share = |percent: u32| (format!("{percent} %"), WIDTH * f64::from(percent) / 100.0);
        Some(Chart {
            width: WIDTH,
            height: HEIGHT,
            dots,
            across: [25, 50, 75, 100].map(share).into(),
            up: marks(most),
        })
    }
}

/// Round numbers from zero to the largest, and where they stand.
fn marks(most: f64) -> Vec<(String, f64)> {
    let power = 10f64.powf((most / MARKS).log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0]
        .map(|factor| factor * power)
        .into_iter()
        .find(|step| most / step <= MARKS)
        .unwrap_or(10.0 * power);
    let digits = (-step.log10().floor()).max(0.0) as usize;
    (0..=(most / step).floor() as usize)
        .map(|at| at as f64 * step)
        .map(|drift| (format!("{drift:.digits$}"), HEIGHT * (1.0 - drift / most)))
        .collect()
}

/// One model as a dot.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct ChartDot {
    /// What it was to reach.
    pub name: String,
    /// Its place, in pixels.
    pub x: f64,
    /// Likewise, from above.
    pub y: f64,
    /// What it looks like: of a sweep whether it is on the front, else whether it was made.
    pub class: &'static str,
}

/// Dots by what is left of the operations, and by drift from below; none where nothing was measured. Of a sweep they are its
/// models, else the points of the trade-off.
fn dots(report: &Report) -> Option<(Vec<ChartDot>, f64)> {
    let all = match report.sweep.is_empty() {
        true => points(report),
        false => models(report),
    };
    let most = all.iter().map(|dot| dot.y).fold(0.0, f64::max);
    let macs = report.original.macs.unwrap_or_default() as f64;
    if macs <= 0.0 || most <= 0.0 {
        return None;
    }
    let place = |dot: ChartDot| ChartDot {
        x: WIDTH * dot.x / macs,
        y: HEIGHT * (1.0 - dot.y / most),
        ..dot
    };
    Some((all.into_iter().map(place).collect(), most))
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
    fn marks_are_round() {
        let texts =
            |most| -> Vec<String> { marks(most).into_iter().map(|(text, _)| text).collect() };
        assert_eq!(texts(0.23), ["0.00", "0.05", "0.10", "0.15", "0.20"]);
        assert_eq!(texts(0.1), ["0.00", "0.02", "0.04", "0.06", "0.08", "0.10"]);
        assert_eq!(texts(3.0), ["0", "1", "2", "3"]);
        assert_eq!(marks(0.2)[0].1, HEIGHT);
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
        let chart = Chart::of(&report).unwrap();
        let found: Vec<(f64, f64, &str)> = chart
            .dots
            .iter()
            .map(|dot| (dot.x, dot.y, dot.class))
            .collect();
        assert_eq!(found, [(416.0, 110.0, "foreseen"), (260.0, 0.0, "rest")]);
        report.tradeoff.retain(|point| !point.estimated);
        assert_eq!(Chart::of(&report), None);
    }
}
