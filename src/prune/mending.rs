//! Weights that stay, mended.

use super::PruneError;
use super::group_error::GroupErrorModel;
use super::stages::{FinishedCut, Recovered, Stages};
use super::statistics;
use crate::evaluate::{Baseline, RunSetup};
use crate::model::Model;
use crate::recover::{Repair, Teacher};
use crate::train::distill;
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
        self.train(workspace, cut, &mut recovered)?;
        Ok(recovered)
    }

    /// Trains the weights towards what the original gives, if that is asked for.
    fn train(
        &self,
        workspace: &Workspace,
        cut: &FinishedCut,
        recovered: &mut Recovered,
    ) -> Result<(), PruneError> {
        let runtime = self.runtime.filter(|_| self.known.runs);
        let (Some(training), Some(runtime)) = (&self.request.training, runtime) else {
            return Ok(());
        };
        let teacher = Teacher {
            model: &workspace.working,
            analysis: &workspace.analysis,
            selection: &cut.selection,
        };
        let start = recovered.model.clone();
        let trained = distill(
            teacher,
            start,
            self.data.whole(),
            runtime,
            training,
            self.work,
        )?;
        recovered.model = trained.model;
        recovered.training = Some(trained.record);
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
            statistics::mend(workspace, selection, unshared, method, setup)?
        };
        Ok((workspace.reshare(model)?, repairs))
    }
}
