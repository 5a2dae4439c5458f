//! A report as tables of text: what the terminal, Markdown and HTML show in common.

use serde::Serialize;

use super::sentences::{least, outcome};
use super::types::{CostRow, ExtentValue, GroupRow, IoChanged, Report, SensitiveRow};
use super::units;
use crate::verify::OutputDrift;

/// A table of text.
#[derive(Clone, Debug, Default, Serialize)]
pub struct TextTable {
    /// Heads of the columns; the first column is text, the others are numbers unless `text` names them.
    pub head: Vec<&'static str>,
    /// Columns that are text.
    pub text: Vec<usize>,
    /// The rows.
    pub rows: Vec<Vec<String>>,
    /// Rows that were left out.
    pub left_out: usize,
    /// What is said beneath it.
    pub below: Option<String>,
}

impl TextTable {
    /// An empty table.
    pub fn new(head: &[&'static str], text: &[usize]) -> Self {
        TextTable {
            head: head.to_vec(),
            text: text.to_vec(),
            ..Default::default()
        }
    }
}

/// Before and after: parameters, operations, size, latency.
pub fn costs(report: &Report) -> TextTable {
    let before = &report.original;
    let Some(after) = &report.pruned else {
        let mut table = TextTable::new(&["", "model"], &[0]);
        table.rows = lines(before)
            .into_iter()
            .map(|(name, text, _)| vec![name.to_owned(), text])
            .collect();
        return table;
    };
    let mut table = TextTable::new(&["", "before", "after", "remains"], &[0]);
    for ((name, old, old_number), (_, new, new_number)) in
        lines(before).into_iter().zip(lines(after))
    {
        if old != UNKNOWN || new != UNKNOWN {
            table.rows.push(vec![
                name.to_owned(),
                old,
                new,
                units::ratio(new_number, old_number),
            ]);
        }
    }
    table
}

/// Stands for a number that is not known.
pub const UNKNOWN: &str = "–";

fn lines(cost: &CostRow) -> [(&'static str, String, f64); 4] {
    let unknown = || UNKNOWN.to_owned();
    [
        ("parameters", units::count(cost.params), cost.params as f64),
        (
            "MACs",
            cost.macs.map_or_else(unknown, units::count),
            cost.macs.map_or(f64::NAN, |macs| macs as f64),
        ),
        ("size", units::bytes(cost.bytes), cost.bytes as f64),
        (
            "latency",
            cost.latency_ms.map_or_else(unknown, units::milliseconds),
            cost.latency_ms.unwrap_or(f64::NAN),
        ),
    ]
}

/// Drift output by output; of embeddings, if there are such, how alike their similarities rank.
pub fn outputs(report: &Report) -> TextTable {
    let mut table = TextTable::new(
        &[
            "output",
            "relative L2",
            "cosine",
            "largest difference",
            "same top-1",
            "KL",
            "same ranks",
        ],
        &[0],
    );
    let outputs = &report.drift.outputs;
    let columns = match outputs
        .iter()
        .any(|output| output.rank_correlation.is_some())
    {
        true => table.head.len(),
        false => table.head.len() - 1,
    };
    table.head.truncate(columns);
    let optional = |number: Option<f64>, show: fn(f64) -> String| {
        number.map_or_else(|| UNKNOWN.to_owned(), show)
    };
    let row = |output: &OutputDrift| {
        let mut cells = vec![
            output.name.clone(),
            units::error(output.relative_l2),
            format!("{:.5}", output.cosine),
            units::error(output.max_abs),
            optional(output.top1_agreement, units::percent),
            optional(output.kl, units::error),
            optional(output.rank_correlation, units::error),
        ];
        cells.truncate(columns);
        cells
    };
    table.rows = outputs.iter().map(row).collect();
    table
}

/// Inputs and outputs whose shape changed.
pub fn io_changed(report: &Report, limit: usize) -> TextTable {
    let mut table = TextTable::new(&["input or output", "before", "after"], &[0, 1, 2]);
    table.left_out = report.io_changed.len().saturating_sub(limit);
    let extent = |extent: &ExtentValue| match extent {
        ExtentValue::Number(number) => number.to_string(),
        ExtentValue::Symbol(name) => name.clone(),
    };
    let shape = |shape: &[ExtentValue]| shape.iter().map(extent).collect::<Vec<_>>().join("×");
    let row = |changed: &IoChanged| {
        vec![
            changed.name.clone(),
            shape(&changed.from),
            shape(&changed.to),
        ]
    };
    table.rows = report.io_changed.iter().take(limit).map(row).collect();
    table
}

/// Groups that lost units, those that lost most parameters first.
pub fn cut(report: &Report, limit: usize) -> TextTable {
    let mut cut: Vec<&GroupRow> = report
        .groups
        .iter()
        .filter(|group| group.kept < group.units)
        .collect();
    let lost = |group: &GroupRow| {
        group.params as f64 * (group.units - group.kept) as f64 / group.units.max(1) as f64
    };
    cut.sort_by(|a, b| lost(b).total_cmp(&lost(a)));
    let mut table = TextTable::new(&["group", "kind", "units", "kept", "remains"], &[0, 1]);
    table.left_out = cut.len().saturating_sub(limit);
    let row = |group: &&GroupRow| {
        let share = units::percent(group.kept as f64 / group.units.max(1) as f64);
        vec![
            group.id.clone(),
            group.kind.clone(),
            group.units.to_string(),
            group.kept.to_string(),
            share,
        ]
    };
    table.rows = cut.iter().take(limit).map(row).collect();
    table
}

/// All groups, those with most parameters first.
pub fn groups(report: &Report, limit: usize) -> TextTable {
    let mut groups: Vec<&GroupRow> = report.groups.iter().collect();
    groups.sort_by_key(|group| std::cmp::Reverse(group.params));
    let mut table = TextTable::new(
        &["group", "kind", "units", "params", "MACs", "weights"],
        &[0, 1],
    );
    table.left_out = groups.len().saturating_sub(limit);
    let row = |group: &&GroupRow| {
        vec![
            group.id.clone(),
            group.kind.clone(),
            group.units.to_string(),
            units::count(group.params),
            units::count(group.macs),
            group.weights.len().to_string(),
        ]
    };
    table.rows = groups.iter().take(limit).map(row).collect();
    table
}

/// Why parameters are out of reach.
pub fn frozen(report: &Report, limit: usize) -> TextTable {
    let mut table = TextTable::new(&["reason", "params", "of all", "nodes"], &[0, 3]);
    table.left_out = report.frozen.len().saturating_sub(limit);
    for frozen in report.frozen.iter().take(limit) {
        let share = units::percent(frozen.params as f64 / report.original.params.max(1) as f64);
        let held_by = if frozen.held_by.is_empty() {
            String::new()
        } else {
            format!(" (at {})", first(&frozen.held_by))
        };
        table.rows.push(vec![
            frozen.reason.clone() + &held_by,
            units::count(frozen.params),
            share,
            names(&frozen.nodes),
        ]);
    }
    table
}

/// The first name of a list.
fn first(names: &[String]) -> String {
    let more = names.len().saturating_sub(1);
    names.first().cloned().unwrap_or_default()
        + &if more > 0 {
            format!(" and {more} more")
        } else {
            String::new()
        }
}

/// The first names of a list.
fn names(names: &[String]) -> String {
    const SHOWN: usize = 2;
    let mut text = names
        .iter()
        .take(SHOWN)
        .cloned()
        .collect::<Vec<_>>()
        .join(", ");
    if names.len() > SHOWN {
        text += &format!(" and {} more", names.len() - SHOWN);
    }
    text
}

/// The points that were tried or are foreseen, with the option that takes each.
pub fn tradeoff(report: &Report) -> TextTable {
    let mut table = TextTable::new(&["params", "MACs", "size", "drift", "option"], &[4]);
    table.below = least(report);
    for point in &report.tradeoff {
        let macs = units::ratio(
            point.macs as f64,
            report.original.macs.map_or(f64::NAN, |macs| macs as f64),
        );
        table.rows.push(vec![
            units::ratio(point.params as f64, report.original.params as f64),
            macs,
            units::ratio(point.bytes as f64, report.original.bytes as f64),
            match point.estimated {
                true => format!("≈ {}", units::error(point.drift)),
                false => units::error(point.drift),
            },
            point.option.clone(),
        ]);
    }
    table
}

/// The groups that the outputs depend on most, with the option that leaves each whole.
pub fn sensitive(report: &Report) -> TextTable {
    let mut table = TextTable::new(&["group", "units", "gone", "drift", "option"], &[0, 4]);
    let row = |row: &SensitiveRow| {
        vec![
            row.id.clone(),
            row.units.to_string(),
            row.removed.to_string(),
            format!("≈ {}", units::error(row.drift)),
            row.option.clone(),
        ]
    };
    table.rows = report.sensitive.iter().map(row).collect();
    table
}

/// Two digits, not less than the number.
pub fn ceiling(number: f64) -> String {
    if !number.is_finite() || number <= 0.0 {
        return "0".to_owned();
    }
    let scale = 10f64.powi(1 - number.log10().floor() as i32);
    let digits = (number * scale).ceil() / scale;
    let decimals = (1 - number.log10().floor() as i32).clamp(0, 12) as usize;
    let text = format!("{digits:.decimals$}");
    if text.contains('.') {
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    } else {
        text
    }
}

/// Targets and thresholds.
pub fn checks(report: &Report) -> TextTable {
    let mut table = TextTable::new(&["check", "outcome", "found"], &[0, 1, 2]);
    table.rows = report
        .checks
        .iter()
        .map(|check| {
            vec![
                check.name.clone(),
                outcome(check.verdict).to_owned(),
                check.message.clone(),
            ]
        })
        .collect();
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_allow_what_was_measured() {
        assert_eq!(
            [0.01834, 0.2, 0.00999, 3.21, 0.0].map(ceiling),
            ["0.019", "0.2", "0.01", "3.3", "0"]
        );
    }
}
