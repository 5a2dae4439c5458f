//! What a user should know of a result, besides its figures.

use std::fmt;

/// From this relative drift on the outputs have little in common with the original's.
pub const FAR: f64 = 0.5;

/// What a user should know of a result.
///
/// ```
/// let note = onnx_prune::Note::NoCutWithin { allowed: 0.01 };
/// assert_eq!(note.to_string(), "no cut keeps the drift within 0.01");
/// ```
///
/// `Display` says it in one sentence; whoever offers options adds which of them help.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Note {
    /// No group of units can be removed under the request.
    NothingToCut,
    /// Targets that cannot be met, with the least that can.
    OutOfReach(String),
    /// No cut keeps the drift within what is allowed.
    NoCutWithin {
        /// The drift allowed.
        allowed: f64,
    },
    /// No cut keeps the agreement that is asked for.
    NoCutAgrees {
        /// The least agreement asked for.
        least: f64,
    },
    /// Several rounds were asked for where only statistics of the original are known.
    OneRound,
    /// The outputs have little in common with the original's.
    FarOff {
        /// The largest relative drift of any output.
        drift: f64,
    },
    /// Anything else, in one sentence.
    Other(String),
}

impl Note {
    /// What to say of a drift, if it is large.
    pub(super) fn of_drift(drift: f64) -> Option<Self> {
        (drift >= FAR).then_some(Note::FarOff { drift })
    }
}

impl From<String> for Note {
    fn from(sentence: String) -> Self {
        Note::Other(sentence)
    }
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Note::NothingToCut => {
                f.write_str("no group of units can be removed under these options")
            }
            Note::OutOfReach(problem) | Note::Other(problem) => f.write_str(problem),
            Note::NoCutWithin { allowed } => {
                write!(f, "no cut keeps the drift within {allowed}")
            }
            Note::NoCutAgrees { least } => {
                write!(f, "no cut keeps an agreement of {least}")
            }
            Note::OneRound => {
                f.write_str("statistics are of the original alone, so all was cut in one round")
            }
            Note::FarOff { drift } => write!(
                f,
                "the outputs moved by {:.0} %: the cut is right, but the model needs retraining before it is of use",
                drift * 100.0
            ),
        }
    }
}
