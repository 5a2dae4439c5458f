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
    /// The pattern that a name matches, and no other that differs in more than a backslash.
    pub(super) fn of_name(name: &str) -> Option<Self> {
        // What a backslash stands for depends on the system.
        let text = globset::escape(name).replace('\\', "?");
        text.parse().ok()
    }

    pub(super) fn matcher(&self) -> GlobMatcher {
        self.0.compile_matcher()
    }

    /// The pattern as it is written.
    pub(crate) fn text(&self) -> &str {
        self.0.glob()
    }
}

pub(super) fn glob(text: &str) -> Result<Glob, PatternError> {
    Glob::new(text).map_err(|error| PatternError(error.kind().to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_match_their_own_patterns() {
        for name in [
            "conv1",
            "a/b.0",
            "x[0]*?",
            "{a,b}",
            "back\\slash",
            "a]b",
            "!x",
            "",
        ] {
            let matcher = Pattern::of_name(name).unwrap().matcher();
            assert!(matcher.is_match(name), "{name}");
            assert!(!matcher.is_match(format!("{name}0")), "{name}");
        }
    }
}
