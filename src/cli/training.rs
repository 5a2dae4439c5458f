//! How weights are to be trained, from the options that say so.

use std::path::{Path, PathBuf};

use anyhow::bail;

use super::args::{DataArgs, JudgedArgs, OutputArgs};
use super::stop::Stop;
use super::train_args::TrainArgs;
use super::values::{LossText, Recovery};
use super::watch::Watch;
use crate::train::{Checkpoint, Training};

/// Where the state of training goes: beside the model.
fn place(target: &Path) -> PathBuf {
    target.with_extension("checkpoint")
}

/// Which class ids are learnt from: those of --data, where labels and training are asked for.
pub(super) fn labels<'a>(judged: &'a JudgedArgs, training: Option<&Training>) -> Option<&'a Path> {
    let labels = judged.labels.as_deref();
    labels.filter(|_| training.is_some_and(|training| training.labelled))
}

/// Errors: options of training without it, or training without inputs.
pub(super) fn check(
    args: &TrainArgs,
    recover: Option<Recovery>,
    data: &DataArgs,
    judged: &JudgedArgs,
) -> anyhow::Result<()> {
    let trains = recover == Some(Recovery::Distill);
    if trains && data.data.is_none() {
        bail!("--recover distill learns from inputs; give them with --data");
    }
    if args.steps.is_some() && !trains {
        bail!("--steps counts steps of training; it goes with --recover distill");
    }
    if args.loss.is_some() && !trains {
        bail!("--loss is what training makes small; it goes with --recover distill");
    }
    if args.resume && !trains {
        bail!("--resume goes on with training; it goes with --recover distill");
    }
    if judged.verify_labels.is_some() && judged.labels.is_some() && !trains {
        bail!(
            "--labels beside --verify-labels are those of --data, to learn from; they go with --recover distill"
        );
    }
    Ok(())
}

/// Training as it is asked for, with its checkpoint beside the model.
pub(super) fn training(
    args: &TrainArgs,
    judged: &JudgedArgs,
    seed: u64,
    target: Option<&Path>,
) -> Training {
    let of_data = judged.verify_data.is_none() || judged.verify_labels.is_some();
    Training {
        steps: args.steps,
        seed,
        loss: args.loss.and_then(|LossText(loss)| loss),
        labelled: judged.labels.is_some() && of_data,
        checkpoint: target.map(|target| Checkpoint::new(place(target), args.resume)),
        ..Default::default()
    }
}

/// Claims the place of the checkpoint, and says where there is none to go on from. Errors: it cannot be written.
pub(super) fn claim(
    training: Option<&Training>,
    outputs: &OutputArgs,
    stop: &Stop,
    watch: &Watch,
) -> anyhow::Result<()> {
    let Some(checkpoint) = training.and_then(|training| training.checkpoint.as_ref()) else {
        return Ok(());
    };
    stop.outputs
        .claim(&checkpoint.path, "the state of training")?;
    let is_there = checkpoint.path.exists() || checkpoint.of_course(1).path.exists();
    if checkpoint.resumes && !is_there && !outputs.dry_run {
        watch.warn(&format!(
            "{} is not there: training begins anew",
            checkpoint.path.display()
        ));
    }
    Ok(())
}

/// Removes the state of training once its model is written.
pub(super) fn done(training: Option<&Training>, written: bool) {
    let checkpoint = training.and_then(|training| training.checkpoint.as_ref());
    if let Some(checkpoint) = checkpoint.filter(|_| written) {
        checkpoint.remove();
    }
}
