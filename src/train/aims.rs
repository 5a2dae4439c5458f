//! Which values of a pruned model are held against the original's: outputs, and sums of branches inside.

use super::TrainError;
use super::trainable::{Trainable, is_stored};
use crate::analysis::Facts;
use crate::model::{Index, Model, ValueId};
use crate::ops::{Flow, flow};
use crate::recover::Teacher;

/// A value that both models have.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Shared {
    pub name: String,
    /// What stays of each axis of the original's; `None`: all.
    pub kept: Vec<Option<Vec<u32>>>,
    pub is_output: bool,
}

/// Sums inside that are looked at, at most.
const MOST: usize = 64;

/// Outputs that weights have a part in, then sums of two branches (wherever a residual is added). Errors: there is no such output.
pub(super) fn shared(
    teacher: Teacher,
    pruned: &Model,
    facts: &Facts,
) -> Result<Vec<Shared>, TrainError> {
    let Teacher {
        model: original,
        analysis,
        selection,
    } = teacher;
    let by_name = original.index().main_values();
    let trainable = Trainable::find(pruned, facts);
    let in_both = |value: ValueId, is_output: bool| {
        let name = &pruned.index().value(value).name;
        let twin = *by_name.get(name.as_str())?;
        let (old, new) = (analysis.facts.of(twin), facts.of(value));
        let rank = new.rank().filter(|rank| old.rank() == Some(*rank))?;
        (trainable.depends(value) && new.dtype?.is_float()).then_some(())?;
        Some(Shared {
            name: name.clone(),
            kept: (0..rank)
                .map(|axis| analysis.kept_axis(twin, axis, selection))
                .collect(),
            is_output,
        })
    };
    let outputs = &pruned.index().graph(Index::MAIN).outputs;
    let mut all: Vec<Shared> = outputs
        .iter()
        .filter_map(|value| in_both(*value, true))
        .collect();
    if all.is_empty() {
        return Err(TrainError::NothingTrainable(trainable.stops));
    }
    let joins = |value: &Option<ValueId>| {
        value.is_some_and(|value| trainable.depends(value) && !is_stored(pruned, value))
    };
    for node in &pruned.index().graph(Index::MAIN).nodes {
        let entry = pruned.index().node(*node);
        let is_sum = flow(pruned.node(*node)) == Flow::Add
            && entry.inputs.len() == 2
            && entry.inputs.iter().all(joins);
        let sum = entry
            .outputs
            .first()
            .copied()
            .flatten()
            .filter(|sum| is_sum && !outputs.contains(sum));
        all.extend(sum.and_then(|sum| in_both(sum, false)));
    }
    all.truncate(outputs.len() + MOST);
    Ok(all)
}
