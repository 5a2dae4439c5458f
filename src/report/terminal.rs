//! Reports on the terminal.

use comfy_table::{CellAlignment, Table as Drawn, presets};

use super::sentences;
use super::view::{self, TextTable};
use super::{CostRow, Report, units, zeros};

/// Groups shown.
const GROUPS: usize = 8;
/// Reasons shown.
const REASONS: usize = 6;
/// Inputs and outputs shown.
const ENDS: usize = 8;
/// Groups that an inspection shows.
const INSPECTED: usize = 24;

/// The outcome of the main job.
pub fn summary(report: &Report) -> String {
    let mut text = costs(report);
    part(&mut text, "Zeros", &zeros::sparsity(report), "row");
    text += "\n";
    verdicts(report, &mut text);
    part(
        &mut text,
        "Inputs and outputs that changed",
        &view::io_changed(report, ENDS),
        "input or output",
    );
    part(&mut text, "Trade-off", &view::tradeoff(report), "point");
    part(
        &mut text,
        "Most sensitive",
        &view::sensitive(report),
        "group",
    );
    part(
        &mut text,
        "Groups cut most",
        &view::cut(report, GROUPS),
        "group",
    );
    part(
        &mut text,
        "Weights that stay dense",
        &zeros::left_dense(report, REASONS),
        "weight",
    );
    part(
        &mut text,
        "Out of reach",
        &view::frozen(report, REASONS),
        "reason",
    );
    footer(report, &mut text);
    text
}

/// The models of a sweep.
pub fn sweep(report: &Report) -> String {
    let mut text = draw(&super::sweep::sweep(report));
    let at = sentences::counted_at(report);
    if !at.is_empty() {
        text += &format!("{}\n", plain(&at));
    }
    for check in &report.checks {
        if !matches!(check.verdict, super::CheckVerdict::Pass) {
            let outcome = sentences::outcome(check.verdict);
            text += &plain(&format!("{outcome:<11}{}: {}", check.name, check.message));
            text += "\n";
        }
    }
    footer(report, &mut text);
    text
}

/// What could be pruned.
pub fn inspection(report: &Report) -> String {
    let mut text = costs(report);
    let params = report.original.params.max(1);
    text += &format!(
        "\n{} of {} parameters ({}) belong to removable units, in {}\n",
        units::count(report.params_prunable),
        units::count(report.original.params),
        units::percent(report.params_prunable as f64 / params as f64),
        sentences::plural(report.groups.len(), "group")
    );
    report
        .remarks
        .iter()
        .for_each(|remark| text += &format!("{}\n", plain(remark)));
    part(
        &mut text,
        "Groups",
        &view::groups(report, INSPECTED),
        "group",
    );
    part(
        &mut text,
        "Out of reach",
        &view::frozen(report, usize::MAX),
        "reason",
    );
    text
}

/// Zeros among the weights.
pub fn sparsification(report: &Report) -> String {
    let mut text = draw(&zeros::sparsity(report));
    text += "\n";
    verdicts(report, &mut text);
    part(
        &mut text,
        "Layers",
        &zeros::sparse_layers(report, INSPECTED),
        "layer",
    );
    part(
        &mut text,
        "Left as they are",
        &zeros::left_dense(report, REASONS),
        "weight",
    );
    footer(report, &mut text);
    text
}

/// How far the outputs moved.
pub fn verification(report: &Report) -> String {
    let mut text = costs(report);
    text += "\n";
    verdicts(report, &mut text);
    if report.drift.outputs.len() > 1 {
        part(&mut text, "Outputs", &view::outputs(report), "output");
    }
    if let Some(runtime) = &report.runtime {
        text += &format!("\nrun in {} {}\n", runtime.name, runtime.version);
    }
    text
}

/// Models side by side: path, cost, milliseconds. The report says at which shapes operations are counted.
pub fn latencies(report: &Report, models: &[(String, CostRow, f64)]) -> String {
    let mut table = TextTable::new(
        &["model", "params", "MACs", "size", "latency", "of the first"],
        &[0],
    );
    let first = models.first().map_or(f64::NAN, |model| model.2);
    for (path, cost, milliseconds) in models {
        let ratio = units::ratio(*milliseconds, first);
        let [params, macs] = [cost.params, cost.macs.unwrap_or_default()].map(units::count);
        table.rows.push(vec![
            path.clone(),
            params,
            macs,
            units::bytes(cost.bytes),
            units::milliseconds(*milliseconds),
            ratio,
        ]);
    }
    let at = sentences::counted_at(report);
    draw(&table)
        + &if at.is_empty() {
            at
        } else {
            format!("\n{}\n", plain(&at))
        }
}

fn costs(report: &Report) -> String {
    let at = sentences::counted_at(report);
    draw(&view::costs(report))
        + &if at.is_empty() {
            at
        } else {
            format!("{}\n", plain(&at))
        }
}

fn verdicts(report: &Report, text: &mut String) {
    let mut line = |name: &str, value: &str| *text += &format!("{name:<11}{}\n", plain(value));
    if let Some(fed) = &report.fed {
        line("inputs", &fed.line);
    }
    if report.exactness.verdict != super::ExactnessVerdict::Skipped {
        line("exactness", &sentences::exactness(report));
    }
    if !report.drift.outputs.is_empty() {
        line("drift", &sentences::drift(report));
    }
    if let Some(labelled) = sentences::labelled(report) {
        line("top-1", &labelled);
    }
    if let Some(latency) = &report.latency {
        line("latency", &sentences::latency(latency));
    }
    if let Some(sparsity) = &report.sparsity {
        line("speed", &sparsity.speed);
    }
    for check in &report.checks {
        line(
            sentences::outcome(check.verdict),
            &format!("{}: {}", check.name, check.message),
        );
    }
    report
        .remarks
        .iter()
        .for_each(|remark| line("note", remark));
}

fn part(text: &mut String, title: &str, table: &TextTable, what: &str) {
    if table.rows.is_empty() {
        return;
    }
    *text += &format!("\n{title}\n{}", draw(table));
    if table.left_out > 0 {
        *text += &format!(" and {} more\n", sentences::plural(table.left_out, what));
    }
    if let Some(below) = &table.below {
        *text += &format!(" {}\n", plain(below));
    }
}

fn footer(report: &Report, text: &mut String) {
    let seconds: f64 = report.seconds.values().sum();
    *text += &format!("\n{}", units::seconds(seconds));
    if let Some(runtime) = &report.runtime {
        *text += &format!(", run in {} {}", runtime.name, runtime.version);
    }
    if let Some(peak) = report.peak_rss_bytes {
        *text += &format!(", peak memory {}", units::bytes(peak));
    }
    *text += "\n";
}

fn draw(table: &TextTable) -> String {
    let mut drawn = Drawn::new();
    drawn.load_style(presets::NOTHING);
    drawn.set_header(table.head.clone());
    table.rows.iter().for_each(|row| {
        drawn.add_row(row.iter().map(|cell| plain(cell)).collect::<Vec<_>>());
    });
    for (at, column) in drawn.column_iter_mut().enumerate() {
        column.set_cell_alignment(if table.text.contains(&at) {
            CellAlignment::Left
        } else {
            CellAlignment::Right
        });
    }
    drawn
        .lines()
        .map(|line| line.trim_end().to_owned() + "\n")
        .collect()
}

/// Names come from the model: nothing in them may steer the terminal.
fn plain(text: &str) -> String {
    text.chars()
        .map(|character| {
            if character.is_control() {
                '\u{fffd}'
            } else {
                character
            }
        })
        .collect()
}
