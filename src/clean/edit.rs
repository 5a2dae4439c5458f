//! Small edits that every pass makes: renaming, removing, adding.

use std::collections::{BTreeSet, HashMap, HashSet};

use crate::model::{GraphId, Index, LoadError, Model, NodeId, Origin, ValueId};
use crate::proto::{GraphProto, TensorProto, ValueInfoProto};

/// The first IR version in which initializers need not be inputs as well, and those that are can be overridden.
const FREE_INITIALIZERS: i64 = 4;

/// Whether initializers that are listed as graph inputs are defaults that a caller may override.
pub(super) fn inputs_override(model: &Model) -> bool {
    model.proto.ir_version() >= FREE_INITIALIZERS
}

/// Names that are defined in more than one graph: edits by name leave them alone.
pub(super) fn ambiguous(model: &Model) -> HashSet<String> {
    let mut seen = HashSet::new();
    model
        .index()
        .values()
        .filter(|(_, entry)| !seen.insert(entry.name.as_str()))
        .map(|(_, entry)| entry.name.clone())
        .collect()
}

/// Whether a value is a constant that callers cannot override.
pub fn is_constant(model: &Model, value: ValueId) -> bool {
    let entry = model.index().value(value);
    match entry.origin {
        Origin::Initializer(_) => !(inputs_override(model) && entry.is_listed),
        Origin::Output(..) => model.tensor_proto(value).is_some(),
        _ => false,
    }
}

/// Names in quantization annotations: the annotated tensors and their parameters.
pub(super) fn annotated(model: &Model) -> HashSet<String> {
    let mut names = HashSet::new();
    for (id, _) in model.index().graphs() {
        for annotation in &model.graph(id).quantization_annotation {
            names.insert(annotation.tensor_name().to_owned());
            names.extend(
                annotation
                    .quant_parameter_tensor_names
                    .iter()
                    .map(|entry| entry.value().to_owned()),
            );
        }
    }
    names
}

/// Lets every reader of the first name read the second, in all graphs.
pub(super) fn rename_reads(model: &mut Model, renamed: &HashMap<String, String>) {
    if let Some(graph) = &mut model.proto.graph {
        rename_in(graph, renamed);
    }
}

fn rename_in(graph: &mut GraphProto, renamed: &HashMap<String, String>) {
    let rename = |name: &mut String| {
        if let Some(new) = renamed.get(name.as_str()) {
            *name = new.clone();
        }
    };
    for node in &mut graph.node {
        node.input.iter_mut().for_each(rename);
        for attribute in &mut node.attribute {
            attribute
                .g
                .iter_mut()
                .chain(&mut attribute.graphs)
                .for_each(|graph| rename_in(graph, renamed));
        }
    }
    for annotation in &mut graph.quantization_annotation {
        annotation
            .quant_parameter_tensor_names
            .iter_mut()
            .filter_map(|entry| entry.value.as_mut())
            .for_each(rename);
    }
}

/// Removes nodes, with what the file notes about their outputs, and indexes again.
pub(super) fn remove_nodes(model: &mut Model, removed: &BTreeSet<NodeId>) -> Result<(), LoadError> {
    if removed.is_empty() {
        return Ok(());
    }
    let graphs: Vec<GraphId> = model.index().graphs().map(|(id, _)| id).collect();
    // Inner graphs first: the way to them counts the nodes of outer ones.
    for id in graphs.into_iter().rev() {
        let gone: HashSet<usize> = removed
            .iter()
            .map(|node| model.index().node(*node))
            .filter(|entry| entry.graph == id)
            .map(|entry| entry.position as usize)
            .collect();
        if gone.is_empty() {
            continue;
        }
        let graph = model.graph_mut(id);
        let outputs: HashSet<String> = gone
            .iter()
            .filter_map(|at| graph.node.get(*at))
            .flat_map(|node| node.output.clone())
            .collect();
        let mut at = 0;
        graph.node.retain(|_| {
            at += 1;
            !gone.contains(&(at - 1))
        });
        let still: HashSet<String> = graph
            .node
            .iter()
            .flat_map(|node| node.output.clone())
            .collect();
        forget(graph, &|name| {
            outputs.contains(name) && !still.contains(name)
        });
    }
    model.reindex()
}

/// Removes what the file notes about values that are gone.
pub(super) fn forget(graph: &mut GraphProto, gone: &dyn Fn(&str) -> bool) {
    graph.value_info.retain(|info| !gone(info.name()));
    graph
        .quantization_annotation
        .retain(|annotation| !gone(annotation.tensor_name()));
}

/// Adds an initializer; old files list it as an input as well.
pub(super) fn add_initializer(model: &mut Model, id: GraphId, tensor: TensorProto) {
    let listed = !inputs_override(model) && id == Index::MAIN;
    let graph = model.graph_mut(id);
    if listed {
        graph.input.push(ValueInfoProto::tensor(
            tensor.name(),
            tensor.data_type(),
            Some(&tensor.dims),
        ));
    }
    graph.initializer.push(tensor);
}
