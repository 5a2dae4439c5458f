//! Targets and thresholds held against what was found.

use std::path::Path;

use super::Exit;
use super::args::Thresholds;
use crate::allocate::{TOLERANCE, Target};
use crate::cost::Cost;
use crate::evaluate::{ALLOWANCE, Latency};
use crate::latency::NEAR;
use crate::plan::Fit;
use crate::prune::FAR;
use crate::report::{self, Check, CheckVerdict, ExactnessVerdict, Report};
use crate::verify::OutputDrift;

/// Holds the thresholds against the drift that the report tells of, and sets the drift's verdict.
pub(super) fn thresholds(report: &mut Report, gate: &Thresholds) {
    let mut found = Vec::new();
    if let Some(allowed) = gate.max_drift {
        let worst = report.drift.worst().map(|output| output.relative_l2);
        found.push(check(
            format!("--max-drift {allowed}"),
            worst,
            |worst| worst <= allowed,
            "the outputs' drift could not be measured",
        ));
    }
    if let Some(least) = gate.min_agreement {
        let agreement = report
            .drift
            .outputs
            .iter()
            .filter_map(OutputDrift::agreement)
            .min_by(f64::total_cmp);
        let none = if report.drift.outputs.is_empty() {
            "the outputs' agreement could not be measured"
        } else {
            "no output is one score per class or rows of embeddings, so there is no agreement"
        };
        found.push(check(
            format!("--min-agreement {least}"),
            agreement,
            |agreement| agreement >= least,
            none,
        ));
    }
    let any = |outcome| found.iter().any(|check: &Check| check.verdict == outcome);
    if any(CheckVerdict::Fail) {
        report.drift.verdict = CheckVerdict::Fail;
    } else if any(CheckVerdict::Unverifiable) {
        report.drift.verdict = CheckVerdict::Unverifiable;
    } else if any(CheckVerdict::Pass) {
        report.drift.verdict = CheckVerdict::Pass;
    }
    report.checks.extend(found);
}

fn check(name: String, number: Option<f64>, holds: impl Fn(f64) -> bool, none: &str) -> Check {
    match number {
        Some(number) => Check {
            name,
            verdict: if holds(number) {
                CheckVerdict::Pass
            } else {
                CheckVerdict::Fail
            },
            message: report::number(number),
        },
        None => Check {
            name,
            verdict: CheckVerdict::Unverifiable,
            message: none.to_owned(),
        },
    }
}

/// Holds the targets of size against the costs.
pub(super) fn targets(report: &mut Report, targets: &[Target], before: &Cost, after: &Cost) {
    for target in targets
        .iter()
        .filter(|target| !matches!(target, Target::Latency(_)))
    {
        let fraction = target.of(after, before);
        let holds = |fraction: f64| fraction <= target.fraction() + TOLERANCE;
        report.checks.push(check(
            format!("--target {target}"),
            Some(fraction),
            holds,
            "",
        ));
    }
}

/// Holds targets of latency against the clock: near enough, and in no case slower than the original.
pub(super) fn latency_targets(report: &mut Report, targets: &[Target], latency: Option<Latency>) {
    for target in targets
        .iter()
        .filter(|target| matches!(target, Target::Latency(_)))
    {
        let fraction = latency.map(|latency| latency.pruned / latency.original);
        let holds = |fraction: f64| fraction <= target.fraction() * (1.0 + NEAR);
        report.checks.push(check(
            format!("--target {target}"),
            fraction,
            holds,
            "the latency could not be measured",
        ));
        if let Some(fraction) = fraction.filter(|fraction| *fraction >= 1.0) {
            report.checks.push(check(
                "faster than the original".to_owned(),
                Some(fraction),
                |_| false,
                "",
            ));
            report.remarks.push(
                "the pruned model is not faster than the original here, so it is refused"
                    .to_owned(),
            );
        }
    }
}

/// Holds the drift that was aimed at against what was measured; nothing is said where nothing ran.
pub(super) fn drift_target(report: &mut Report, allowed: f64, reached: bool) {
    if let Some(worst) = report.drift.worst().map(|output| output.relative_l2) {
        // The search measures on other inputs than those that this is of.
        if worst > allowed && worst <= allowed * ALLOWANCE && reached {
            report.remarks.push(format!(
                "a drift up to a tenth above {allowed} counts as met: it is measured on inputs that the search has not seen"
            ));
        }
        report.checks.push(check(
            format!("--target drift={allowed}"),
            Some(worst),
            |worst| worst <= allowed * ALLOWANCE && reached,
            "",
        ));
    }
}

/// Holds the agreement that was aimed at against what was measured.
pub(super) fn agreement_target(report: &mut Report, least: f64, found: Option<f64>, reached: bool) {
    report.checks.push(check(
        format!("--target agreement={least}"),
        found,
        |_| reached,
        "no output tells of agreement",
    ));
}

/// Refuses a model whose outputs have little in common with the original's, whatever was asked for.
pub(super) fn far_off(report: &mut Report) {
    let worst = report.drift.worst().map(|output| output.relative_l2);
    // What is no number any more is as far away as can be.
    if let Some(worst) = worst.filter(|worst| worst.is_nan() || *worst >= FAR) {
        report.checks.push(check(
            format!("drift below {FAR}"),
            Some(worst),
            |_| false,
            "",
        ));
    }
}

/// Refuses a model that is larger than the original.
pub(super) fn grown(report: &mut Report) {
    let before = &report.original;
    let Some(after) = &report.pruned else { return };
    if after.params > before.params && after.bytes > before.bytes {
        let message = format!("{} parameters, {} before", after.params, before.params);
        report.checks.push(Check {
            name: "no larger than the original".to_owned(),
            verdict: CheckVerdict::Fail,
            message,
        });
    }
}

/// Holds how the weights were fitted against what the plan says of it, unless the user said how. Without that fit the plan
/// makes another model than the one that was measured when it was made.
pub(super) fn fit(
    report: &mut Report,
    plan: &Path,
    (planned, found): (&Fit, Option<&Fit>),
    said: bool,
) {
    let name = format!("--plan {}", plan.display());
    let is_said = report.checks.iter().any(|check| check.name == name);
    if planned.fitted() && !said && !is_said && !found.is_some_and(Fit::fitted) {
        let message = format!(
            "the plan's weights were fitted {}, here they are the original's; give those inputs with --data, or take them as they are with --recover none",
            planned.describe()
        );
        report.checks.push(Check {
            name,
            verdict: CheckVerdict::Fail,
            message,
        });
    }
}

/// Checks that failed or could not be made, each in a clause.
pub(super) fn failed(report: &Report) -> Vec<String> {
    let failed = report.checks.iter().filter(|check| {
        matches!(
            check.verdict,
            CheckVerdict::Fail | CheckVerdict::Unverifiable
        )
    });
    failed
        .map(|check| format!("{}: {}", check.name, check.message))
        .collect()
}

/// The exit code that the report deserves.
pub(super) fn exit(report: &Report, reached: bool, allow_unverified: bool) -> Exit {
    let any = |outcome| report.checks.iter().any(|check| check.verdict == outcome);
    if report.exactness.verdict == ExactnessVerdict::Inexact || any(CheckVerdict::Fail) || !reached
    {
        return Exit::Missed;
    }
    let unverifiable = report.exactness.verdict == ExactnessVerdict::Unverifiable
        || any(CheckVerdict::Unverifiable);
    match (unverifiable, allow_unverified) {
        (true, false) => Exit::Unverifiable,
        // A threshold that was asked for and could not be measured is not met, whatever else may be accepted.
        (true, true) if any(CheckVerdict::Unverifiable) => Exit::Missed,
        _ => Exit::Done,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::CostRow;

    fn verdict(target: f64, original: f64, pruned: f64) -> (Exit, usize) {
        let mut report = Report::default();
        latency_targets(
            &mut report,
            &[Target::Latency(target)],
            Some(Latency { original, pruned }),
        );
        (exit(&report, true, false), report.remarks.len())
    }

    #[test]
    fn latencies_are_met_nearly_or_refused() {
        assert_eq!(verdict(0.6, 10.0, 6.2), (Exit::Done, 0));
        assert_eq!(verdict(0.6, 10.0, 6.4), (Exit::Missed, 0));
        // Near enough to a light target, and slower all the same.
        assert_eq!(verdict(0.99, 10.0, 10.1), (Exit::Missed, 1));
    }

    #[test]
    fn outputs_with_little_in_common_are_refused_whatever_the_target() {
        let refused = |relative_l2: f64| {
            let mut report = Report::default();
            let target = [Target::Latency(0.6)];
            let latency = Latency {
                original: 10.0,
                pruned: 6.0,
            };
            latency_targets(&mut report, &target, Some(latency));
            report.drift.outputs.push(OutputDrift {
                relative_l2,
                ..Default::default()
            });
            far_off(&mut report);
            exit(&report, true, false) == Exit::Missed
        };
        assert_eq!(
            [0.1, 0.499, 0.5, f64::NAN].map(refused),
            [false, false, true, true]
        );
    }

    #[test]
    fn a_model_that_grew_is_refused_by_name() {
        let mut report = Report::default();
        (report.original.params, report.original.bytes) = (144, 900);
        report.pruned = Some(CostRow {
            params: 192,
            bytes: 1100,
            ..Default::default()
        });
        grown(&mut report);
        assert!(exit(&report, true, false) == Exit::Missed);
        assert_eq!(
            failed(&report),
            ["no larger than the original: 192 parameters, 144 before"]
        );
        let mut same = Report::default();
        grown(&mut same);
        assert!(same.checks.is_empty());
    }
}
