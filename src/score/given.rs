//! Scores that the user brings along.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;

use super::{Curve, Evidence, Score};
use crate::analysis::Group;

/// Scores by group id, as a file gives them: `{"groups": [{"id": "conv1.weight:0", "scores": [0.3, 1.2]}]}`, one number per
/// unit, larger where more would be lost. They are compared between groups as they are.
///
/// ```
/// use onnx_prune::{Given, Scorer};
///
/// let file = tempfile::NamedTempFile::new()?;
/// std::fs::write(&file, r#"{"groups": [{"id": "conv1.weight:0", "scores": [0.3, 1.2]}]}"#)?;
/// let scorer = Scorer::given(Given::read(file.path())?);
/// assert_eq!(scorer.name(), "of the file given");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Given {
    groups: BTreeMap<String, Vec<f64>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    groups: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    id: String,
    scores: Vec<f64>,
}

/// Scores that can not be used.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
#[non_exhaustive]
pub enum GivenError {
    #[error("{path}: {problem}")]
    File { path: String, problem: String },
    #[error("scores are given for group '{0}', which the model has not")]
    NoSuchGroup(String),
    #[error("group '{id}' has {units} units, but {scores} scores are given")]
    Length {
        id: String,
        units: usize,
        scores: usize,
    },
}

/// What is wrong with a file of scores.
#[derive(Debug, thiserror::Error)]
enum ScoresProblem {
    #[error(
        "not a file of scores ({0}); write {{\"groups\": [{{\"id\": \"...\", \"scores\": [one number per unit]}}]}}"
    )]
    Form(#[from] serde_json::Error),
    #[error("group '{id}' has the score {score}")]
    NoNumber { id: String, score: f64 },
    #[error("group '{0}' is there twice")]
    Twice(String),
}

impl Given {
    /// Reads a file of scores. Errors: it can not be read, is no such file, or names a group twice.
    pub fn read(path: &Path) -> Result<Self, GivenError> {
        let error = |problem: String| GivenError::File {
            path: path.display().to_string(),
            problem,
        };
        let text = crate::files::text(path).map_err(|problem| error(problem.to_string()))?;
        Self::parse(&text).map_err(|problem| error(problem.to_string()))
    }

    fn parse(text: &str) -> Result<Self, ScoresProblem> {
        let file: File = serde_json::from_str(text)?;
        let mut groups = BTreeMap::new();
        for Entry { id, scores } in file.groups {
            if let Some(wrong) = scores.iter().find(|score| !score.is_finite()) {
                return Err(ScoresProblem::NoNumber { id, score: *wrong });
            }
            if groups.insert(id.clone(), scores).is_some() {
                return Err(ScoresProblem::Twice(id));
            }
        }
        Ok(Given { groups })
    }

    /// Errors: a group that is none of these, or a number of scores that is not that of its units.
    pub(crate) fn check(&self, groups: &[Group]) -> Result<(), GivenError> {
        for (id, scores) in &self.groups {
            let Some(group) = groups.iter().find(|group| group.id == *id) else {
                return Err(GivenError::NoSuchGroup(id.clone()));
            };
            if group.units.len() != scores.len() {
                return Err(GivenError::Length {
                    id: id.clone(),
                    units: group.units.len(),
                    scores: scores.len(),
                });
            }
        }
        Ok(())
    }

    /// The scores of a group, if it is named.
    pub(crate) fn of(&self, group: &Group) -> Option<&[f64]> {
        self.groups.get(&group.id).map(Vec::as_slice)
    }

    /// The curve of those units of a group that are left, in their order.
    pub(crate) fn curve(&self, group: &Group, left: impl Fn(u32) -> bool) -> Curve {
        // Curves do not fall; scores below zero are counted from the lowest of all.
        let lowest = self.groups.values().flatten().copied().fold(0.0, f64::min);
        let scores = self.of(group).unwrap_or_default();
        let left: Vec<f64> = (0u32..)
            .zip(scores)
            .filter(|(unit, _)| left(*unit))
            .map(|(_, score)| score - lowest)
            .collect();
        Curve::from_losses(&left)
    }
}

impl Score for Given {
    fn score(&self, _: Evidence, groups: &[Group]) -> Vec<Vec<f64>> {
        let scores = |group: &Group| {
            self.of(group)
                .map_or_else(|| vec![0.0; group.units.len()], <[f64]>::to_vec)
        };
        groups.iter().map(scores).collect()
    }

    fn curves(&self, _: Evidence, groups: &[Group]) -> Vec<Curve> {
        groups
            .iter()
            .map(|group| self.curve(group, |_| true))
            .collect()
    }

    fn covers(&self, group: &Group) -> bool {
        self.of(group).is_some()
    }

    fn check(&self, groups: &[Group]) -> Result<(), GivenError> {
        Given::check(self, groups)
    }

    fn of_original(&self, group: &Group, left: &dyn Fn(u32) -> bool) -> Option<Curve> {
        Some(self.curve(group, left))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_list_of_scores_is_refused() {
        for wrong in [
            "",
            "[]",
            r#"{"groups": [{"id": "a"}]}"#,
            r#"{"groups": [{"id": "a", "scores": [1, "x"]}]}"#,
        ] {
            assert!(
                Given::parse(wrong)
                    .unwrap_err()
                    .to_string()
                    .contains("not a file of scores"),
                "{wrong}"
            );
        }
        let twice = r#"{"groups": [{"id": "a", "scores": [1]}, {"id": "a", "scores": [1]}]}"#;
        assert!(
            Given::parse(twice)
                .unwrap_err()
                .to_string()
                .contains("twice")
        );
    }
}
