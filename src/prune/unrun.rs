//! Branches that no input takes: what they compute is measured by nothing.

use std::collections::{BTreeMap, BTreeSet};

use super::PruneError;
use crate::analysis::{Facts, Group, Pins, infer};
use crate::inputs::Batches;
use crate::model::{GraphId, Index, Model, NodeId, ValueId, extract_subgraph};
use crate::ops::meaning;
use crate::proto::is_weight;
use crate::run::{Runtime, Tensors};
use crate::workspace::Workspace;

/// Inputs that are looked at, spread over all.
const LOOKED_AT: usize = 64;

/// Branches of conditions that the inputs at hand do not take.
#[derive(Clone, Debug, Default)]
pub(super) struct Unrun {
    graphs: BTreeSet<GraphId>,
}

/// A branch that never ran, and what only it holds.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct UnrunBranch {
    /// The node whose branch it is.
    pub node: String,
    /// The attribute that holds it.
    pub branch: String,
    /// Groups of units that only it reads.
    pub groups: usize,
    /// Their units.
    pub units: usize,
}

impl Unrun {
    /// Looks which branches of a model the inputs take. A condition that cannot be computed says nothing of its branches.
    /// Errors: inputs that can not be read.
    pub fn find(
        model: &Model,
        inputs: &dyn Batches,
        runtime: &dyn Runtime,
    ) -> Result<Self, PruneError> {
        let index = model.index();
        let ifs: Vec<NodeId> = index
            .nodes()
            .filter(|(node, _)| {
                meaning(model.node(*node))
                    .control
                    .is_some_and(|control| control.alternative)
            })
            .map(|(node, _)| node)
            .collect();
        let mut unrun = Unrun::default();
        let Some(example) = inputs.example()?.filter(|_| !ifs.is_empty()) else {
            return Ok(unrun);
        };
        let seen = truths(model, &ifs, &example, inputs, runtime)?;
        for node in ifs {
            let Some(truths) = condition(model, node)
                .and_then(|value| seen.get(&value))
                .filter(|truths| truths.len() == 1)
            else {
                continue;
            };
            let taken = if truths.contains(&true) {
                "then_branch"
            } else {
                "else_branch"
            };
            unrun.graphs.extend(
                index
                    .node(node)
                    .subgraphs
                    .iter()
                    .filter(|graph| index.graph(**graph).attribute != taken),
            );
        }
        Ok(unrun)
    }

    /// Whether only branches that never ran read a group's weights; gives the outermost.
    pub fn holds(&self, model: &Model, group: &Group) -> Option<GraphId> {
        if self.graphs.is_empty() {
            return None;
        }
        let readers = group
            .weights
            .iter()
            .flat_map(|(value, _)| model.index().value(*value).readers.iter());
        let mut around = readers.map(|(node, _)| self.around(model, *node));
        let first = around.next()??;
        around.all(|graph| graph.is_some()).then_some(first)
    }

    /// The outermost branch around a node that never ran.
    fn around(&self, model: &Model, node: NodeId) -> Option<GraphId> {
        let index = model.index();
        let (mut graph, mut found) = (index.node(node).graph, None);
        loop {
            if self.graphs.contains(&graph) {
                found = Some(graph);
            }
            match index.graph(graph).parent {
                Some(node) => graph = index.node(node).graph,
                None => return found,
            }
        }
    }

    /// Whether not only branches that never ran read a group's weights.
    pub fn reaches(&self, prepared: &Workspace, group: usize) -> bool {
        let group = prepared.analysis.groups.get(group);
        group.is_some_and(|group| self.holds(&prepared.working, group).is_none())
    }

    /// The branches that hold weights, the outermost only, and what would be left whole of these groups.
    pub fn branches(&self, prepared: &Workspace, groups: &[usize]) -> Vec<UnrunBranch> {
        let (model, index) = (&prepared.working, prepared.working.index());
        let outermost = |graph: &GraphId| {
            index
                .graph(*graph)
                .parent
                .is_none_or(|node| self.around(model, node).is_none())
        };
        let mut found = Vec::new();
        for graph in self.graphs.iter().filter(|graph| outermost(graph)) {
            let inside = |node: NodeId| self.around(model, node) == Some(*graph);
            let weighs = index.values().any(|(value, entry)| {
                model.tensor_proto(value).is_some_and(is_weight)
                    && entry.readers.iter().any(|(node, _)| inside(*node))
            });
            let Some(node) = index.graph(*graph).parent.filter(|_| weighs) else {
                continue;
            };
            let of: Vec<&Group> = groups
                .iter()
                .filter_map(|group| prepared.analysis.groups.get(*group))
                .filter(|group| self.holds(model, group) == Some(*graph))
                .collect();
            found.push(UnrunBranch {
                node: model.node_label(node).to_owned(),
                branch: index.graph(*graph).attribute.clone(),
                groups: of.len(),
                units: of.iter().map(|group| group.units.len()).sum(),
            });
        }
        found
    }
}

/// What the user should know of branches that never ran. `kept`: their units are left whole, else a plan says what goes.
pub(super) fn remark(branches: &[UnrunBranch], kept: bool) -> Option<String> {
    let names: Vec<String> = branches
        .iter()
        .map(|branch| format!("{} of '{}'", branch.branch.replace('_', " "), branch.node))
        .collect();
    let (groups, units) = (
        branches.iter().map(|branch| branch.groups).sum::<usize>(),
        branches.iter().map(|branch| branch.units).sum::<usize>(),
    );
    let names = match &names[..] {
        [] => return None,
        [last] => last.clone(),
        [names @ .., last] => format!("{} and {last}", names.join(", ")),
    };
    let rest = match (groups, kept) {
        (0, _) => "nothing in it was measured or checked".to_owned(),
        (_, true) => format!(
            "{units} units that nothing else reads are left whole, for nothing tells what they are worth"
        ),
        (_, false) => "what the plan cuts there is neither measured nor checked".to_owned(),
    };
    Some(format!("no input took the {names}: {rest}"))
}

fn condition(model: &Model, node: NodeId) -> Option<ValueId> {
    model.index().node(node).inputs.first().copied().flatten()
}

/// What the conditions of some nodes come to.
fn truths(
    model: &Model,
    ifs: &[NodeId],
    example: &Tensors,
    inputs: &dyn Batches,
    runtime: &dyn Runtime,
) -> Result<BTreeMap<ValueId, BTreeSet<bool>>, PruneError> {
    let pins: Pins = example
        .iter()
        .map(|(name, tensor)| {
            (
                name.clone(),
                tensor.dims.iter().map(|dim| *dim as i64).collect(),
            )
        })
        .collect();
    let facts = infer(model, &pins);
    let conditions: BTreeSet<ValueId> = ifs
        .iter()
        .filter_map(|node| condition(model, *node))
        .collect();
    let mut seen: BTreeMap<ValueId, BTreeSet<bool>> = BTreeMap::new();
    for value in conditions {
        let found = match known(&facts, value) {
            Some(truth) => [truth].into(),
            None => computed(model, value, example, inputs, runtime)?,
        };
        seen.insert(value, found);
    }
    Ok(seen)
}

/// A condition that shapes decide.
fn known(facts: &Facts, value: ValueId) -> Option<bool> {
    let numbers = facts.of(value).contents.as_ref()?.numbers()?;
    numbers.first().map(|number| *number != 0)
}

/// What a condition of the main graph comes to on the inputs; both where that cannot be found out.
fn computed(
    model: &Model,
    value: ValueId,
    example: &Tensors,
    inputs: &dyn Batches,
    runtime: &dyn Runtime,
) -> Result<BTreeSet<bool>, PruneError> {
    let (entry, both) = (model.index().value(value), BTreeSet::from([false, true]));
    let mut truths = BTreeSet::new();
    let count = inputs.count();
    let looked_at = (0..count.min(LOOKED_AT)).map(|at| at * count / count.min(LOOKED_AT));
    if entry.graph == Index::MAIN && example.contains_key(&entry.name) {
        for run in looked_at {
            truths.extend(inputs.fetch(run)?.get(&entry.name).and_then(truth));
        }
        return Ok(if truths.is_empty() { both } else { truths });
    }
    if entry.graph != Index::MAIN {
        return Ok(both);
    }
    let Ok(part) = extract_subgraph(model, std::slice::from_ref(&entry.name), &BTreeMap::new())
    else {
        return Ok(both);
    };
    let Ok(session) = runtime.prepare_variant(&part, example) else {
        return Ok(both);
    };
    for run in looked_at {
        match session
            .run(&inputs.fetch(run)?)
            .ok()
            .and_then(|outputs| truth(outputs.first()?))
        {
            Some(found) => truths.insert(found),
            None => return Ok(both),
        };
    }
    Ok(truths)
}

fn truth(tensor: &crate::model::TensorRef) -> Option<bool> {
    tensor
        .to_i64()
        .or_else(|| {
            tensor
                .to_f64()
                .map(|numbers| numbers.into_iter().map(|number| number as i64).collect())
        })?
        .first()
        .map(|truth| *truth != 0)
}
