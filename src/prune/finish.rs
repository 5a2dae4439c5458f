//! The last stages: what the weights were fitted to, what was measured, and whether it is what was asked for.

use super::decide::Decision;
use super::stages::{FinishedCut, PreparedModel, Recovered, Stages};
use super::unrun;
use super::{Engine, Note, Outcome, PruneError, fit, io};
use crate::analysis::Selection;
use crate::cost::{Cost, params};
use crate::evaluate::{ALLOWANCE, Baseline, Checks};
use crate::inputs::Augment;
use crate::latency::NEAR;
use crate::model::{Index, Model};
use crate::plan::{Fit, Plan, labels_digest};
use crate::run::without_sequences;
use crate::surgery;
use crate::train::{TRAINED, TrainingRecord};
use crate::verify::Agreement;
use crate::workspace::{OriginalRuns, Workspace};

impl Stages<'_> {
    /// Records what the weights were fitted to, checks the result and says what was found.
    pub(super) fn finish(
        &self,
        prepared: PreparedModel,
        decision: Decision,
        mut cut: FinishedCut,
        mut recovered: Recovered,
        baseline: &Baseline,
    ) -> Result<Outcome, PruneError> {
        let PreparedModel {
            workspace,
            candidates,
        } = prepared;
        cut.plan.fit = Some(self.fit(&cut, &recovered)?);
        surgery::annotate(&mut recovered.model, &cut.notes);
        self.model.source.check()?;
        workspace.check(&recovered.model, &cut.selection)?;
        let checks = self.check(&workspace, &cut, &recovered, baseline)?;
        let (before, after) = self.costs(&workspace, &cut.selection, &recovered.model);
        let mut tradeoff = decision.tradeoff;
        if let Some(outlook) = decision.outlook {
            let drift = checks.as_ref().and_then(Checks::drift);
            tradeoff.foresee(&outlook, (after, drift));
        }
        let ran = self.known.runs && baseline.failure().is_none();
        let mut outcome = Outcome {
            engine: self.runtime.filter(|_| ran).map(Engine::of),
            changed_ends: io::changed_ends(&workspace.working, &workspace.analysis, &cut.selection),
            model: recovered.model,
            plan: cut.plan,
            choice: decision.choice,
            workspace,
            candidates: candidates.groups,
            never_ran: candidates.never_ran,
            before,
            after,
            forecast: decision.forecast,
            checks,
            repairs: recovered.repairs,
            training: recovered.training,
            unrun: candidates.unrun,
            vocabulary: None,
            tradeoff,
            reached: decision.reached,
            notes: decision.notes,
        };
        let learnt = outcome.training.as_ref().map(TrainingRecord::to_string);
        let said = recovered
            .undone
            .into_iter()
            .chain(learnt)
            .chain(self.data.padding.as_ref().map(ToString::to_string))
            .chain(candidates.unmatched);
        outcome.notes.extend(said.map(Note::Other));
        self.judge(&mut outcome);
        Ok(outcome)
    }

    /// What the weights were fitted to, and how.
    fn fit(&self, cut: &FinishedCut, recovered: &Recovered) -> Result<Fit, PruneError> {
        let fitted = !recovered.repairs.is_empty()
            || (self.known.runs && self.data.statistics_alone() && !cut.selection.is_empty());
        let method = self
            .request
            .recover
            .filter(|_| fitted && recovered.undone.is_none());
        let method = match recovered.training {
            Some(_) => Some(TRAINED.to_owned()),
            None => method.map(|method| method.to_string()),
        };
        let steps = recovered.training.as_ref().map(TrainingRecord::all_steps);
        let training = self.request.training.as_ref();
        let training = training.filter(|_| recovered.training.is_some());
        let loss = training.and_then(|training| training.loss);
        let mut fit = fit::fit(self.data, method, self.request.needs_digest())?;
        let labels = self.data.labels.as_deref();
        if let Some(inputs) = &mut fit.inputs {
            let learnt = labels.filter(|_| training.is_some_and(|training| training.labelled));
            inputs.labels = learnt.map(labels_digest);
        }
        let asked = self.request.augment;
        let augment = (fit.fitted() && asked != Augment::Auto).then(|| asked.to_string());
        Ok(Fit {
            steps,
            loss: loss.map(|loss| loss.to_string()),
            augment,
            ..fit
        })
    }

    fn check(
        &self,
        workspace: &Workspace,
        cut: &FinishedCut,
        recovered: &Recovered,
        baseline: &Baseline,
    ) -> Result<Option<Checks>, PruneError> {
        let Some(runtime) = self.runtime.filter(|_| self.request.verify) else {
            return Ok(None);
        };
        let exactness = |original: OriginalRuns| {
            workspace.exactness(&cut.selection, &cut.bare, runtime, original)
        };
        let exactness: Option<&crate::evaluate::Prove> =
            (!cut.selection.is_empty()).then_some(&exactness);
        let checks = baseline.check(exactness, &recovered.model, self.data, self.work)?;
        Ok(Some(checks))
    }

    fn costs(&self, workspace: &Workspace, selection: &Selection, pruned: &Model) -> (Cost, Cost) {
        let after = Cost {
            bytes: crate::model::encoded_len(pruned) as f64,
            params: params(pruned),
            ..workspace.cost.of(&workspace.analysis.classes, selection)
        };
        (workspace.cost.original(), after)
    }

    /// Holds what was measured against what was asked for, and says what the user should know of it.
    fn judge(&self, outcome: &mut Outcome) {
        let mut notes: Vec<Note> = Vec::new();
        notes.extend(self.of_the_way(outcome).map(Note::Other));
        let checks = outcome.checks.as_ref();
        // A choice that comes near enough by the table is refused where the clock says otherwise.
        if let (Some(forecast), Some(latency)) =
            (outcome.forecast, checks.and_then(|checks| checks.latency))
        {
            outcome.reached &= latency.pruned / latency.original <= forecast.target * (1.0 + NEAR);
        }
        let drift = checks.and_then(Checks::drift);
        if let (Some(allowed), Some(drift)) = (self.request.drift, drift) {
            // The search measures on other inputs; the promise is for those that it has not seen.
            if drift > allowed * ALLOWANCE {
                outcome.reached = false;
                notes.push(Note::Other(format!(
                    "the drift on inputs kept apart is {drift:.4}, more than the {allowed} asked for"
                )));
            }
        }
        if let Some(missed) = checks.and_then(|checks| self.disagreement(checks)) {
            outcome.reached = false;
            notes.push(Note::Other(missed));
        }
        notes.extend(drift.and_then(Note::of_drift));
        let measured = checks.is_some_and(|checks| !checks.outputs.is_empty());
        notes.extend(
            of_ids(&outcome.workspace)
                .filter(|_| measured)
                .map(Note::Other),
        );
        notes.extend(io::remark(&outcome.changed_ends).map(Note::Other));
        let (before, after) = (outcome.before, outcome.after);
        if after.params > before.params && after.bytes > before.bytes {
            outcome.reached = false;
            notes.push(Note::Other(format!(
                "the cut makes the model larger ({} parameters, {} before): what goes is less than the biases and copies that it needs",
                after.params, before.params
            )));
        }
        outcome.notes.extend(notes);
    }

    /// Why the agreement is not what was asked for, if it is not: less by more than chance on so few rows.
    fn disagreement(&self, checks: &Checks) -> Option<String> {
        let least = self.request.agreement?;
        let Some(found) = checks.agreement else {
            return Some("no output is one row of scores or an embedding for each sample, so there is no agreement".to_owned());
        };
        let chance = Agreement::uncertainty(least, checks.held_out);
        (found < least - chance).then(|| {
            format!(
                "the agreement on inputs kept apart is {found:.4}, less than the {least} asked for"
            )
        })
    }

    /// What is to be said of how the model was taken up.
    fn of_the_way(&self, outcome: &Outcome) -> impl Iterator<Item = String> {
        let planned = self.request.plan.as_ref();
        let differs = |planned: &Plan| outcome.plan.fit.as_ref()?.differs(planned.fit.as_ref()?);
        let calls =
            !self.model.proto.functions.is_empty() && outcome.model.proto.functions.is_empty();
        let calls = calls.then(|| {
            "calls of the model's own functions were replaced by the functions' nodes".to_owned()
        });
        let sequences = without_sequences(self.model).map(|_| {
            "sequences of known length were replaced by the tensors that they hold".to_owned()
        });
        let rotated = outcome.plan.rotations.len();
        let rotated = (rotated > 0).then(|| {
            format!("{rotated} constants were brought to another basis, whose directions are units")
        });
        [
            rotated,
            unrun::remark(&outcome.unrun, planned.is_none()),
            planned.and_then(differs),
            calls,
            sequences,
        ]
        .into_iter()
        .flatten()
    }
}

/// What to know of a drift where no output is a real number.
fn of_ids(workspace: &Workspace) -> Option<String> {
    let (index, facts) = (workspace.working.index(), &workspace.analysis.facts);
    let outputs = &index.graph(Index::MAIN).outputs;
    let whole = !outputs.is_empty()
        && outputs.iter().all(|output| {
            facts
                .of(*output)
                .dtype
                .is_some_and(|dtype| !dtype.is_float())
        });
    whole.then(|| "all outputs are whole numbers (class ids), so the drift is the share of them that change".to_owned())
}
