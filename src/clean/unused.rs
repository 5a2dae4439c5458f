//! What no output of the model depends on.

use std::collections::{BTreeSet, HashSet};

use super::edit;
use crate::model::{GraphId, Index, LoadError, Model, NodeId, Origin, ValueId};

/// Removes dead nodes and unused initializers of all graphs; returns how many initializers went.
/// A model with training information is left alone, for that refers to initializers by name.
pub(super) fn remove(model: &mut Model) -> Result<usize, LoadError> {
    if !model.proto.training_info.is_empty() {
        return Ok(0);
    }
    let live = LiveValues::of(model);
    let removed = remove_initializers(model, &live);
    let dead: BTreeSet<NodeId> = model
        .index()
        .nodes()
        .map(|(id, _)| id)
        .filter(|id| !live.nodes[id.index()])
        .collect();
    edit::remove_nodes(model, &dead)?;
    if removed > 0 {
        model.reindex()?;
    }
    Ok(removed)
}

struct LiveValues {
    values: Vec<bool>,
    nodes: Vec<bool>,
}

impl LiveValues {
    fn of(model: &Model) -> Self {
        let index = model.index();
        let mut live = LiveValues {
            values: vec![false; index.values().len()],
            nodes: vec![false; index.nodes().len()],
        };
        live.reach(model, index.graph(Index::MAIN).outputs.clone());
        // Scales and zero points are read through annotations alone.
        let by_name: std::collections::HashMap<(GraphId, &str), ValueId> = index
            .values()
            .map(|(id, entry)| ((entry.graph, entry.name.as_str()), id))
            .collect();
        for (id, _) in index.graphs() {
            for annotation in &model.graph(id).quantization_annotation {
                let value = |name: &str| {
                    by_name
                        .get(&(id, name))
                        .or_else(|| by_name.get(&(Index::MAIN, name)))
                        .copied()
                };
                if value(annotation.tensor_name()).is_some_and(|value| live.values[value.index()]) {
                    let parameters = annotation
                        .quant_parameter_tensor_names
                        .iter()
                        .filter_map(|entry| value(entry.value()));
                    live.reach(model, parameters.collect());
                }
            }
        }
        live
    }

    /// Marks values and all that they are computed from, captures of subgraphs included.
    fn reach(&mut self, model: &Model, mut waiting: Vec<ValueId>) {
        let index = model.index();
        while let Some(value) = waiting.pop() {
            if std::mem::replace(&mut self.values[value.index()], true) {
                continue;
            }
            let Origin::Output(node, _) = index.value(value).origin else {
                continue;
            };
            if std::mem::replace(&mut self.nodes[node.index()], true) {
                continue;
            }
            let entry = index.node(node);
            waiting.extend(entry.inputs.iter().flatten());
            waiting.extend(
                entry
                    .subgraphs
                    .iter()
                    .flat_map(|graph| index.graph(*graph).outputs.iter()),
            );
        }
    }
}

fn remove_initializers(model: &mut Model, live: &LiveValues) -> usize {
    let mut removed = 0;
    let keeps_inputs = edit::inputs_override(model);
    let graphs: Vec<GraphId> = model.index().graphs().map(|(id, _)| id).collect();
    for id in graphs {
        let listed: HashSet<&str> = model
            .graph(id)
            .input
            .iter()
            .map(|input| input.name())
            .collect();
        let dead = |origin: fn(&Origin) -> bool| -> HashSet<String> {
            let values = model.index().values().filter(|(value, entry)| {
                entry.graph == id && origin(&entry.origin) && !live.values[value.index()]
                    // An input with a default is part of the model's interface.
                    && !(keeps_inputs && listed.contains(entry.name.as_str()))
            });
            values.map(|(_, entry)| entry.name.clone()).collect()
        };
        let dense = dead(|origin| matches!(origin, Origin::Initializer(_)));
        let sparse = dead(|origin| matches!(origin, Origin::Sparse(_)));
        if dense.is_empty() && sparse.is_empty() {
            continue;
        }
        removed += dense.len() + sparse.len();
        let graph = model.graph_mut(id);
        graph
            .initializer
            .retain(|tensor| !dense.contains(tensor.name()));
        graph.sparse_initializer.retain(|tensor| {
            tensor
                .values
                .as_ref()
                .is_none_or(|values| !sparse.contains(values.name()))
        });
        // Only old files reach this with inputs: there every initializer is listed as one.
        graph.input.retain(|input| !dense.contains(input.name()));
        edit::forget(graph, &|name| dense.contains(name) || sparse.contains(name));
    }
    removed
}
