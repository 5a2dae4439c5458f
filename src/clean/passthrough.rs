//! Nodes that hand their input on: Identity, and Dropout as it is outside of training.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use super::edit;
use crate::model::edit::NodeExt;
use crate::model::{LoadError, Model, NodeId, Origin, ValueId};
use crate::ops::{Flow, flow};

/// Removes them. The names of graph inputs and outputs stay: a node between the two of them does, too.
pub(super) fn remove(model: &mut Model) -> Result<(), LoadError> {
    let found = model.index().nodes();
    let found: BTreeMap<NodeId, (ValueId, ValueId)> = found
        .filter_map(|(id, _)| Some((id, handed_on(model, id)?)))
        .collect();
    hand_on(model, &found)?;
    outer(model)
}

/// The input and output of a node that only hands on.
fn handed_on(model: &Model, id: NodeId) -> Option<(ValueId, ValueId)> {
    let (node, entry) = (model.node(id), model.index().node(id));
    let passes = match flow(node) {
        Flow::Same => true,
        Flow::Dropped => is_inactive(model, id),
        _ => false,
    };
    let (input, output) = ((*entry.inputs.first()?)?, (*entry.outputs.first()?)?);
    passes.then_some((input, output))
}

fn is_inactive(model: &Model, id: NodeId) -> bool {
    let (node, entry) = (model.node(id), model.index().node(id));
    let unread = |value: &ValueId| {
        model.index().value(*value).readers.is_empty() && !model.index().value(*value).is_output
    };
    if !entry.outputs.iter().skip(1).flatten().all(unread) {
        return false;
    }
    if model.opset("") < 7 {
        return node.int("is_test") == Some(1);
    }
    match entry.input(2) {
        None => true,
        Some(training) => {
            edit::is_constant(model, training)
                && model
                    .constant(training)
                    .and_then(|tensor| tensor.to_i64())
                    .is_some_and(|truths| truths.iter().all(|truth| *truth == 0))
        }
    }
}

/// Removes nodes that hand a value on as another, each with the two of them, where the other is no graph output: its readers read
/// the first instead. Errors: none on a model that was indexed.
pub fn hand_on(
    model: &mut Model,
    nodes: &BTreeMap<NodeId, (ValueId, ValueId)>,
) -> Result<(), LoadError> {
    let ambiguous = edit::ambiguous(model);
    let mut sources: HashMap<ValueId, ValueId> = HashMap::new();
    let mut removed = BTreeSet::new();
    for (id, (input, output)) in nodes {
        let (from, to) = (model.index().value(*input), model.index().value(*output));
        if to.is_output || ambiguous.contains(&from.name) || ambiguous.contains(&to.name) {
            continue;
        }
        sources.insert(*output, *input);
        removed.insert(*id);
    }
    let name = |value: ValueId| model.index().value(value).name.clone();
    let outputs: Vec<ValueId> = sources.keys().copied().collect();
    let renamed: HashMap<String, String> = outputs
        .into_iter()
        .map(|output| (name(output), name(first(&mut sources, output))))
        .collect();
    edit::rename_reads(model, &renamed);
    edit::remove_nodes(model, &removed)
}

/// Where a chain of values that hand each other on begins; those on the way are noted, so that no chain is walked twice.
fn first(sources: &mut HashMap<ValueId, ValueId>, value: ValueId) -> ValueId {
    let (mut root, mut at) = (value, value);
    while let Some(further) = sources.get(&root) {
        root = *further;
    }
    while at != root {
        at = sources.insert(at, root).unwrap_or(root);
    }
    root
}

/// Those whose output is a graph output: the node that computes their input computes the output's name instead.
fn outer(model: &mut Model) -> Result<(), LoadError> {
    let ambiguous = edit::ambiguous(model);
    let mut removed = BTreeSet::new();
    let mut taken: HashSet<ValueId> = HashSet::new();
    let mut work: Vec<(NodeId, u32, String, String)> = Vec::new();
    for (id, entry) in model.index().nodes() {
        let Some((input, output)) = handed_on(model, id) else {
            continue;
        };
        let (from, to) = (model.index().value(input), model.index().value(output));
        let Origin::Output(producer, slot) = from.origin else {
            continue;
        };
        let clear =
            !from.is_output && !ambiguous.contains(&from.name) && !ambiguous.contains(&to.name);
        // A chain is undone link by link: its next link waits for the next round.
        if !to.is_output
            || !clear
            || from.graph != entry.graph
            || removed.contains(&producer)
            || !taken.insert(input)
        {
            continue;
        }
        removed.insert(id);
        work.push((producer, slot, from.name.clone(), to.name.clone()));
    }
    if work.is_empty() {
        return Ok(());
    }
    let renamed: HashMap<String, String> = work
        .iter()
        .map(|(_, _, from, to)| (from.clone(), to.clone()))
        .collect();
    for (producer, slot, from, to) in &work {
        if let Some(name) = model.node_mut(*producer).output.get_mut(*slot as usize) {
            *name = to.clone();
        }
        let graph = model.index().node(*producer).graph;
        let graph = model.graph_mut(graph);
        graph.value_info.retain(|info| info.name() != from);
        graph
            .quantization_annotation
            .iter_mut()
            .filter(|annotation| annotation.tensor_name() == from)
            .for_each(|annotation| {
                annotation.tensor_name = Some(to.clone());
            });
    }
    edit::rename_reads(model, &renamed);
    edit::remove_nodes(model, &removed)?;
    outer(model)
}
