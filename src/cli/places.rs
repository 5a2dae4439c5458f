//! Where a run's model, plan and reports go.

use std::io::Write;
use std::path::{Path, PathBuf};

use super::args::{DataArgs, JudgedArgs, OutputArgs};
use super::output;
use super::stop::Stop;
use crate::files::{Place, Staged};
use crate::model::{self, Model};

/// Where the outputs go.
pub(super) struct Places {
    /// `None` in a dry run.
    pub model: Option<Place>,
    plan: Option<Place>,
    /// Of each report.
    pub reports: Vec<Place>,
}

impl Places {
    /// Claims them, before the work; `what` says what model goes to `target`. Errors: one that cannot be written.
    pub fn claim(
        target: &Path,
        what: &'static str,
        args: &OutputArgs,
        stop: &Stop,
    ) -> anyhow::Result<Self> {
        let outputs = &stop.outputs;
        let plan = args.plan_out.as_ref();
        Ok(Places {
            model: (!args.dry_run)
                .then(|| outputs.claim(target, what))
                .transpose()?,
            plan: plan
                .map(|path| outputs.claim(path, "the plan made"))
                .transpose()?,
            reports: output::claim_reports(stop, &args.report)?,
        })
    }

    /// Writes the model and the plan beside their places. Errors: no room, no right to.
    pub fn stage(&self, made: &Model, plan: &str, staged: &mut Staged) -> anyhow::Result<()> {
        if let Some(place) = &self.model {
            model::stage(made, place, staged)?;
        }
        if let Some(place) = &self.plan {
            staged.write(place, |file| file.write_all(plan.as_bytes()))?;
        }
        Ok(())
    }
}

/// Notes the plan, the inputs and the labels that a run reads. Errors: one that is an output too.
pub(super) fn reads(
    stop: &Stop,
    plan: Option<&PathBuf>,
    data: &DataArgs,
    judged: &JudgedArgs,
) -> anyhow::Result<()> {
    output::reads(stop, "the plan", plan)?;
    output::reads_data(stop, data.data.as_ref(), judged.labels.as_ref())?;
    output::reads_data(
        stop,
        judged.verify_data.as_ref(),
        judged.verify_labels.as_ref(),
    )
}
