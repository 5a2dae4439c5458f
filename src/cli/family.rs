//! The words of `--sweep`.

use anyhow::bail;
use clap::Args;

use super::option_error::OptionError;
use super::values::{self, GoalText};
use crate::allocate::Target;
use crate::prune::SweepPoint;

/// How many models are made where the user does not say.
const MODELS: usize = 8;
/// How many may be asked for.
const MOST: usize = 100;

/// Several models at once.
#[derive(Clone, Debug, Args)]
pub(super) struct SweepArgs {
    /// Make a family of models from one calibration, macs=0.9..0.3 (any metric of --target): eight, evenly from A to B, or N of
    /// them with macs=0.9..0.3:N. Each goes to a file of its own, OUT.macs-0.9.onnx and so on, and likewise the plans of
    /// --plan-out; the report tells of all, and which of them are worth having
    #[arg(long, value_name = "METRIC=A..B[:N]", value_parser = points, conflicts_with_all = ["plan", "keep_tokens", "resume"])]
    pub sweep: Option<SweepText>,
}

/// What the models of a sweep are to reach, the lightest cut first.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct SweepText(pub Vec<SweepPoint>);

impl SweepArgs {
    /// Whether the models of a sweep are to come down to costs.
    pub fn is_of_costs(&self) -> bool {
        let first = self.sweep.as_ref().and_then(|sweep| sweep.0.first());
        matches!(first, Some(SweepPoint::Cost(_)))
    }

    /// Errors: options that do not go with a sweep.
    pub fn check(&self, goals: &[GoalText], rounds: usize, no_verify: bool) -> anyhow::Result<()> {
        let Some(first) = self.sweep.as_ref().and_then(|sweep| sweep.0.first()) else {
            return Ok(());
        };
        if rounds > 1 {
            bail!("--sweep cuts from one set of curves; leave out --rounds");
        }
        let metric = metric(first);
        for goal in goals {
            let (named, cost) = match goal {
                GoalText::Cost(target) => (name_of(*target), true),
                GoalText::Drift(_) => ("drift", false),
                GoalText::Agreement(_) => ("agreement", false),
            };
            if named == metric {
                bail!(
                    "--sweep {metric}=… sets the target of {metric}; leave out --target {metric}=…"
                );
            }
            if cost && !self.is_of_costs() {
                bail!(
                    "--sweep {metric}=… makes models as small as possible; leave out --target {named}=…"
                );
            }
        }
        if no_verify && !matches!(metric, "macs" | "params" | "bytes") {
            bail!("--sweep {metric}=… is measured by running the models; leave out --no-verify");
        }
        Ok(())
    }
}

/// The metric's name.
pub(super) fn metric(point: &SweepPoint) -> &'static str {
    match point {
        SweepPoint::Cost(target) => name_of(*target),
        SweepPoint::Drift(_) => "drift",
        SweepPoint::Agreement(_) => "agreement",
    }
}

fn name_of(target: Target) -> &'static str {
    match target {
        Target::Macs(_) => "macs",
        Target::Params(_) => "params",
        Target::Bytes(_) => "bytes",
        Target::Latency(_) => "latency",
    }
}

/// `METRIC=A..B`, with `:N` behind it or without. Drifts are spaced by equal factors, all else by equal steps.
fn points(text: &str) -> Result<SweepText, OptionError> {
    let (metric, range) = text.split_once('=').ok_or(OptionError::NoRange)?;
    let (range, count) = match range.rsplit_once(':') {
        Some((range, count)) => (range, values::positive(count)?),
        None => (range, MODELS),
    };
    let (from, to) = range.split_once("..").ok_or(OptionError::NoRange)?;
    if !(2..=MOST).contains(&count) {
        return Err(OptionError::Models(MOST));
    }
    let end = |text: &str| values::goal(&format!("{metric}={text}"));
    let (from, to) = (value(end(from)?), value(end(to)?));
    if from == to {
        return Err(OptionError::EmptyRange(from));
    }
    let geometric = metric == "drift";
    if geometric && from.min(to) <= 0.0 {
        return Err(OptionError::NoDrift);
    }
    let mut numbers: Vec<f64> = (0..count)
        .map(|at| at as f64 / (count - 1) as f64)
        .map(|share| match geometric {
            true => rounded(from * (to / from).powf(share), 2),
            false => rounded(from + (to - from) * share, 3),
        })
        .collect();
    // The lightest cut first.
    numbers.sort_by(|a, b| {
        if geometric {
            a.total_cmp(b)
        } else {
            b.total_cmp(a)
        }
    });
    numbers.dedup();
    let point = |number: &f64| {
        Ok(match end(&number.to_string())? {
            GoalText::Cost(target) => SweepPoint::Cost(target),
            GoalText::Drift(allowed) => SweepPoint::Drift(allowed),
            GoalText::Agreement(least) => SweepPoint::Agreement(least),
        })
    };
    let points: Result<Vec<SweepPoint>, OptionError> = numbers.iter().map(point).collect();
    points.map(SweepText)
}

fn value(goal: GoalText) -> f64 {
    match goal {
        GoalText::Cost(target) => target.fraction(),
        GoalText::Drift(number) | GoalText::Agreement(number) => number,
    }
}

/// A number with so many digits behind the point; of one below a tenth those behind its zeros.
fn rounded(number: f64, digits: i32) -> f64 {
    let zeros = (-number.abs().log10().floor() as i32 - 1).max(0);
    let scale = 10f64.powi(digits + zeros);
    (number * scale).round() / scale
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Vec<String> {
        let SweepText(points) = points(text).unwrap();
        points.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn ranges_are_read_or_refused() {
        let eight = read("macs=0.9..0.3");
        assert_eq!(eight.len(), 8);
        assert_eq!(
            (&*eight[0], &*eight[1], &*eight[7]),
            ("macs=0.9", "macs=0.814", "macs=0.3")
        );
        // From whichever end: the lightest cut comes first.
        assert_eq!(
            read("params=0.4..0.8:3"),
            ["params=0.8", "params=0.6", "params=0.4"]
        );
        assert_eq!(
            read("drift=0.16..0.01:3"),
            ["drift=0.01", "drift=0.04", "drift=0.16"]
        );
        assert_eq!(
            read("agreement=0.9..0.98:2"),
            ["agreement=0.98", "agreement=0.9"]
        );
        for wrong in [
            "macs",
            "macs=0.5",
            "macs=0.5..0.5",
            "macs=0.9..2",
            "macs=0.9..0.3:1",
            "macs=0.9..0.3:x",
            "flops=0.9..0.3",
            "drift=0..0.1",
        ] {
            assert!(points(wrong).is_err(), "{wrong}");
        }
    }
}
