//! For a terminal: short tables that need neither colour nor width.

use comfy_table::presets::NOTHING;
use comfy_table::{Cell, CellAlignment, ContentArrangement, Table};

use super::sections::{Align, sections};
use super::units::{count, number};
use super::{Costs, Report, TradeoffPoint};

/// Rows that a long table shows.
const ROWS: usize = 8;
/// Letters that one cell shows; names of nodes can be very long.
const LETTERS: usize = 56;

/// The report in some thirty lines.
pub fn terminal(report: &Report) -> String {
    let mut text = format!("{}  ({}, {} nodes)\n", report.model.path, opsets(report), count(report.model.nodes as u64));
    for section in sections(report, ROWS) {
        text += &format!("\n{}\n", section.title);
        if !section.rows.is_empty() {
            let mut table = Table::new();
            table.load_style(NOTHING).set_content_arrangement(ContentArrangement::Disabled);
            if section.columns.iter().any(|column| !column.title.is_empty()) {
                table.set_header(section.columns.iter().map(|column| Cell::new(column.title)));
            }
            for row in &section.rows {
                table.add_row(row.iter().map(|cell| Cell::new(shortened(cell))));
            }
            for (number, column) in section.columns.iter().enumerate() {
                if let (Align::Right, Some(column)) = (column.align, table.column_mut(number)) {
                    column.set_cell_alignment(CellAlignment::Right);
                }
            }
            for line in table.lines() {
                text += &format!(" {}\n", line.trim_end());
            }
        }
        if section.more > 0 {
            text += &format!("  … and {} more\n", section.more);
        }
        for remark in &section.remarks {
            text += &format!("  {remark}\n");
        }
    }
    text
}

pub(super) fn opsets(report: &Report) -> String {
    let opset = |(domain, version): (&String, &i64)| match domain.as_str() {
        "" | "ai.onnx" => format!("opset {version}"),
        _ => format!("{domain} {version}"),
    };
    report.model.opset.iter().map(opset).collect::<Vec<_>>().join(", ")
}

/// The middle left out, for names differ at their ends.
fn shortened(text: &str) -> String {
    let length = text.chars().count();
    if length <= LETTERS {
        return text.to_owned();
    }
    let head: String = text.chars().take(LETTERS / 2 - 1).collect();
    let tail: String = text.chars().skip(length - LETTERS / 2).collect();
    format!("{head}…{tail}")
}

/// The option that takes a point of the trade-off again: its drift, rounded up so that the point is within it; else its
/// share of MACs. `None` for the original itself.
pub fn tradeoff_option(point: &TradeoffPoint, original: &Costs) -> Option<String> {
    let whole = (point.macs, point.params, point.bytes) == (original.macs, original.params, original.bytes);
    if whole {
        return None;
    }
    match point.drift {
        Some(drift) if drift > 0.0 && drift.is_finite() => Some(format!("--target drift={}", number(rounded_up(drift)))),
        _ if original.macs > 0 => Some(format!("--target macs={}", number(rounded_up(point.macs as f64 / original.macs as f64)))),
        _ => None,
    }
}

/// The next number above with two digits that count.
fn rounded_up(value: f64) -> f64 {
    if value <= 0.0 || !value.is_finite() {
        return 0.0;
    }
    let step = 10f64.powf(value.log10().floor() - 1.0);
    // 0.02 must not become 0.021 because of its last bit.
    (value / step - 1e-9).ceil() * step
}
