//! How the weights that stay were fitted: a plan says which slices go, and its model may be more than that.

use serde::{Deserialize, Serialize};

use crate::hash::sha256_hex;

/// What was done to the weights that stay.
#[derive(Clone, Debug, Default, Serialize, Deserialize, PartialEq)]
pub struct Fit {
    /// `least-squares`, `statistics`, `distill`, or `none` where they are the original's.
    pub method: String,
    /// Steps of training, where there was any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub steps: Option<usize>,
    /// What training held outputs against the original's by, where that was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loss: Option<String>,
    /// The views that were asked for, where anybody did: `none`, or their names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub augment: Option<String>,
    /// What they were fitted to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inputs: Option<FitInputs>,
}

/// Inputs that weights were fitted to.
#[derive(Clone, Debug, Default, Serialize, Deserialize, PartialEq)]
pub struct FitInputs {
    /// How many.
    pub number: usize,
    /// SHA-256 over their names, types, shapes and numbers, as the model was fed them; of statistics, over the sums.
    pub digest: String,
    /// Whether they were made up.
    pub synthetic: bool,
    /// How they were prepared.
    pub preprocessing: String,
    /// SHA-256 of their class ids, where these were learnt from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub labels: Option<String>,
    /// In which views they were seen, and how many of each there were; empty where they were taken as they are.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub views: String,
}

/// SHA-256 of class ids.
pub fn labels_digest(ids: &[i64]) -> String {
    let bytes: Vec<u8> = ids.iter().flat_map(|id| id.to_le_bytes()).collect();
    sha256_hex(&bytes)
}

impl Fit {
    /// Of weights that are the original's.
    pub(crate) const NONE: &str = "none";

    /// Weights that are the original's.
    pub(crate) fn none() -> Self {
        Fit {
            method: Self::NONE.to_owned(),
            steps: None,
            loss: None,
            augment: None,
            inputs: None,
        }
    }

    /// Whether weights were fitted.
    pub(crate) fn fitted(&self) -> bool {
        self.method != Self::NONE
    }

    /// One clause: by what, and to how many inputs.
    pub(crate) fn describe(&self) -> String {
        match &self.inputs {
            Some(inputs) => {
                let made_up = if inputs.synthetic { " made-up" } else { "" };
                let number = if inputs.number == 1 {
                    "input"
                } else {
                    "inputs"
                };
                let prepared = if inputs.preprocessing.is_empty() {
                    String::new()
                } else {
                    format!(" ({})", inputs.preprocessing)
                };
                let views = if inputs.views.is_empty() {
                    String::new()
                } else {
                    format!(" in views ({})", inputs.views)
                };
                format!(
                    "by {} to {}{made_up} {number}{prepared}{views}",
                    self.method, inputs.number
                )
            }
            None => format!("by {}", self.method),
        }
    }

    /// How the inputs of this fit differ from those of another; `None` where they do not, or one of them had none.
    pub(crate) fn differs(&self, other: &Fit) -> Option<String> {
        let (here, there) = self.inputs.as_ref().zip(other.inputs.as_ref())?;
        let same = here.digest == there.digest && here.labels == there.labels;
        (!same).then(|| {
            format!(
                "the weights were fitted to other inputs than when the plan was made: {} here, {} then",
                self.describe(),
                other.describe()
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fit(number: usize, digest: &str) -> Fit {
        let inputs = FitInputs {
            number,
            digest: digest.to_owned(),
            synthetic: false,
            preprocessing: "× 1/255".to_owned(),
            labels: None,
            views: String::new(),
        };
        Fit {
            method: "least-squares".to_owned(),
            steps: None,
            loss: None,
            augment: None,
            inputs: Some(inputs),
        }
    }

    #[test]
    fn fits_to_other_inputs_are_told_apart() {
        let (one, other) = (fit(8, "a"), fit(9, "b"));
        assert_eq!(one.differs(&one), None);
        assert!(
            one.differs(&other)
                .unwrap()
                .contains("to 8 inputs (× 1/255) here, by least-squares to 9")
        );
        assert_eq!(
            (
                one.differs(&Fit::none()),
                Fit::none().fitted(),
                one.fitted()
            ),
            (None, false, true)
        );
    }
}
