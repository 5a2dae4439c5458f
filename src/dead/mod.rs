//! Dead parts: units that no output can tell of, as training with masks leaves them.
//!
//! Bounds on numbers are read from the constants and carried through the relations, slice by slice. A unit goes where every sum
//! that runs over it multiplies it by zero, or it by zero. Invariant: nothing is looked for by pattern, and what is not
//! understood is unknown.

mod carry;
mod fold;
mod idle;
mod interval;
mod membership;
mod numbers;
mod readers;
mod same;
mod transfer;
mod units;

pub use units::{removable, spare};

use std::collections::BTreeMap;
use std::fmt;

use crate::analysis::{Kind, Options, known};
use crate::clean::{self, Cleaned};
use crate::model::{Model, encoded_len};
use crate::workspace::{Workspace, WorkspaceError};

/// How many units went, by kind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeadUnits(pub BTreeMap<Kind, usize>);

impl DeadUnits {
    /// Counts removed units, given by group.
    pub fn count(workspace: &Workspace, removed: &[Vec<u32>]) -> Self {
        let mut counts = BTreeMap::new();
        for (group, units) in workspace.analysis.groups.iter().zip(removed) {
            if !units.is_empty() {
                *counts.entry(group.kind).or_insert(0) += units.len();
            }
        }
        DeadUnits(counts)
    }

    /// Whether none went.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn add(&mut self, other: Self) {
        for (kind, count) in other.0 {
            *self.0.entry(kind).or_insert(0) += count;
        }
    }
}

impl fmt::Display for DeadUnits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts: Vec<String> = self
            .0
            .iter()
            .map(|(kind, count)| format!("{count} {kind}"))
            .collect();
        f.write_str(&parts.join(", "))
    }
}

/// Cleans a model of all that no output depends on, dead units included. Errors: as of [`remove`].
pub fn clean(
    model: &mut Model,
    fold_norms: bool,
    options: &Options,
) -> Result<(Cleaned, DeadUnits), WorkspaceError> {
    let (nodes, bytes) = (model.index().nodes().len(), encoded_len(model));
    let pass = |model: &mut Model| {
        let contents = known(model);
        let options = clean::CleanOptions {
            contents: Some(&contents),
            fold_norms,
        };
        clean::clean(model, options)
    };
    let mut cleaned = pass(model)?;
    let dead = remove(model, options)?;
    if !dead.is_empty() {
        cleaned += pass(model)?;
    }
    cleaned.removed_nodes = nodes.saturating_sub(model.index().nodes().len());
    cleaned.bytes_saved = bytes.saturating_sub(encoded_len(model));
    Ok((cleaned, dead))
}

/// Removes dead units, units that are constant or equal to another, and nodes that hand a value on, until there are none; says how
/// many units went. What would make the file larger is left out. Errors: the model does not hold together, or a cut that was
/// tried on shapes does not come out.
pub fn remove(model: &mut Model, options: &Options) -> Result<DeadUnits, WorkspaceError> {
    let mut all = DeadUnits::default();
    // What trains a model refers to initializers by name.
    while model.proto.training_info.is_empty() {
        let mut workspace = Workspace::with_recovery_biases(model, options)?;
        if let Some(shorter) = without_idle(model, &workspace)? {
            *model = shorter;
            continue;
        }
        let before = workspace.working.clone();
        if !fold::fold(&mut workspace) {
            workspace.working = before;
        }
        let removed = removable(&workspace);
        if removed.iter().all(Vec::is_empty) {
            return Ok(all);
        }
        let selection = workspace.select(&removed);
        let cut = workspace.cut(&selection, &[])?;
        workspace.check(&cut, &selection)?;
        if encoded_len(&cut) > encoded_len(model) {
            return Ok(all);
        }
        all.add(DeadUnits::count(&workspace, &removed));
        *model = cut;
    }
    Ok(all)
}

/// The model without nodes that hand a value on; `None` where there are none, or the file would not be smaller.
fn without_idle(model: &Model, workspace: &Workspace) -> Result<Option<Model>, WorkspaceError> {
    let idle = idle::idle(workspace);
    if idle.is_empty() {
        return Ok(None);
    }
    let mut shorter = workspace.working.clone();
    clean::hand_on(&mut shorter, &idle)?;
    let mut shorter = workspace.reshare(shorter)?;
    clean::clean(&mut shorter, clean::CleanOptions::default())?;
    Ok((encoded_len(&shorter) < encoded_len(model)).then_some(shorter))
}

#[cfg(test)]
mod tests;
