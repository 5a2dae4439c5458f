//! Weights that stay, mended.

use super::PruneError;
use super::group_error::GroupErrorModel;
use super::stages::{FinishedCut, Recovered, Stages};
use super::statistics;
use crate::constants::equal_copies;
use crate::evaluate::{Baseline, RunSetup};
use crate::model::Model;
use crate::recover::{Repair, RepairOptions, Teacher};
use crate::train::{Training, TrainingData, TrainingRecord, distill};
use crate::workspace::Workspace;

impl Stages<'_> {
    /// Mends the weights that stay, unless the search has done so (`made`), and takes that back where together it does harm.
    pub(super) fn recover(
        &self,
        workspace: &Workspace,
        cut: &FinishedCut,
        made: Option<(Model, Vec<Repair>)>,
        baseline: &Baseline,
    ) -> Result<Recovered, PruneError> {
        let (model, repairs) = match made {
            Some((model, repairs)) => (workspace.reshare(model)?, repairs),
            None => self.mend(workspace, cut)?,
        };
        let mut recovered = Recovered {
            model,
            repairs,
            training: None,
            undone: None,
        };
        // Layers are mended one by one; what counts is what they do together.
        if !recovered.repairs.is_empty()
            && let (Ok(mended), Ok(bare)) = (
                baseline.drift_on_held_out(&recovered.model, self.data),
                baseline.drift_on_held_out(&cut.bare, self.data),
            )
            && mended.drift > bare.drift
        {
            recovered.undone = Some(format!(
                "recovery would have moved the outputs further ({:.3} against {:.3}), so the weights are as they were",
                mended.drift, bare.drift
            ));
            recovered.model = cut.bare.clone();
        }
        Ok(recovered)
    }

    /// Trains the weights towards what the original gives, if that is asked for; the steps that earlier rounds left.
    pub(super) fn train(
        &self,
        workspace: &Workspace,
        cut: &FinishedCut,
        recovered: &mut Recovered,
        earlier: &mut Vec<TrainingRecord>,
    ) -> Result<(), PruneError> {
        // There is nothing to learn for a model that is the original.
        let runs = self.known.runs && !cut.selection.is_empty();
        let runtime = self.runtime.filter(|_| runs);
        let (Some(training), Some(runtime)) = (&self.request.training, runtime) else {
            return Ok(());
        };
        let teacher = Teacher {
            model: &workspace.working,
            analysis: &workspace.analysis,
            selection: &cut.selection,
        };
        let training = &Training {
            courses: earlier.len() + 1,
            ..training.clone()
        };
        let start = recovered.model.clone();
        let trained = distill(
            teacher,
            start,
            TrainingData {
                inputs: &*self.data.inputs,
                labels: self.data.labels.as_deref(),
            },
            runtime,
            training,
            self.work,
        )?;
        recovered.model = trained.model;
        recovered.training = Some(TrainingRecord {
            earlier: std::mem::take(earlier),
            ..trained.record
        });
        Ok(())
    }

    fn mend(
        &self,
        workspace: &Workspace,
        cut: &FinishedCut,
    ) -> Result<(Model, Vec<Repair>), PruneError> {
        let selection = &cut.selection;
        let runtime = self
            .runtime
            .filter(|_| self.known.runs && !selection.is_empty());
        let (Some(method), Some(runtime)) = (self.request.recover, runtime) else {
            return Ok((cut.bare.clone(), Vec::new()));
        };
        let setup = RunSetup {
            data: self.data,
            runtime,
            work: self.work,
        };
        let (model, repairs) = if self.data.statistics_alone() {
            let statistics = self.data.statistics.as_ref();
            let quality = GroupErrorModel::new(workspace, statistics, setup)?;
            (quality.cut_unshared(selection)?, Vec::new())
        } else {
            let unshared = cut.unshared.clone();
            let options = RepairOptions {
                method,
                warm: false,
                held: equal_copies(&unshared, &workspace.origins.copies),
            };
            statistics::mend(workspace, selection, unshared, &options, setup)?
        };
        Ok((workspace.reshare(model)?, repairs))
    }
}
