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

    /// Where one model of a family goes, and its plan: the names given with a word before the ending. Errors: as [`Self::claim`].
    pub fn claim_one(
        target: &Path,
        word: &str,
        args: &OutputArgs,
        stop: &Stop,
    ) -> anyhow::Result<Self> {
        let named = OutputArgs {
            plan_out: args.plan_out.as_deref().map(|path| with_word(path, word)),
            report: Vec::new(),
            ..args.clone()
        };
        Places::claim(
            &with_word(target, word),
            "a model of the sweep",
            &named,
            stop,
        )
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

/// A file's name with a word before its ending: `out.onnx` and `macs-0.5` give `out.macs-0.5.onnx`.
pub(super) fn with_word(path: &Path, word: &str) -> PathBuf {
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    let name = match path.extension() {
        Some(ending) => format!("{stem}.{word}.{}", ending.to_string_lossy()),
        None => format!("{stem}.{word}"),
    };
    path.with_file_name(name)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_go_before_the_ending() {
        let named = |path: &str| with_word(Path::new(path), "macs-0.5");
        assert_eq!(named("a/b.onnx"), Path::new("a/b.macs-0.5.onnx"));
        assert_eq!(named("a/b"), Path::new("a/b.macs-0.5"));
    }
}
