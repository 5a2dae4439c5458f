//! A report in sentences: what the terminal, Markdown, HTML and JUnit say in common.

use super::types::{Foreseen, Report, VocabularyRow};
use super::units;
use super::verdicts::{CheckVerdict, ExactnessVerdict};

/// One sentence on what operations are counted of; empty where nothing depends on shapes and nothing is left out.
pub fn counted_at(report: &Report) -> String {
    if report.original.macs.is_none() {
        return String::new();
    }
    let mean = if report.mean_of_branches {
        "; where the inputs' numbers choose a branch, the branches count in equal parts"
    } else {
        ""
    };
    match (shapes(report), uncounted(report)) {
        (None, None) => mean.trim_start_matches("; ").to_owned(),
        (Some(shapes), None) => format!("MACs are of one run with {shapes}{mean}"),
        (Some(shapes), Some(rest)) => {
            format!("MACs are of one run with {shapes}, without {rest}{mean}")
        }
        (None, Some(rest)) => format!("MACs are of one run, without {rest}{mean}"),
    }
}

/// One sentence on a vocabulary of which tokens went.
pub fn vocabulary(row: &VocabularyRow) -> String {
    let outputs = match &row.outputs[..] {
        [] => String::new(),
        names => format!("; {} has an entry for each that stays", names.join(", ")),
    };
    format!(
        "vocabulary: {} of {} tokens stay, which saves {} parameters and {}; {} takes the new ids{outputs}",
        row.kept,
        row.rows,
        units::count(row.params_saved),
        units::bytes(row.bytes_saved),
        row.inputs.join(", "),
    )
}

/// One sentence on the least that can be reached; `None` where no error curves tell.
pub fn least(report: &Report) -> Option<String> {
    let (least, whole) = (report.least.as_ref()?, &report.original);
    let number = |count: Option<u64>| count.map_or(f64::NAN, |count| count as f64);
    Some(format!(
        "the least that can be reached: params {}, MACs {}, size {}; ≈ is foreseen by error curves",
        units::ratio(least.params as f64, whole.params as f64),
        units::ratio(number(least.macs), number(whole.macs)),
        units::ratio(least.bytes as f64, whole.bytes as f64),
    ))
}

/// The shapes of the inputs at which operations are counted.
fn shapes(report: &Report) -> Option<String> {
    /// Inputs named, at most.
    const NAMED: usize = 4;
    if report.counted_at.is_empty() {
        return None;
    }
    let shape = |dims: &[i64]| match dims {
        [] => "a single number".to_owned(),
        dims => dims
            .iter()
            .map(i64::to_string)
            .collect::<Vec<_>>()
            .join("×"),
    };
    let named = report
        .counted_at
        .iter()
        .take(NAMED)
        .map(|(name, dims)| format!("{name} {}", shape(dims)));
    let more = report.counted_at.len().saturating_sub(NAMED);
    let more = if more > 0 {
        format!(" and {}", plural(more, "more input"))
    } else {
        String::new()
    };
    Some(format!("{}{more}", named.collect::<Vec<_>>().join(", ")))
}

/// The nodes whose operations are not known: how many, and the first.
fn uncounted(report: &Report) -> Option<String> {
    let first = report.uncounted.first()?;
    let name = format!("'{}' ({})", first.node, first.operator);
    Some(match report.uncounted.len() {
        1 => format!("the node {name}, whose cost is not known"),
        count => format!("{count} nodes whose cost is not known, the first of them {name}"),
    })
}

/// Warnings and notes, one sentence each, and which of both each is.
pub fn said(report: &Report) -> impl Iterator<Item = (&'static str, &str)> {
    let warnings = report.warnings.iter().map(|text| ("Warning", &**text));
    warnings.chain(report.remarks.iter().map(|text| ("Note", &**text)))
}

/// One sentence on exactness; empty where there is nothing to say.
pub fn exactness(report: &Report) -> String {
    let exactness = &report.exactness;
    let inputs = plural(exactness.inputs, "input");
    let error = exactness
        .max_relative_error
        .map(units::error)
        .unwrap_or_default();
    let reason = exactness.reason.as_deref();
    match exactness.verdict {
        ExactnessVerdict::Exact if exactness.inputs == 0 => {
            format!("exact: {}", reason.unwrap_or("nothing was removed"))
        }
        ExactnessVerdict::Exact => {
            let equal = format!(
                "exact: equals the masked original on {inputs} (largest relative error {error})"
            );
            reason.map_or(equal.clone(), |reason| format!("{equal}; {reason}"))
        }
        ExactnessVerdict::Inexact if exactness.inputs == 0 => format!(
            "INEXACT: {}; the surgery is wrong",
            reason.unwrap_or_default()
        ),
        ExactnessVerdict::Inexact => {
            let reason = reason
                .map(|reason| format!(" ({reason})"))
                .unwrap_or_default();
            format!(
                "INEXACT: differs from the masked original by {error} on {inputs}{reason}; the surgery is wrong"
            )
        }
        ExactnessVerdict::Unverifiable => format!(
            "unverifiable: {}",
            exactness.reason.as_deref().unwrap_or("unknown reason")
        ),
        ExactnessVerdict::Skipped => "not checked".to_owned(),
    }
}

/// One sentence on the drift; empty where nothing ran.
pub fn drift(report: &Report) -> String {
    let Some(worst) = report.drift.worst() else {
        return String::new();
    };
    let made_up = if report.drift.synthetic {
        " made-up"
    } else {
        ""
    };
    let number = |number: usize| {
        format!(
            "{number}{made_up} input{}",
            if number == 1 { "" } else { "s" }
        )
    };
    let inputs = match report.drift.held_out {
        Some(0) => format!(
            "{}, which were fitted to as well",
            number(report.drift.inputs)
        ),
        Some(apart) if apart < report.drift.inputs => {
            format!("{apart} of {}, kept apart", number(report.drift.inputs))
        }
        _ => number(report.drift.inputs),
    };
    let mut text = format!(
        "{} ({}, {inputs})",
        units::error(worst.relative_l2),
        worst.name
    );
    if let Some(agreement) = report
        .drift
        .outputs
        .iter()
        .filter_map(|output| output.top1_agreement)
        .min_by(f64::total_cmp)
    {
        text += &format!(", same top-1 class {}", units::percent(agreement));
    }
    let ranks = report.drift.outputs.iter();
    let ranks = ranks.filter_map(|output| output.rank_correlation);
    if let Some(ranks) = ranks.min_by(f64::total_cmp) {
        text += &format!(", ranks of similarities correlate {}", units::error(ranks));
    }
    text
}

/// One sentence on a latency aimed at.
pub fn latency(latency: &Foreseen) -> String {
    let [predicted, measured] =
        [latency.predicted_ms, latency.measured_ms].map(units::milliseconds);
    format!(
        "{predicted} predicted, {measured} measured, table corrected {}",
        times(latency.corrections)
    )
}

fn times(number: usize) -> String {
    if number == 1 {
        "once".to_owned()
    } else {
        format!("{number} times")
    }
}

/// One sentence on the labelled metric.
pub fn labelled(report: &Report) -> Option<String> {
    let labelled = report.drift.labelled.as_ref()?;
    Some(format!(
        "{} → {}",
        units::percent(labelled.original),
        units::percent(labelled.pruned)
    ))
}

/// An outcome in a word.
pub fn outcome(outcome: CheckVerdict) -> &'static str {
    match outcome {
        CheckVerdict::Pass => "met",
        CheckVerdict::Fail => "not met",
        CheckVerdict::Unverifiable => "unverifiable",
        CheckVerdict::Measured => "measured",
        CheckVerdict::Skipped => "skipped",
    }
}

/// Seconds by phase.
pub fn seconds(report: &Report) -> String {
    report
        .seconds
        .iter()
        .map(|(phase, seconds)| format!("{phase} {}", units::seconds(*seconds)))
        .collect::<Vec<_>>()
        .join(", ")
}

/// `1 input`, `3 inputs`.
pub fn plural(number: usize, name: &str) -> String {
    if number == 1 {
        format!("1 {name}")
    } else {
        format!("{number} {name}s")
    }
}
