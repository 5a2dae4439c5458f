//! The last look at what was made: inferred once more from the finished model, every extent must be what was kept.

use std::collections::HashMap;

use super::{SurgeryError, SurgeryErrorKind};
use crate::analysis::{Analysis, Pins, Selection, infer};
use crate::facts::Dim;
use crate::model::{GraphId, Model, ValueId};

/// Checks a finished model, whatever was done to it since its shapes were rewritten, against the selection that it was cut by.
/// Errors: a node whose shapes do not fit any more, or a value that has other extents than what was kept.
pub fn agrees(
    pruned: &Model,
    working: &Model,
    analysis: &Analysis,
    selection: &Selection,
) -> Result<(), SurgeryError> {
    let facts = infer(pruned, &Pins::new());
    let wrong = |node: &str, what: String| {
        Err(SurgeryError {
            node: node.to_owned(),
            kind: SurgeryErrorKind::Disagrees(what),
        })
    };
    if analysis.facts.problems.is_empty()
        && let Some((node, problem)) = facts.problems.iter().next()
    {
        return wrong(pruned.node_label(*node), problem.clone());
    }
    let (_, gone) = selection.sparing(&analysis.groups);
    if !gone.is_empty() {
        // What stands for a whole branch is one number an axis.
        return Ok(());
    }
    let found: HashMap<(GraphId, &str), ValueId> = pruned
        .index()
        .values()
        .map(|(value, entry)| ((entry.graph, entry.name.as_str()), value))
        .collect();
    for (value, entry) in working.index().values() {
        let Some(now) = found
            .get(&(entry.graph, entry.name.as_str()))
            .and_then(|now| facts.of(*now).shape.as_ref())
        else {
            continue;
        };
        let Some(kept) = kept_extents(analysis, selection, value) else {
            continue;
        };
        if !fits(analysis, value, &kept, now) {
            let what = format!("{} is left, {} was kept", listed(now), listed(&kept));
            return wrong(&entry.name, what);
        }
    }
    Ok(())
}

/// The extents that a selection leaves of a value; `None` where its rank is not known.
fn kept_extents(analysis: &Analysis, selection: &Selection, value: ValueId) -> Option<Vec<Dim>> {
    let before = analysis.facts.of(value).shape.as_ref()?;
    let kept = |(axis, dim): (usize, &Dim)| {
        analysis
            .new_extent(value, axis, selection)
            .unwrap_or_else(|| dim.clone())
    };
    Some(before.iter().enumerate().map(kept).collect())
}

/// Whether what is left of a value may have the extents that were kept.
fn fits(analysis: &Analysis, value: ValueId, kept: &[Dim], now: &[Dim]) -> bool {
    // Bytes of packed numbers become fewer with the numbers, which are no slices of the axis.
    let packed = |axis: usize| {
        analysis
            .spaces
            .axis(value, axis)
            .is_some_and(|axis| !analysis.spaces.packed(axis).is_empty())
    };
    let differs = |(axis, (kept, now)): (usize, (&Dim, &Dim))| match (kept.num(), now.num()) {
        (Some(kept), Some(now)) if packed(axis) => now > kept,
        _ => kept.differs(now),
    };
    kept.len() == now.len() && !kept.iter().zip(now).enumerate().any(differs)
}

fn listed(dims: &[Dim]) -> String {
    dims.iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join("×")
}
