//! Masks chosen when the passes over the data come to a layer.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use super::job::Job;
use super::local::Masks;
use super::parts::SparsePart;
use super::pattern::SparsityPattern;
use super::score::SparseScore;
use crate::recover::{Candidate, Selector};

/// What becomes of one product.
pub(super) enum ChoiceRule {
    /// So many weights go.
    Zeros(usize),
    /// These stay.
    Given(Vec<bool>),
}

/// Chooses masks when passes come to layers, and remembers them.
pub(super) struct Chooser<'a> {
    pub rules: BTreeMap<String, (&'a SparsePart, ChoiceRule)>,
    pattern: SparsityPattern,
    score: SparseScore,
    found: Mutex<Masks>,
}

impl<'a> Chooser<'a> {
    pub fn new(job: &Job<'a>, rule: impl Fn(usize, &SparsePart) -> Option<ChoiceRule>) -> Self {
        let rules = job
            .parts
            .iter()
            .enumerate()
            .filter_map(|(at, part)| Some((part.layer.clone(), (part, rule(at, part)?))))
            .collect();
        Chooser {
            rules,
            pattern: job.pattern,
            score: job.request.score,
            found: Mutex::default(),
        }
    }

    /// Remembers a mask.
    pub fn note(&self, part: &SparsePart, stays: Vec<bool>) {
        let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        found.insert(part.constant.clone(), stays);
    }

    /// Whether there is a mask for a product.
    pub fn knows(&self, part: &SparsePart) -> bool {
        let found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        found.contains_key(&part.constant)
    }

    /// All masks.
    pub fn masks(self) -> Masks {
        self.found
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Selector for Chooser<'_> {
    fn select(&self, layer: &str, groups: &[Candidate]) -> Option<Vec<bool>> {
        let (part, rule) = self.rules.get(layer)?;
        let stays = match rule {
            ChoiceRule::Given(stays) => stays.clone(),
            ChoiceRule::Zeros(zeros) => self.score.choose(self.pattern, part.shape, groups, *zeros),
        };
        self.note(part, stays.clone());
        Some(stays)
    }
}
