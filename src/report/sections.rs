//! A report as a row of titled tables, which every form for people lays out in its own way.

use super::terminal::tradeoff_option;
use super::units::{bytes, count, milliseconds, number, percent, seconds};
use super::{Costs, Drift, DriftVerdict, Exactness, ExactnessVerdict, GroupSummary, Report};

/// Which side of its column a text stands on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Align {
    /// Words.
    Left,
    /// Numbers.
    Right,
}

/// A column: its heading and its side.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    /// The heading.
    pub title: &'static str,
    /// The side.
    pub align: Align,
}

/// One titled table with remarks below it; either may be missing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Section {
    /// What it is about.
    pub title: &'static str,
    /// Its columns.
    pub columns: Vec<Column>,
    /// Its rows, a text for every column.
    pub rows: Vec<Vec<String>>,
    /// Rows that were left out.
    pub more: usize,
    /// Sentences below the table.
    pub remarks: Vec<String>,
}

/// Headings from a text: those that begin with `>` are columns of numbers.
fn columns(titles: &[&'static str]) -> Vec<Column> {
    let column = |title: &&'static str| match title.strip_prefix('>') {
        Some(title) => Column { title, align: Align::Right },
        None => Column { title, align: Align::Left },
    };
    titles.iter().map(column).collect()
}

/// All that a report has to say. Long tables show `limit` rows.
pub fn sections(report: &Report, limit: usize) -> Vec<Section> {
    let all = [
        costs(report),
        report.exactness.as_ref().map(exactness),
        report.drift.as_ref().map(drift),
        groups(report, limit),
        frozen(report, limit),
        tradeoff(report, limit),
        run(report),
    ];
    all.into_iter().flatten().collect()
}

fn share(part: u64, whole: u64) -> String {
    if whole == 0 { "–".into() } else { percent(part as f64 / whole as f64) }
}

fn costs(report: &Report) -> Option<Section> {
    let original = report.original.as_ref()?;
    let latency = |costs: &Costs| costs.latency_ms.map_or("–".into(), milliseconds);
    let Some(pruned) = &report.pruned else {
        let mut rows = vec![
            vec!["parameters".into(), count(original.params)],
            vec!["MACs".into(), count(original.macs)],
            vec!["size".into(), bytes(original.bytes)],
        ];
        if original.latency_ms.is_some() {
            rows.push(vec!["latency".into(), latency(original)]);
        }
        let remarks = report
            .params_prunable
            .map(|params| format!("{} of the parameters ({}) can be removed at all", share(params, original.params), count(params)));
        return Some(Section {
            title: "Size",
            columns: columns(&["", ">"]),
            rows,
            remarks: remarks.into_iter().collect(),
            ..Default::default()
        });
    };
    let row = |name: &str, show: fn(u64) -> String, before: u64, after: u64| {
        let factor = if after == 0 { "–".into() } else { format!("{:.2}×", before as f64 / after as f64) };
        vec![name.to_owned(), show(before), show(after), share(after, before), factor]
    };
    let mut rows = vec![
        row("parameters", count, original.params, pruned.params),
        row("MACs", count, original.macs, pruned.macs),
        row("size", bytes, original.bytes, pruned.bytes),
    ];
    if let (Some(before), Some(after)) = (original.latency_ms, pruned.latency_ms) {
        let factor = format!("{:.2}×", before / after);
        rows.push(vec!["latency".into(), latency(original), latency(pruned), percent(after / before), factor]);
    }
    let title = "Before and after";
    Some(Section { title, columns: columns(&["", ">before", ">after", ">remains", ">factor"]), rows, ..Default::default() })
}

fn exactness(exactness: &Exactness) -> Section {
    let inputs = plural(exactness.inputs, "input");
    let error = exactness.max_relative_error.map_or("not known".into(), number);
    let mut remark = match exactness.verdict {
        ExactnessVerdict::Exact => {
            format!("exact: the same as the original with the removed slices zeroed (relative error at most {error} on {inputs})")
        }
        ExactnessVerdict::Inexact => format!("NOT exact: relative error {error} on {inputs}; this is a defect, please report it"),
        ExactnessVerdict::Unverifiable => "could not be checked".to_owned(),
        ExactnessVerdict::Skipped => "not checked".to_owned(),
    };
    if let Some(reason) = &exactness.reason {
        remark += &format!(": {reason}");
    }
    Section { title: "Exactness", remarks: vec![remark], ..Default::default() }
}

fn drift(drift: &Drift) -> Section {
    let rows = drift.outputs.iter().map(|output| {
        vec![
            output.name.clone(),
            number(output.relative_l2),
            format!("{:.5}", output.cosine),
            number(output.max_abs),
            output.top1_agreement.map_or("–".into(), percent),
            output.kl.map_or("–".into(), number),
        ]
    });
    let mut remarks = Vec::new();
    let inputs = plural(drift.inputs, "input");
    remarks.push(match drift.verdict {
        DriftVerdict::Pass => format!("within the thresholds, on {inputs}"),
        DriftVerdict::Fail => format!("NOT within the thresholds, on {inputs}"),
        DriftVerdict::Unverifiable => "the models could not be compared".to_owned(),
        DriftVerdict::Skipped => "not measured".to_owned(),
    });
    if drift.synthetic && matches!(drift.verdict, DriftVerdict::Pass | DriftVerdict::Fail) {
        remarks.push("the inputs were made up: on real ones (--data) the drift is another".into());
    }
    if let Some(labelled) = &drift.labelled {
        let (before, after) = (percent(labelled.original), percent(labelled.pruned));
        remarks.push(format!("{} against the labels: {before} before, {after} after", labelled.metric));
    }
    Section {
        title: "Drift",
        columns: columns(&["output", ">relative L2", ">cosine", ">max abs", ">top-1 agrees", ">KL"]),
        rows: rows.collect(),
        remarks,
        ..Default::default()
    }
}

/// What a group is called: by its first weight, and how many others hang on it.
fn called(group: &GroupSummary) -> String {
    match group.weights.as_slice() {
        [] => group.id.clone(),
        [weight] => weight.clone(),
        [weight, others @ ..] => format!("{weight} + {}", others.len()),
    }
}

/// Parameters of a group that are gone, if all its units are alike.
fn removed_params(group: &GroupSummary) -> u64 {
    let removed = group.units.saturating_sub(group.kept) as u128;
    u64::try_from(u128::from(group.params) * removed / group.units.max(1) as u128).unwrap_or(u64::MAX)
}

fn groups(report: &Report, limit: usize) -> Option<Section> {
    if report.groups.is_empty() {
        return None;
    }
    let mut groups: Vec<&GroupSummary> = report.groups.iter().collect();
    if report.pruned.is_none() {
        groups.sort_by_key(|group| std::cmp::Reverse(group.params));
        let rows = groups.iter().take(limit).map(|group| {
            let lossy = group.lossy.clone().unwrap_or_default();
            vec![called(group), group.kind.clone(), group.units.to_string(), count(group.params), count(group.macs), lossy]
        });
        return Some(Section {
            title: "What can be removed",
            columns: columns(&["group", "kind", ">units", ">parameters", ">MACs", "at a loss because of"]),
            rows: rows.collect(),
            more: groups.len().saturating_sub(limit),
            ..Default::default()
        });
    }
    groups.retain(|group| group.kept < group.units);
    groups.sort_by_key(|group| std::cmp::Reverse(removed_params(group)));
    let rows = groups.iter().take(limit).map(|group| {
        let units = format!("{} → {}", group.units, group.kept);
        vec![called(group), group.kind.clone(), units, share(group.kept as u64, group.units as u64), count(removed_params(group))]
    });
    let untouched = report.groups.len() - groups.len();
    let remark = match (groups.len(), untouched) {
        (0, _) => Some("nothing was cut".to_owned()),
        (_, 0) => None,
        _ => Some(format!("{} left whole", plural(untouched, "group"))),
    };
    Some(Section {
        title: "Cut most",
        columns: columns(&["group", "kind", ">units", ">kept", ">parameters gone"]),
        rows: rows.collect(),
        more: groups.len().saturating_sub(limit),
        remarks: remark.into_iter().collect(),
    })
}

fn frozen(report: &Report, limit: usize) -> Option<Section> {
    if report.frozen.is_empty() {
        return None;
    }
    let whole = report.original.as_ref().map_or(0, |costs| costs.params);
    let rows = report.frozen.iter().take(limit).map(|frozen| {
        const NAMED: usize = 3;
        let mut nodes = frozen.nodes.iter().take(NAMED).cloned().collect::<Vec<_>>().join(", ");
        if frozen.nodes.len() > NAMED {
            nodes += &format!(" + {}", frozen.nodes.len() - NAMED);
        }
        vec![count(frozen.params), share(frozen.params, whole), frozen.reason.clone(), nodes]
    });
    Some(Section {
        title: "Frozen, and why",
        columns: columns(&[">parameters", ">of all", "reason", "nodes"]),
        rows: rows.collect(),
        more: report.frozen.len().saturating_sub(limit),
        ..Default::default()
    })
}

fn tradeoff(report: &Report, limit: usize) -> Option<Section> {
    let original = report.original.as_ref()?;
    if report.tradeoff.is_empty() {
        return None;
    }
    let rows = report.tradeoff.iter().take(limit).map(|point| {
        vec![
            share(point.macs, original.macs),
            share(point.params, original.params),
            share(point.bytes, original.bytes),
            point.drift.map_or("–".into(), number),
            tradeoff_option(point, original).unwrap_or_default(),
        ]
    });
    Some(Section {
        title: "Trade-off",
        columns: columns(&[">MACs", ">parameters", ">size", ">drift", "taken by"]),
        rows: rows.collect(),
        more: report.tradeoff.len().saturating_sub(limit),
        ..Default::default()
    })
}

fn run(report: &Report) -> Option<Section> {
    let mut remarks = Vec::new();
    if let Some(runtime) = &report.runtime {
        remarks.push(format!("models were run in {} {}", runtime.name, runtime.version));
    }
    if !report.seconds.0.is_empty() {
        let phases: Vec<String> = report.seconds.0.iter().map(|(phase, time)| format!("{phase} {}", seconds(*time))).collect();
        remarks.push(phases.join(", "));
    }
    if let Some(peak) = report.peak_rss_bytes {
        remarks.push(format!("{} of memory at most", bytes(peak)));
    }
    if remarks.is_empty() { None } else { Some(Section { title: "Run", remarks, ..Default::default() }) }
}

fn plural(number: usize, noun: &str) -> String {
    if number == 1 { format!("1 {noun}") } else { format!("{number} {noun}s") }
}
