//! What the library says, with the options of the command line that help.

use anyhow::anyhow;

use super::allow_io::AllowIo;
use crate::analysis::Allowed;
use crate::inputs::{CALIBRATE, GIVE_INPUTS, GIVE_SHAPE, SCALING};
use crate::model::Model;
use crate::plan::PlanError;
use crate::progress::MORE_MEMORY;
use crate::prune::{self, Note, PruneError};
use crate::score::GivenError;

/// The axes of inputs and outputs that may shrink. Errors: as [`prune::allowed`], naming the option.
pub(super) fn allowed(model: &Model, args: &AllowIo) -> anyhow::Result<Allowed> {
    prune::allowed(model, &args.ends).map_err(error)
}

/// A note, with what to do about it.
pub(super) fn note(note: &Note) -> String {
    let hint = match note {
        Note::NothingToCut => "; `onnx-prune inspect` says why",
        Note::OutOfReach(_) => "; --units, --only or a smaller --align may allow more",
        Note::NoCutWithin { .. } => {
            "; allow more with --target drift=X, or name a size with --target macs=X"
        }
        Note::NoCutAgrees { .. } => "; ask for less agreement, or name a size with --target macs=X",
        Note::OneRound => "; more rounds need --data",
        Note::FarOff { .. } => "; a lighter cut, or --target drift=X, keeps more",
        _ => "",
    };
    format!("{note}{hint}")
}

/// An error, with the option that it is about.
pub(super) fn error(error: PruneError) -> anyhow::Error {
    match error {
        PruneError::LayersNeedData => anyhow!(
            "whole layers are chosen by what they do to the outputs; give inputs with --data, or leave layers out of --units"
        ),
        PruneError::NeedsData(score) => anyhow!(
            "score {score} is computed from activations; give inputs with --data, or statistics with --stats"
        ),
        PruneError::NoSuchEnd { .. } => anyhow!("--allow-io {error}"),
        PruneError::NoSuchAxis { .. } => anyhow!("--allow-io: {error}"),
        PruneError::SearchNeedsRun(_) => {
            anyhow!("{error}; name a size instead, with --target macs=0.7 for example")
        }
        PruneError::CurvesNeedRun(_) => {
            anyhow!("{error}; choose by weights alone instead, with --score l2 --recover none")
        }
        PruneError::Plan(PlanError::NoSuchGroup(group)) => anyhow!(
            "the plan's group '{group}' is not one of this model's; was it made with other --units or --input?"
        ),
        PruneError::Plan(PlanError::OtherBasis { .. }) => {
            anyhow!("{error}: the same --data, --samples and --seed")
        }
        PruneError::Scores(GivenError::NoSuchGroup(_)) => {
            anyhow!("{error}; `onnx-prune inspect --json` lists the groups")
        }
        PruneError::Surgery(surgery) if surgery.is_of_one_node() => {
            anyhow!("{surgery} with --exclude")
        }
        other => other.into(),
    }
}

/// Phrases of the library by what the command line says instead.
const PHRASES: &[(&str, &str)] = &[
    (
        MORE_MEMORY,
        "allow more with --memory, or give smaller inputs with --input",
    ),
    (GIVE_SHAPE, "give the shape with --input NAME=SHAPE"),
    (
        SCALING,
        "--mean and --std take one number, or one per channel",
    ),
    (
        CALIBRATE,
        "make it with `onnx-prune calibrate` from the model that is pruned",
    ),
    (GIVE_INPUTS, "which cannot be made up; give --data"),
    (
        "are inputs, not a model",
        "are inputs, for --data; the model comes first",
    ),
];

/// A message in the words of the command line.
pub(super) fn phrased(message: &str) -> String {
    PHRASES
        .iter()
        .fold(message.to_owned(), |message, (from, to)| {
            message.replace(from, to)
        })
}
