//! The decision as data: which units go, written to JSON, read back, and checked against the model it is applied to.

mod fit;
mod slices;
mod vocabulary;

use std::collections::BTreeSet;
use std::path::Path;

pub use fit::{Fit, FitInputs, labels_digest};
pub use vocabulary::VocabularyPlan;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::analysis::{Allowed, Analysis, branch_ends};
use crate::constants::Origins;
use crate::model::Model;

/// A plan file (format 1 of the command-line contract): what goes. The fields that this page does not show say how the plan was
/// made, for whoever applies it again.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
pub struct Plan {
    /// The version of this format.
    pub format: u32,
    /// Who made it.
    #[doc(hidden)]
    pub tool: Tool,
    /// SHA-256 of the model's file.
    pub model_sha256: String,
    /// The units that go.
    pub groups: Vec<GroupCut>,
    /// The same as slices of the constants, for anyone to check.
    pub removed: Vec<SliceCut>,
    /// How the weights that stay were fitted; plans of versions that did not say have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[doc(hidden)]
    pub fit: Option<Fit>,
    /// Graph inputs and outputs that were allowed to shrink: what the units are depends on it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[doc(hidden)]
    pub allowed: Vec<AllowedAxes>,
    /// What goes from graph inputs and outputs, for whoever feeds the pruned model.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub io: Vec<SliceCut>,
    /// Constants that were brought to another basis before; `removed` then speaks of them in that basis.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[doc(hidden)]
    pub rotations: Vec<ConstantRotation>,
    /// The inputs and outputs that speak of tokens by their ids, where rows of the vocabulary go.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[doc(hidden)]
    pub vocabulary: Option<VocabularyPlan>,
}

/// Name and version of a program.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
#[allow(missing_docs)]
pub struct Tool {
    pub name: String,
    pub version: String,
}

/// The units that go from one group.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
pub struct GroupCut {
    /// The group's id.
    pub id: String,
    /// What its units are.
    pub kind: String,
    /// How many units it has.
    pub units: usize,
    /// The units that go, ascending.
    pub removed: Vec<u32>,
}

/// Axes of one graph input or output.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
pub struct AllowedAxes {
    /// Its name.
    pub value: String,
    /// The axes, ascending.
    pub axes: Vec<usize>,
}

impl AllowedAxes {
    /// Axes by value.
    pub fn list(allowed: &Allowed) -> Vec<Self> {
        let mut list: Vec<AllowedAxes> = Vec::new();
        for (value, axis) in allowed {
            match list.last_mut().filter(|last| last.value == *value) {
                Some(last) => last.axes.push(*axis),
                None => list.push(AllowedAxes {
                    value: value.clone(),
                    axes: vec![*axis],
                }),
            }
        }
        list
    }
}

/// The slices that go from one axis of one constant, graph input or output.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
pub struct SliceCut {
    /// Its name in the original file, with the prefix of its subgraph (`NODE/ATTRIBUTE/`) or function (`FUNCTION/`).
    pub value: String,
    /// The axis.
    pub axis: usize,
    /// Slices of the original axis, ascending.
    pub indices: Vec<u32>,
    /// The one reader that loses them, where readers of a shared constant are cut differently: node and number of the input.
    /// A node goes by its name, or by that of its first output where it has none or another of its graph has it too; with
    /// the prefix of its subgraph, and in a function with `CALL/`, the name of the node that calls.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reader: Option<(String, u32)>,
    /// Whether the file computes the value from constants.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub computed: bool,
}

/// A change of basis of one axis of one constant.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq, PartialOrd, Ord)]
pub struct ConstantRotation {
    /// Its name in the original file, as in [`SliceCut::value`].
    pub value: String,
    /// The axis.
    pub axis: usize,
    /// SHA-256 over the matrices that were multiplied into it, one for each head where there are heads, as single-precision
    /// numbers row by row.
    pub digest: String,
}

/// A plan that does not fit.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
#[non_exhaustive]
pub enum PlanError {
    #[error("{path}: {problem}")]
    File { path: String, problem: String },
    #[error(
        "the plan was made for another model (sha256 {wanted}, this one has {found}); apply it to the file it was made for"
    )]
    OtherModel { wanted: String, found: String },
    #[error(
        "the plan's group '{0}' is not one of this model's; was it made for other kinds of units or other input shapes?"
    )]
    NoSuchGroup(String),
    #[error("the plan removes unit {unit} of group '{group}', which has {units}")]
    NoSuchUnit {
        group: String,
        unit: u32,
        units: usize,
    },
    #[error(
        "the plan removes all of group '{0}', which is no branch that can go as a whole; at least one of its units must stay"
    )]
    Empties(String),
    #[error(
        "the plan leaves {left} units of group '{group}', of which {least} are chosen at a time; as many must stay"
    )]
    TooFew {
        group: String,
        left: usize,
        least: usize,
    },
    #[error(
        "the plan's slices of '{value}' axis {axis} are not those that its units hold; make the plan again, or edit its groups only"
    )]
    NotItsUnits { value: String, axis: usize },
    #[error(
        "the plan's directions of '{value}' axis {axis} are in another basis than these inputs give; apply it with the inputs that it was made with"
    )]
    OtherBasis { value: String, axis: usize },
}

impl Plan {
    /// The plan of a choice of units (by group of the analysis).
    #[doc(hidden)]
    pub(crate) fn new(
        model: &Model,
        analysis: &Analysis,
        origins: &Origins,
        removed: &[Vec<u32>],
        model_sha256: String,
    ) -> Self {
        let groups = analysis
            .groups
            .iter()
            .zip(removed)
            .filter(|(_, removed)| !removed.is_empty());
        let groups: Vec<GroupCut> = groups
            .map(|(group, removed)| GroupCut {
                id: group.id.clone(),
                kind: group.kind.to_string(),
                units: group.units.len(),
                removed: removed.clone(),
            })
            .collect();
        let selection = analysis.select(
            removed
                .iter()
                .enumerate()
                .map(|(group, units)| (group, units.as_slice())),
        );
        Plan {
            format: 1,
            tool: Tool {
                name: env!("CARGO_PKG_NAME").to_owned(),
                version: env!("CARGO_PKG_VERSION").to_owned(),
            },
            model_sha256,
            groups,
            removed: slices::held(model, analysis, origins, &selection)
                .iter()
                .flat_map(slices::Held::cuts)
                .collect(),
            fit: None,
            allowed: Vec::new(),
            io: slices::of_ends(model, analysis, &selection),
            rotations: Vec::new(),
            vocabulary: None,
        }
    }

    /// Axes of graph inputs and outputs that may shrink for this plan.
    pub(crate) fn allowed(&self) -> impl Iterator<Item = (String, usize)> {
        self.allowed.iter().flat_map(|allowed| {
            allowed
                .axes
                .iter()
                .map(|axis| (allowed.value.clone(), *axis))
        })
    }

    /// Errors: a change of basis of the plan that is not among those that were made.
    #[doc(hidden)]
    pub(crate) fn check_rotations(&self, made: &[ConstantRotation]) -> Result<(), PlanError> {
        match self.rotations.iter().find(|wanted| !made.contains(wanted)) {
            None => Ok(()),
            Some(other) => Err(PlanError::OtherBasis {
                value: other.value.clone(),
                axis: other.axis,
            }),
        }
    }

    /// Reads a plan file.
    pub fn read(path: &Path) -> Result<Self, PlanError> {
        let error = |problem: String| PlanError::File {
            path: path.display().to_string(),
            problem,
        };
        let text = crate::files::text(path).map_err(|problem| error(problem.to_string()))?;
        let plan: Plan = serde_json::from_str(&text)
            .map_err(|problem| error(format!("not a plan: {problem}")))?;
        if plan.format != 1 {
            return Err(error(format!(
                "format {} is not known to this version",
                plan.format
            )));
        }
        Ok(plan)
    }

    /// The plan as JSON, ending in a newline.
    pub fn to_json(&self) -> String {
        serde_json::to_string_pretty(self).map_or_else(|_| String::new(), |text| text + "\n")
    }

    /// A short digest of what goes.
    pub(crate) fn digest(&self) -> String {
        let mut hash = Sha256::new();
        for group in &self.groups {
            hash.update(group.id.as_bytes());
            group
                .removed
                .iter()
                .for_each(|unit| hash.update(unit.to_le_bytes()));
        }
        crate::hash::hex(&hash.finalize()[..8])
    }

    /// Tells a model that was made by this plan and read from its file what is left of its inputs and outputs.
    /// `whole`: the original's extents. Errors: slices that the original does not have.
    #[doc(hidden)]
    pub(crate) fn note_ends(
        &self,
        pruned: &mut Model,
        whole: impl Fn(&str, usize) -> Option<usize>,
    ) -> Result<(), PlanError> {
        self.note_ids(pruned);
        for cut in &self.io {
            let extent = whole(&cut.value, cut.axis)
                .filter(|extent| cut.indices.iter().all(|index| (*index as usize) < *extent));
            let Some(extent) = extent else {
                return Err(PlanError::NotItsUnits {
                    value: cut.value.clone(),
                    axis: cut.axis,
                });
            };
            let gone: BTreeSet<u32> = cut.indices.iter().copied().collect();
            pruned.ends.keep(
                &cut.value,
                cut.axis,
                extent,
                (0..extent as u32)
                    .filter(|index| !gone.contains(index))
                    .collect(),
            );
        }
        Ok(())
    }

    /// The units that go, by group of the analysis. Errors: the plan does not fit the model.
    #[doc(hidden)]
    pub(crate) fn check(
        &self,
        model: &Model,
        analysis: &Analysis,
        origins: &Origins,
        sha256: &str,
    ) -> Result<Vec<Vec<u32>>, PlanError> {
        if self.model_sha256 != sha256 {
            return Err(PlanError::OtherModel {
                wanted: self.model_sha256.clone(),
                found: sha256.to_owned(),
            });
        }
        let removed = self.units(analysis)?;
        let selection = analysis.select(
            removed
                .iter()
                .enumerate()
                .map(|(group, units)| (group, units.as_slice())),
        );
        let (_, emptied) = selection.sparing(&analysis.groups);
        if let Some(first) = emptied
            .first()
            .filter(|_| branch_ends(model, analysis, &emptied).is_none())
        {
            return Err(PlanError::Empties(analysis.groups[*first].id.clone()));
        }
        let held = slices::held(model, analysis, origins, &selection);
        let ends = slices::of_ends(model, analysis, &selection);
        let covered = |slice: &SliceCut| {
            held.iter()
                .any(|held| held.name == slice.value && held.covers(slice))
        };
        let shrinks = |slice: &SliceCut| {
            let same = |end: &&SliceCut| end.value == slice.value && end.axis == slice.axis;
            ends.iter().find(same).is_some_and(|known| {
                let goes = |index| known.indices.binary_search(index).is_ok();
                slice.indices.iter().all(goes)
            })
        };
        let wrong = self.removed.iter().find(|slice| !covered(slice));
        match wrong.or_else(|| self.io.iter().find(|slice| !shrinks(slice))) {
            None => Ok(removed),
            Some(slice) => Err(PlanError::NotItsUnits {
                value: slice.value.clone(),
                axis: slice.axis,
            }),
        }
    }

    /// The units that go, ascending, by group of the analysis. Errors: a group or unit that the model does not have.
    fn units(&self, analysis: &Analysis) -> Result<Vec<Vec<u32>>, PlanError> {
        let mut removed = vec![Vec::new(); analysis.groups.len()];
        for cut in &self.groups {
            let at = analysis
                .groups
                .iter()
                .position(|group| group.id == cut.id)
                .ok_or_else(|| PlanError::NoSuchGroup(cut.id.clone()))?;
            let (units, least) = (analysis.groups[at].units.len(), analysis.groups[at].least);
            if let Some(unit) = cut.removed.iter().find(|unit| **unit as usize >= units) {
                return Err(PlanError::NoSuchUnit {
                    group: cut.id.clone(),
                    unit: *unit,
                    units,
                });
            }
            let mut sorted = cut.removed.clone();
            sorted.sort_unstable();
            sorted.dedup();
            let (left, group) = (units - sorted.len(), cut.id.clone());
            if least > 1 && left < least {
                return Err(PlanError::TooFew { group, left, least });
            }
            removed[at] = sorted;
        }
        Ok(removed)
    }
}
