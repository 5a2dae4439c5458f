//! Reports as one page without outside parts.

use minijinja::value::{Serde, Value};
use minijinja::{Environment, context};
use serde::Serialize;

use super::chart::Chart;
use super::learning::LearningCurve;
use super::{Report, ReportError, sentences, sweep, units, view, zeros};

/// A bar of the chart: widths of one group before and after.
#[derive(Serialize)]
struct Bar {
    name: String,
    kind: String,
    units: usize,
    kept: usize,
    y: usize,
    full: f64,
    rest: f64,
}

/// Pixels of the widest bar.
const WIDEST: f64 = 420.0;
/// Pixels from bar to bar.
const STEP: usize = 22;

/// The report as an HTML page.
pub(super) fn html(report: &Report) -> Result<String, ReportError> {
    let mut environment = Environment::new();
    environment.add_template("page.html", include_str!("page.html"))?;
    let page = environment.get_template("page.html")?;
    let most = report
        .groups
        .iter()
        .map(|group| group.units)
        .max()
        .unwrap_or(1)
        .max(1) as f64;
    // Groups are of very different widths: the root keeps narrow ones visible.
    let length = |units: usize| WIDEST * (units as f64 / most).sqrt();
    let bars: Vec<Bar> = report
        .groups
        .iter()
        .enumerate()
        .map(|(at, group)| Bar {
            name: group.id.clone(),
            kind: group.kind.clone(),
            units: group.units,
            kept: group.kept,
            y: at * STEP,
            full: length(group.units),
            rest: length(group.units) * group.kept as f64 / group.units.max(1) as f64,
        })
        .collect();
    Ok(page.render(context! {
        report => Serde(report),
        counted_at => sentences::counted_at(report),
        costs => Serde(view::costs(report)),
        exactness => sentences::exactness(report),
        drift => sentences::drift(report),
        labelled => sentences::labelled(report),
        said => Serde(sentences::said(report).collect::<Vec<_>>()),
        tables => tables(report),
        chart => Chart::of(report).map(Serde),
        height => bars.len() * STEP,
        bars => Serde(&bars),
        learning => report.training.as_ref().and_then(LearningCurve::of).map(Serde),
        seconds => sentences::seconds(report),
        memory => report.peak_rss_bytes.map(units::bytes),
    })?)
}

/// The tables that are not empty, with their titles.
fn tables(report: &Report) -> Vec<Value> {
    [
        ("Sweep", sweep::sweep(report)),
        ("Zeros", zeros::sparsity(report)),
        ("Checks", view::checks(report)),
        ("Layers", zeros::sparse_layers(report, usize::MAX)),
        ("Left as they are", zeros::left_dense(report, usize::MAX)),
        ("Outputs", view::outputs(report)),
        (
            "Inputs and outputs that changed",
            view::io_changed(report, usize::MAX),
        ),
        ("Trade-off", view::tradeoff(report)),
        ("Most sensitive", view::sensitive(report)),
        ("Out of reach", view::frozen(report, usize::MAX)),
    ]
    .into_iter()
    .filter(|(_, table)| !table.rows.is_empty())
    .map(|(title, table)| context! { title, table => Serde(&table) })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::GroupRow;

    #[test]
    fn names_are_escaped() {
        let group = GroupRow {
            id: "<script>".to_owned(),
            units: 8,
            kept: 4,
            ..Default::default()
        };
        let page = html(&Report {
            groups: vec![group],
            ..Default::default()
        })
        .unwrap();
        assert!(
            page.contains("&lt;script&gt;") && !page.contains("<script>"),
            "{page}"
        );
    }
}
