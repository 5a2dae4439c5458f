//! Single weights set to zero beside what goes whole: `--sparsity` in the main job.

use std::path::Path;

use anyhow::{Context, bail};
use serde::{Deserialize, Serialize};

use super::args::Prune;
use super::values::{GoalText, Recovery};
use super::watch::Watch;
use super::{Exit, gate, planned, sparsify as alone, training as options};
use crate::calibrate::{self, Dataset};
use crate::evaluate::Checks;
use crate::model::Model;
use crate::plan::{Fit, Plan};
use crate::prune::{Outcome, Request};
use crate::recover::Teacher;
use crate::report::Report;
use crate::run::Runtime;
use crate::sparsify::{self, Data, SparsePlan, SparseScore, SparsifyOutcome, SparsifyRequest};
use crate::train::{Checkpoint, Training};
use crate::verify::Verdict;

/// A plan file that also says which single weights are zero.
#[derive(Serialize, Deserialize)]
struct PlanOfBoth<'a> {
    #[serde(flatten)]
    cut: std::borrow::Cow<'a, Plan>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    zeros: Option<SparsePlan>,
}

/// A plan's text: what goes whole, and which single weights of what stays are zero.
pub(super) fn plan_text(cut: &Plan, zeros: Option<&SparsePlan>) -> String {
    let Some(zeros) = zeros else {
        return cut.to_json();
    };
    let both = PlanOfBoth {
        cut: std::borrow::Cow::Borrowed(cut),
        zeros: Some(zeros.clone()),
    };
    serde_json::to_string_pretty(&both).map_or_else(|_| String::new(), |text| text + "\n")
}

/// The zeros that a plan file tells of. Errors: it cannot be read.
fn zeros_of(path: &Path) -> anyhow::Result<Option<SparsePlan>> {
    let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
    let both: PlanOfBoth =
        serde_json::from_str(&text).with_context(|| path.display().to_string())?;
    if both.zeros.as_ref().is_some_and(|zeros| !zeros.is_known()) {
        bail!(
            "{}: its 'zeros' are not a plan of single weights, or one of another format",
            path.display()
        );
    }
    Ok(both.zeros)
}

/// What is to become zero, if anything is; the training that was asked for comes after it then. Errors: options that
/// contradict each other.
pub(super) fn asked(
    args: &Prune,
    request: &mut Request,
    target: &Path,
) -> anyhow::Result<Option<SparsifyRequest>> {
    let plan = args
        .plan
        .as_deref()
        .map(zeros_of)
        .transpose()
        .context("--plan")?;
    let plan = plan.flatten();
    let pattern = args.zeros.pattern.unwrap_or_default();
    if args.zeros.sparsity.is_none() && args.zeros.pattern.is_none() && plan.is_none() {
        return Ok(None);
    }
    if plan.is_none() {
        alone::check_pattern(args.zeros.sparsity, pattern)?;
        let sized = |goal: &GoalText| matches!(goal, GoalText::Cost(_));
        if args.target.is_empty() || !args.target.iter().all(sized) {
            bail!(
                "--sparsity sets single weights to zero after a cut: say with --target how far that goes (macs=, params=, bytes= or latency=); for smaller layers alone --target macs=0.7 is meant, for zeros alone the command sparsify"
            );
        }
    }
    let measured = args.data.data.is_some();
    let fit = plan.as_ref().and_then(|plan| plan.fit.as_ref());
    let recover = match (args.recover, &plan) {
        (None, Some(_)) => fit.and_then(|fit| planned::method(fit, measured)),
        (Some(Recovery::Nothing), _) => None,
        _ => request.recover.filter(|_| measured),
    };
    let exclude = args
        .exclude
        .iter()
        .map(|pattern| globset::Glob::new(pattern.text()));
    let score = match measured && plan.is_none() {
        true => SparseScore::Obs,
        false => SparseScore::Magnitude,
    };
    Ok(Some(SparsifyRequest {
        sparsity: args.zeros.sparsity,
        pattern,
        score,
        uniform: args.uniform,
        exclude: exclude.collect::<Result<_, _>>()?,
        recover,
        training: training(args, request, (target, fit)),
        plan,
        keep_plan: args.outputs.plan_out.is_some(),
        pins: request.pins.clone(),
    }))
}

/// The training that comes last: all of it, or what rounds leave for it; where a plan is applied, as it says of its zeros.
fn training(
    args: &Prune,
    request: &mut Request,
    (target, fit): (&Path, Option<&Fit>),
) -> Option<Training> {
    let rounds = request.rounds;
    let target = (!args.outputs.dry_run).then_some(target);
    let again = || {
        let asked = options::training(&args.train, &args.judged, args.data.seed, target);
        let measured = args.data.data.is_some();
        planned::training(asked, args.recover, &args.views, (fit, measured))
    };
    let asked = match rounds {
        1 => request.training.take(),
        _ => request.training.clone(),
    };
    let asked = asked.or_else(again)?;
    let last = |checkpoint: &Checkpoint| match rounds {
        1 => checkpoint.clone(),
        _ => checkpoint.of_course(rounds + 1),
    };
    Some(Training {
        keeps_zeros: true,
        courses: rounds,
        checkpoint: asked.checkpoint.as_ref().map(last),
        ..asked
    })
}

/// Sets single weights of the pruned model to zero, fitted and held against the original; or the exit code where that has to
/// run and does not, which is said. `None` where the cut went wrong, of which nothing is written.
pub(super) fn set(
    (model, data, runtime): (&Model, &Dataset, Option<&dyn Runtime>),
    request: &SparsifyRequest,
    outcome: &Outcome,
    (hint, watch): (&str, &Watch),
) -> anyhow::Result<Result<Option<SparsifyOutcome>, Exit>> {
    let is_wrong = |checks: &Checks| checks.exactness.verdict == Verdict::Inexact;
    if outcome.checks.as_ref().is_some_and(is_wrong) {
        return Ok(Ok(None));
    }
    let trimmed = runtime.map(|runtime| calibrate::trimmed(model, data, runtime));
    let trimmed = trimmed.transpose()?.flatten();
    let selection = outcome.workspace.select(&outcome.choice.removed);
    let original = Teacher {
        model: &outcome.workspace.working,
        analysis: &outcome.workspace.analysis,
        selection: &selection,
    };
    let data = Data {
        original: Some(original),
        ..alone::lent(trimmed.as_ref().unwrap_or(data))
    };
    let made = sparsify::sparsify(&outcome.model, request, data, runtime, &watch.work());
    Ok(alone::told(made, hint, watch)?.map(Some))
}

/// Puts zeros into the report of the cut.
pub(super) fn tell(
    report: &mut Report,
    (model, data): (&Model, &Dataset),
    args: &Prune,
    (asked, zeros): (&SparsifyRequest, &SparsifyOutcome),
) {
    let alone = report.drift.worst().map(|output| output.relative_l2);
    report.sparsity = Some(alone::sparsity(model, zeros, 0));
    if report.training.is_none() {
        report.training.clone_from(&zeros.training);
    }
    report.remarks.extend(zeros.remarks.iter().cloned());
    let planned = asked.plan.as_ref().and_then(|plan| plan.fit.as_ref());
    if let (Some(path), Some(planned)) = (&args.plan, planned) {
        let found = zeros.plan.fit.as_ref();
        gate::fit(report, path, (planned, found), args.recover.is_some());
    }
    if args.no_verify {
        return;
    }
    alone::drift(report, zeros, data, false);
    if let Some(alone) = alone.filter(|_| zeros.measured.is_ok()) {
        report.remarks.push(format!(
            "the drift is that of the cut and the zeros together; the cut alone moved the outputs by {}",
            crate::report::number(alone)
        ));
    }
}
