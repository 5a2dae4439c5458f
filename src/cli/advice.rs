//! What the library says, with the options of the command line that help.

use anyhow::anyhow;

use super::args::AllowIo;
use crate::analysis::Allowed;
use crate::model::Model;
use crate::prune::{self, Note, PruneError};

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
        other => other.into(),
    }
}
