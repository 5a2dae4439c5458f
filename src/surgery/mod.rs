//! A plan applied to a model: constants sliced, nodes rewritten, leftovers removed.
//!
//! Invariant: no scores, no runtimes, no files. Every extent is checked against the count of what was kept before the
//! model is handed on.

mod agree;
mod branch;
mod cut;
mod put_back;
mod tidy;

use std::fmt;

pub use agree::agrees;
pub use put_back::put_back;

use crate::analysis::{Analysis, Selection, rewrite};
use crate::model::{Index, Model};
use crate::proto::StringStringEntryProto;

/// A cut that cannot be carried through.
#[derive(Debug)]
pub struct SurgeryError {
    node: String,
    kind: SurgeryErrorKind,
}

#[derive(Debug)]
enum SurgeryErrorKind {
    Rewrite(String),
    Index(String),
    Whole,
    Disagrees(String),
}

impl fmt::Display for SurgeryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            SurgeryErrorKind::Rewrite(reason) => write!(
                f,
                "{}: {reason}; leave the groups at this node out",
                self.node
            ),
            SurgeryErrorKind::Whole => write!(
                f,
                "{}: not all units can go together; leave one of each group",
                self.node
            ),
            SurgeryErrorKind::Disagrees(what) => write!(
                f,
                "{}: the cut does not come out as it was planned: {what}",
                self.node
            ),
            SurgeryErrorKind::Index(reason) => {
                write!(f, "the cut leaves a graph that is not valid: {reason}")
            }
        }
    }
}

impl SurgeryError {
    /// Whether the cut can be made if the groups at the node that it names are left out.
    pub(crate) fn is_of_one_node(&self) -> bool {
        matches!(self.kind, SurgeryErrorKind::Rewrite(_))
    }
}

impl std::error::Error for SurgeryError {}

/// Applies a selection. `notes` (key, value) are recorded in the model's metadata.
///
/// Errors: an attribute or shape operand that cannot follow, though trials said that it could; a group of which nothing
/// stays and that is no branch.
pub fn apply(
    model: &Model,
    analysis: &Analysis,
    selection: &Selection,
    notes: &[(&str, String)],
) -> Result<Model, SurgeryError> {
    let (spared, ends) = branch::emptied(model, analysis, selection)?;
    let selection = &spared;
    let mut pruned = model.clone();
    cut::constants(&mut pruned, model, analysis, selection);
    cut::declared_shapes(&mut pruned, model, analysis, selection);
    note_ends(&mut pruned, model, analysis, selection);
    rewrite(&mut pruned, model, analysis, selection).map_err(|failures| {
        let first = failures.into_iter().next();
        let (node, reason) = first.map_or_else(Default::default, |failure| {
            (
                model.node_label(failure.node).to_owned(),
                failure.reason.to_string(),
            )
        });
        SurgeryError {
            node,
            kind: SurgeryErrorKind::Rewrite(reason),
        }
    })?;
    // Nodes were inserted, so subgraphs are elsewhere.
    reindex(&mut pruned)?;
    branch::collapse(&mut pruned, model, analysis, selection, &ends).ok_or_else(|| {
        SurgeryError {
            node: ends.join(", "),
            kind: SurgeryErrorKind::Index("a branch has no end".to_owned()),
        }
    })?;
    tidy::remove_leftovers(&mut pruned, model);
    annotate(&mut pruned, notes);
    reindex(&mut pruned)?;
    Ok(pruned)
}

fn reindex(pruned: &mut Model) -> Result<(), SurgeryError> {
    pruned.reindex().map_err(|error| SurgeryError {
        node: String::new(),
        kind: SurgeryErrorKind::Index(error.to_string()),
    })
}

/// Notes which slices of the inputs and outputs are left.
fn note_ends(pruned: &mut Model, model: &Model, analysis: &Analysis, selection: &Selection) {
    let main = model.index().graph(Index::MAIN);
    for value in main.inputs.iter().chain(&main.outputs) {
        let (name, dims) = (
            &model.index().value(*value).name,
            analysis.facts.of(*value).shape.iter().flatten(),
        );
        for (axis, dim) in dims.enumerate() {
            if let (Some(whole), Some(kept)) =
                (dim.count(), analysis.kept_axis(*value, axis, selection))
            {
                pruned.ends.keep(name, axis, whole, kept);
            }
        }
    }
    for (name, whole, kept) in analysis.kept_ids(model, selection) {
        pruned.ends.renumber(&name, whole, &kept);
    }
}

/// Records notes (key, value) in a model's metadata.
pub fn annotate(model: &mut Model, notes: &[(&str, String)]) {
    for (key, value) in notes {
        let properties = &mut model.proto.metadata_props;
        properties.retain(|property| property.key() != *key);
        properties.push(StringStringEntryProto {
            key: Some((*key).to_owned()),
            value: Some(value.clone()),
        });
    }
}
