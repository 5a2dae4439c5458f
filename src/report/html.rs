//! For a browser: one page that needs nothing else.

use minijinja::value::Serde;
use minijinja::{AutoEscape, Environment};
use serde::Serialize;

use super::Report;
use super::sections::{Align, sections};
use super::terminal::opsets;
use super::units::{count, number, percent};

const TEMPLATE: &str = include_str!("report.html");

/// A group's width before and after, in hundredths of the widest.
#[derive(Serialize)]
struct Bar {
    name: String,
    kind: String,
    units: usize,
    kept: usize,
    whole: f64,
    left: f64,
}

/// A point of the trade-off, in the coordinates of the drawing.
#[derive(Serialize)]
struct Dot {
    x: f64,
    y: f64,
    text: String,
}

#[derive(Serialize)]
struct Cell<'a> {
    text: &'a str,
    number: bool,
}

#[derive(Serialize)]
struct Sheet<'a> {
    title: &'a str,
    head: Vec<Cell<'a>>,
    rows: Vec<Vec<Cell<'a>>>,
    remarks: &'a [String],
}

/// All that the template lays out.
#[derive(Serialize)]
struct Page<'a> {
    path: &'a str,
    sha256: &'a str,
    opsets: String,
    nodes: String,
    tool: String,
    tables: Vec<Sheet<'a>>,
    bars: Vec<Bar>,
    dots: Vec<Dot>,
    ticks: Vec<String>,
}

/// The report as a self-contained page with drawings of the widths and the trade-off. Errors: none but defects of the template.
pub fn html(report: &Report) -> Result<String, minijinja::Error> {
    let mut environment = Environment::new();
    environment.set_auto_escape_callback(|_| AutoEscape::Html);
    environment.add_template("report", TEMPLATE)?;
    let sections = sections(report, usize::MAX);
    let tables = sections
        .iter()
        .map(|section| {
            let numbers: Vec<bool> = section.columns.iter().map(|column| column.align == Align::Right).collect();
            let cell = |text, at: usize| Cell { text, number: numbers.get(at).copied().unwrap_or(false) };
            let head: Vec<Cell> = section.columns.iter().enumerate().map(|(at, column)| cell(column.title, at)).collect();
            let rows: Vec<Vec<Cell>> =
                section.rows.iter().map(|row| row.iter().enumerate().map(|(at, text)| cell(text.as_str(), at)).collect()).collect();
            Sheet { title: section.title, head, rows, remarks: &section.remarks }
        })
        .collect();
    let (dots, ticks) = curve(report);
    let page = Page {
        path: &report.model.path,
        sha256: &report.model.sha256,
        opsets: opsets(report),
        nodes: count(report.model.nodes as u64),
        tool: format!("{} {}", report.tool.name, report.tool.version),
        tables,
        bars: bars(report),
        dots,
        ticks,
    };
    environment.get_template("report")?.render(Serde(&page))
}

fn bars(report: &Report) -> Vec<Bar> {
    if report.pruned.is_none() {
        return Vec::new();
    }
    let widest = report.groups.iter().map(|group| group.units).max().unwrap_or(1).max(1) as f64;
    let bar = |group: &super::GroupSummary| Bar {
        name: group.weights.first().unwrap_or(&group.id).clone(),
        kind: group.kind.clone(),
        units: group.units,
        kept: group.kept,
        whole: 100.0 * group.units as f64 / widest,
        left: 100.0 * group.kept as f64 / widest,
    };
    report.groups.iter().map(bar).collect()
}

/// Drift over the share of MACs, in a drawing of 100 × 100, and the ends of its axes.
fn curve(report: &Report) -> (Vec<Dot>, Vec<String>) {
    let Some(original) = report.original.as_ref().filter(|costs| costs.macs > 0) else { return (Vec::new(), Vec::new()) };
    let points: Vec<(f64, f64)> = report
        .tradeoff
        .iter()
        .filter_map(|point| Some((point.macs as f64 / original.macs as f64, point.drift.filter(|drift| drift.is_finite())?)))
        .collect();
    let most = points.iter().map(|(_, drift)| *drift).fold(0.0, f64::max);
    if points.len() < 2 || most <= 0.0 {
        return (Vec::new(), Vec::new());
    }
    let least = points.iter().map(|(share, _)| *share).fold(1.0, f64::min);
    let span = (1.0 - least).max(1e-9);
    let dot = |(share, drift): &(f64, f64)| Dot {
        x: 100.0 * (share - least) / span,
        y: 100.0 - 100.0 * drift / most,
        text: format!("{} of the MACs, drift {}", percent(*share), number(*drift)),
    };
    (points.iter().map(dot).collect(), vec![percent(least), percent(1.0), number(most)])
}
