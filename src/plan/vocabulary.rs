//! The part of a plan that takes rows of the vocabulary, which is cut before all else.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::{AllowedAxes, Plan, PlanError, SliceCut};
use crate::analysis::{KeptTokens, Kind, TokenEnds};
use crate::model::Model;

/// Inputs and outputs that speak of tokens by their ids: ids are counted anew, in their order.
#[derive(Clone, Debug, Default, Serialize, Deserialize, PartialEq)]
pub struct VocabularyPlan {
    /// Inputs that hold ids.
    pub inputs: Vec<String>,
    /// Axes of outputs that have an entry for each token.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub outputs: Vec<AllowedAxes>,
}

impl VocabularyPlan {
    /// The part of a plan that says what these ends are.
    pub(crate) fn of(ends: &TokenEnds) -> Self {
        VocabularyPlan {
            inputs: ends.inputs.iter().cloned().collect(),
            outputs: AllowedAxes::list(&ends.outputs),
        }
    }

    /// What analysis is told.
    pub(crate) fn ends(&self) -> TokenEnds {
        let axes = |end: &AllowedAxes| {
            let value = end.value.clone();
            let axes = end.axes.clone().into_iter();
            axes.map(move |axis| (value.clone(), axis))
                .collect::<Vec<_>>()
        };
        TokenEnds {
            inputs: self.inputs.iter().cloned().collect(),
            outputs: self.outputs.iter().flat_map(axes).collect(),
        }
    }
}

impl Plan {
    /// The part that takes rows of the vocabulary, and the rest; `None` where it takes none.
    #[doc(hidden)]
    pub(crate) fn vocabulary_first(&self) -> Option<(Plan, Plan)> {
        self.vocabulary.as_ref()?;
        let kind = Kind::Vocabulary.name();
        let (rows, others) = self
            .groups
            .iter()
            .cloned()
            .partition(|group| group.kind == kind);
        let first = Plan {
            groups: rows,
            removed: Vec::new(),
            fit: None,
            allowed: Vec::new(),
            io: Vec::new(),
            ..self.clone()
        };
        let rest = Plan {
            groups: others,
            vocabulary: None,
            ..self.clone()
        };
        Some((first, rest))
    }

    /// Takes out the slices that `first` takes. Errors: other slices of the same axes.
    #[doc(hidden)]
    pub(crate) fn without(mut self, first: &Plan) -> Result<Plan, PlanError> {
        let parts = [
            (&mut self.removed, &first.removed),
            (&mut self.io, &first.io),
        ];
        for (own, taken) in parts {
            let same = |cut: &SliceCut, other: &SliceCut| {
                (&cut.value, cut.axis, &cut.reader) == (&other.value, other.axis, &other.reader)
            };
            let wrong = own.iter().find(|cut| {
                let other = taken.iter().find(|other| same(cut, other));
                other.is_some_and(|other| other.indices != cut.indices)
            });
            if let Some(wrong) = wrong {
                return Err(PlanError::NotItsUnits {
                    value: wrong.value.clone(),
                    axis: wrong.axis,
                });
            }
            own.retain(|cut| !taken.iter().any(|other| same(cut, other)));
        }
        Ok(self)
    }

    /// The plan that does both: `first`, then this one.
    #[doc(hidden)]
    pub(crate) fn behind(mut self, first: Plan) -> Plan {
        self.groups.splice(0..0, first.groups);
        self.removed.splice(0..0, first.removed);
        self.io.splice(0..0, first.io);
        self.vocabulary = first.vocabulary;
        self
    }

    /// The tokens that stay; `None` where none goes.
    #[doc(hidden)]
    pub(crate) fn kept_tokens(&self) -> Option<KeptTokens> {
        let kind = Kind::Vocabulary.name();
        let rows = self.groups.iter().find(|group| group.kind == kind)?;
        let gone: BTreeSet<u32> = rows.removed.iter().copied().collect();
        let kept = (0..rows.units as u32).filter(|row| !gone.contains(row));
        Some(KeptTokens {
            ends: self.vocabulary.as_ref()?.ends(),
            rows: rows.units,
            kept: kept.collect(),
        })
    }

    /// Tells a model that was made by this plan which numbers its ids have.
    pub(super) fn note_ids(&self, pruned: &mut Model) {
        let Some(tokens) = self.kept_tokens() else {
            return;
        };
        for input in &tokens.ends.inputs {
            pruned.ends.renumber(input, tokens.rows, &tokens.kept);
        }
    }
}
