//! Patterns that name groups.

use std::str::FromStr;

use globset::{Glob, GlobMatcher};

/// A glob over the names of groups, weights and nodes: `layer?.*`, `*/attention/*`.
///
/// ```
/// use onnx_prune::Pattern;
///
/// assert!("layer?.*".parse::<Pattern>().is_ok());
/// assert!("layer[".parse::<Pattern>().is_err());
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern(Glob);

/// A text that is no pattern.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct PatternError(pub(super) String);

impl FromStr for Pattern {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Self, PatternError> {
        glob(text).map(Pattern)
    }
}

impl Pattern {
    pub(super) fn matcher(&self) -> GlobMatcher {
        self.0.compile_matcher()
    }

    pub(super) fn text(&self) -> &str {
        self.0.glob()
    }
}

pub(super) fn glob(text: &str) -> Result<Glob, PatternError> {
    Glob::new(text).map_err(|error| PatternError(error.kind().to_string()))
}
