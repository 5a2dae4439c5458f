//! From what the job found to what the report says.

use indexmap::IndexMap;

use super::advice;
use crate::analysis::{self, Frozen, Group};
use crate::cost::{self, Cost, IncrementalCost};
use crate::evaluate::Checks;
use crate::facts::Dim;
use crate::inputs::{Fed, FedInput};
use crate::model::Model;
use crate::prune::{ChangedEnd, Engine, Outcome, Request, UnrunBranch, VocabularyCut};
use crate::relation::Reason;
use crate::report::{self, ExactnessVerdict, Report};
use crate::run::Runtime;
use crate::verify::{OutputDrift, Verdict};
use crate::workspace::Workspace;

/// What is known of a model before anything is done.
pub(super) fn begin(model: &Model, with_digest: bool) -> Report {
    let domain = |domain: &str| {
        if domain.is_empty() {
            "ai.onnx".to_owned()
        } else {
            domain.to_owned()
        }
    };
    Report {
        tool: report::NamedValue {
            name: env!("CARGO_PKG_NAME").to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
        },
        model: report::ModelInfo {
            path: model.path().display().to_string(),
            sha256: with_digest.then(|| model.source.sha256()),
            ir_version: model.proto.ir_version(),
            opset: model
                .proto
                .opset_import
                .iter()
                .map(|import| (domain(import.domain()), import.version()))
                .collect::<IndexMap<_, _>>(),
            nodes: model.index().nodes().len(),
        },
        ..Default::default()
    }
}

/// A cost in whole numbers.
pub(super) fn cost(cost: &Cost, latency_ms: Option<f64>) -> report::CostRow {
    report::CostRow {
        macs: Some(cost.macs.round() as u64),
        params: cost.params.round() as u64,
        bytes: cost.bytes.round() as u64,
        latency_ms,
    }
}

/// Notes at which shapes operations are counted, and whether that is a mean over branches.
pub(super) fn counted(report: &mut Report, model: &Model, shapes: &analysis::Pins) {
    report.counted_at = shapes.clone();
    report.mean_of_branches = cost::averages_branches(model, shapes);
}

/// The cost of a model as it is.
pub(super) fn cost_of(model: &Model, pins: &analysis::Pins) -> report::CostRow {
    self::cost(&cost::cost(model, pins), None)
}

/// Nodes whose operations are not counted.
pub(super) fn uncounted(nodes: &[cost::Uncounted]) -> Vec<report::UncountedRow> {
    let row = |node: &cost::Uncounted| report::UncountedRow {
        node: node.node.clone(),
        operator: node.operator.clone(),
    };
    nodes.iter().map(row).collect()
}

/// Fills in groups and reasons. `removed` counts the units that go, by group of the analysis.
fn known(
    report: &mut Report,
    workspace: &Workspace,
    chosen: &[usize],
    left_out: &dyn Fn(&Group) -> Reason,
    removed: impl Fn(usize) -> usize,
) {
    let analysis = &workspace.analysis;
    let groups: Vec<(usize, &Group)> = chosen
        .iter()
        .filter_map(|at| Some((*at, analysis.groups.get(*at)?)))
        .collect();
    report.uncounted = uncounted(workspace.cost.uncounted());
    let ledger = IncrementalCost::new(&workspace.cost, analysis.classes.classes.len());
    report.groups = groups
        .iter()
        .map(|(at, group)| group_row(workspace, &ledger, group, removed(*at)))
        .collect();
    let (prunable, frozen) = analysis::frozen_beside(
        &workspace.working,
        analysis,
        &workspace.origins,
        groups.iter().map(|(_, group)| *group),
        left_out,
    );
    report.params_prunable = prunable;
    report.frozen = frozen.into_iter().map(frozen_row).collect();
}

/// A group of which so many units go, with what the whole of it holds and computes.
fn group_row(
    workspace: &Workspace,
    ledger: &IncrementalCost,
    group: &Group,
    removed: usize,
) -> report::GroupRow {
    let full = ledger.cost();
    let gone: Vec<_> = group.classes.iter().map(|class| (*class, 0.0)).collect();
    let without = ledger.with(&gone);
    report::GroupRow {
        id: group.id.clone(),
        kind: group.kind.to_string(),
        units: group.units.len(),
        kept: group.units.len().saturating_sub(removed),
        weights: weights_in_file(workspace, group),
        params: (full.params - without.params).round() as u64,
        macs: (full.macs - without.macs).round() as u64,
        lossy: group.lossy.as_ref().map(ToString::to_string),
    }
}

/// Names that a group's weights have in the file, each once.
fn weights_in_file(workspace: &Workspace, group: &Group) -> Vec<String> {
    let (model, origins) = (&workspace.working, &workspace.origins);
    let held = group
        .weights
        .iter()
        .filter(|(value, _)| !origins.is_added(model, *value));
    let mut weights: Vec<String> = Vec::new();
    for name in held.map(|(value, _)| origins.in_file(model, *value)) {
        if !weights.contains(&name) {
            weights.push(name);
        }
    }
    weights
}

fn frozen_row(frozen: Frozen) -> report::FrozenRow {
    report::FrozenRow {
        reason: words(&frozen.reason),
        params: frozen.params,
        nodes: frozen.nodes,
        held_by: frozen.held_by,
    }
}

/// A reason, with the option that changes it.
fn words(reason: &Reason) -> String {
    match reason {
        Reason::NotNamed => "left out by --only".to_owned(),
        Reason::OtherKind(kind) => format!("left out by --units: {kind}"),
        other => other.to_string(),
    }
}

/// What can be removed of a model.
pub(super) fn inspection(
    report: &mut Report,
    prepared: &Workspace,
    request: &Request,
    chosen: &[usize],
) {
    let left_out = |group: &Group| request.left_out(&prepared.working, group, true);
    known(report, prepared, chosen, &left_out, |_| 0);
}

/// What the main job did.
pub(super) fn outcome(report: &mut Report, outcome: &Outcome, request: &Request, synthetic: bool) {
    let workspace = &outcome.workspace;
    let never_ran = |group: &Group| {
        let groups = &workspace.analysis.groups;
        let mut unrun = outcome.never_ran.iter().filter_map(|at| groups.get(*at));
        unrun.any(|unrun| unrun.id == group.id)
    };
    let left_out = |group: &Group| request.left_out(&workspace.working, group, !never_ran(group));
    let removed = |group: usize| outcome.choice.removed.get(group).map_or(0, Vec::len);
    // A plan may cut what no input took.
    let cut = outcome
        .never_ran
        .iter()
        .filter(|group| removed(**group) > 0);
    let mut chosen: Vec<usize> = outcome.candidates.iter().chain(cut).copied().collect();
    chosen.sort_unstable();
    known(report, workspace, &chosen, &left_out, removed);
    vocabulary(report, outcome);
    let latency = outcome.checks.as_ref().and_then(|checks| checks.latency);
    report.original = cost(&outcome.before, latency.map(|latency| latency.original));
    report.pruned = Some(cost(&outcome.after, latency.map(|latency| latency.pruned)));
    report.latency = outcome.forecast.map(|foreseen| report::Foreseen {
        target: foreseen.target,
        original_ms: foreseen.original,
        predicted_ms: foreseen.predicted,
        measured_ms: latency.map_or(foreseen.measured, |latency| latency.pruned),
        corrections: foreseen.corrections,
    });
    report.io_changed = outcome.changed_ends.iter().map(io_changed).collect();
    report.fit = outcome.plan.fit.clone();
    report.rotations.clone_from(&outcome.plan.rotations);
    report.training.clone_from(&outcome.training);
    report.never_ran = outcome.unrun.iter().map(branch).collect();
    report
        .remarks
        .extend(outcome.notes.iter().map(advice::note));
    if let Some(checks) = &outcome.checks {
        exactness(report, checks);
        drift(
            report,
            &checks.outputs,
            (checks.inputs, Some(checks.held_out)),
            synthetic,
            checks.labelled,
        );
    }
}

/// The groups of a vocabulary that was cut before all else.
fn cut_before(cut: &VocabularyCut) -> Vec<report::GroupRow> {
    let Some((workspace, choice)) = &cut.first else {
        return Vec::new();
    };
    let ledger = IncrementalCost::new(&workspace.cost, workspace.analysis.classes.classes.len());
    let groups = workspace.analysis.groups.iter().zip(&choice.removed);
    groups
        .filter(|(_, removed)| !removed.is_empty())
        .map(|(group, removed)| group_row(workspace, &ledger, group, removed.len()))
        .collect()
}

/// Fills in what became of the vocabulary, where tokens went.
fn vocabulary(report: &mut Report, outcome: &Outcome) {
    let Some(cut) = &outcome.vocabulary else {
        return;
    };
    let row = report::VocabularyRow {
        inputs: cut.tokens.ends.inputs.iter().cloned().collect(),
        outputs: cut.outputs(outcome),
        rows: cut.tokens.rows,
        kept: cut.tokens.kept.len(),
        params_saved: cut.params.max(0.0).round() as u64,
        bytes_saved: cut.bytes.max(0.0).round() as u64,
    };
    report.groups.splice(0..0, cut_before(cut));
    report.remarks.push(report::told_vocabulary(&row));
    report.vocabulary = Some(row);
}

fn branch(unrun: &UnrunBranch) -> report::NeverRan {
    report::NeverRan {
        node: unrun.node.clone(),
        branch: unrun.branch.clone(),
        units: unrun.units,
    }
}

fn io_changed(end: &ChangedEnd) -> report::IoChanged {
    let extent = |dim: &Dim| {
        dim.num().map_or_else(
            || report::ExtentValue::Symbol(dim.to_string()),
            report::ExtentValue::Number,
        )
    };
    let shape = |dims: &[Dim]| dims.iter().map(extent).collect();
    report::IoChanged {
        name: end.name.clone(),
        from: shape(&end.from),
        to: shape(&end.to),
    }
}

fn exactness(report: &mut Report, checks: &Checks) {
    let (verdict, reason) = match &checks.exactness.verdict {
        Verdict::Exact => (ExactnessVerdict::Exact, checks.exactness.reason.clone()),
        Verdict::Inexact => (ExactnessVerdict::Inexact, checks.exactness.reason.clone()),
        Verdict::Unverifiable(reason) => (ExactnessVerdict::Unverifiable, Some(reason.clone())),
    };
    let (max_relative_error, inputs) =
        (checks.exactness.max_relative_error, checks.exactness.inputs);
    report.exactness = report::ExactnessRow {
        verdict,
        max_relative_error,
        inputs,
        reason,
    };
}

/// Fills in how far the outputs moved. `inputs`: how many there were, and how many of them were kept apart to measure on.
pub(super) fn drift(
    report: &mut Report,
    outputs: &[OutputDrift],
    (inputs, held_out): (usize, Option<usize>),
    synthetic: bool,
    labelled: Option<(f64, f64)>,
) {
    report.drift = report::DriftRow {
        verdict: if outputs.is_empty() {
            report::CheckVerdict::Unverifiable
        } else {
            report::CheckVerdict::Measured
        },
        inputs,
        held_out,
        synthetic,
        outputs: outputs.to_vec(),
        labelled: labelled.map(|(original, pruned)| report::Labelled {
            metric: "top1".to_owned(),
            original,
            pruned,
        }),
    };
}

/// Who ran the models of a job.
pub(super) fn engine(engine: &Engine) -> report::NamedValue {
    report::NamedValue {
        name: engine.name.clone(),
        version: engine.version.clone(),
    }
}

/// What the model was fed.
pub(super) fn fed(fed: &Fed) -> report::FedReport {
    let input = |input: &FedInput| report::FedInputRow {
        name: input.name.clone(),
        dims: input.dims.clone(),
        range: input.range,
    };
    let inputs = fed.inputs.iter().map(input).collect();
    report::FedReport {
        line: fed.line(),
        preparation: fed.preparation(),
        inputs,
        doubts: fed.doubts.clone(),
    }
}

/// Who runs the models.
pub(super) fn runtime(runtime: &dyn Runtime) -> report::NamedValue {
    report::NamedValue {
        name: runtime.name().to_owned(),
        version: runtime.version().to_owned(),
    }
}
