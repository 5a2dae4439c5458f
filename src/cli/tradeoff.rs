//! What can be had for how much drift, with the options that ask for it.

use super::convert;
use crate::allocate::Target;
use crate::prune::{Outcome, Point, Request, SensitiveGroup};
use crate::report::{self, PointRow, Report, SensitiveRow};

/// Fills in the trade-off: its points, the least that can be reached, and the groups that are most sensitive.
pub(super) fn tell(report: &mut Report, outcome: &Outcome, request: &Request) {
    let tradeoff = &outcome.tradeoff;
    let point = |point: &Point| PointRow {
        macs: point.cost.macs.round() as u64,
        params: point.cost.params.round() as u64,
        bytes: point.cost.bytes.round() as u64,
        drift: point.drift,
        estimated: point.estimated,
        option: match point.estimated {
            true => size(point, outcome, request),
            false => asked(request)
                .unwrap_or_else(|| format!("--target drift={}", report::ceiling(point.drift))),
        },
    };
    report.tradeoff = tradeoff.points.iter().map(point).collect();
    report.least = tradeoff.least.map(|least| convert::cost(&least, None));
    report.sensitive = tradeoff.sensitive.iter().map(sensitive).collect();
}

/// The sizes and times that were asked for, where no quality was: what was measured is the answer to these.
fn asked(request: &Request) -> Option<String> {
    let searched = request.drift.is_some() || request.agreement.is_some();
    let targets = request
        .targets
        .iter()
        .map(|target| format!("--target {target}"));
    (!searched && !request.targets.is_empty()).then(|| targets.collect::<Vec<_>>().join(" "))
}

/// The option that asks for the size of a point, in the measure that was asked in.
fn size(point: &Point, outcome: &Outcome, request: &Request) -> String {
    let is_size = |target: &&Target| !matches!(target, Target::Latency(_));
    let target = request.targets.iter().find(is_size);
    let target = target.copied().unwrap_or(Target::Macs(1.0));
    let name = match target {
        Target::Params(_) => "params",
        Target::Bytes(_) => "bytes",
        _ => "macs",
    };
    let fraction = target.of(&point.cost, &outcome.before);
    format!("--target {name}={}", report::ceiling(fraction))
}

fn sensitive(group: &SensitiveGroup) -> SensitiveRow {
    let pattern = group.pattern.text();
    SensitiveRow {
        id: group.id.clone(),
        units: group.units,
        removed: group.removed,
        drift: group.drift,
        exclude: pattern.to_owned(),
        option: format!("--exclude {}", quoted(pattern)),
    }
}

/// A word as a shell takes it.
fn quoted(word: &str) -> String {
    let plain =
        |character: char| character.is_ascii_alphanumeric() || "_-./:=+,@%".contains(character);
    match !word.is_empty() && word.chars().all(plain) {
        true => word.to_owned(),
        false => format!("'{}'", word.replace('\'', r"'\''")),
    }
}

#[cfg(test)]
mod tests {
    use super::quoted;

    #[test]
    fn words_are_quoted_where_a_shell_would_read_them() {
        assert_eq!(
            ["layer.0/conv", "a[*]b", "it's", ""].map(quoted),
            ["layer.0/conv", "'a[*]b'", r"'it'\''s'", "''"]
        );
    }
}
