//! Calls of the model's own functions become the functions' nodes.

use std::collections::BTreeMap;

use super::draft::Draft;
use super::node::{each_graph, kind, label, subgraphs_mut};
use crate::model::normal_domain;
use crate::proto::{AttributeProto, FunctionProto, GraphProto, ModelProto, NodeProto};
use crate::run::Unverifiable;

/// Inlines all calls, nested ones too. Errors: a recursive function, or one written for other operator versions than the model.
pub(super) fn inline(draft: &mut Draft) -> Result<(), Unverifiable> {
    const DEPTH: usize = 64;
    let functions = std::mem::take(&mut draft.proto.functions);
    if functions.is_empty() {
        return Ok(());
    }
    for function in &functions {
        same_versions(&draft.proto, function)?;
    }
    let mut graph = draft.proto.graph.take().unwrap_or_default();
    for _ in 0..DEPTH {
        let mut changed = false;
        each_graph(&mut graph, &mut |graph| {
            changed |= in_graph(graph, &functions, draft);
            Ok::<(), Unverifiable>(())
        })?;
        if !changed {
            draft.proto.graph = Some(graph);
            return Ok(());
        }
    }
    Err(Unverifiable::new("a function of the model calls itself"))
}

fn same_versions(model: &ModelProto, function: &FunctionProto) -> Result<(), Unverifiable> {
    for import in &function.opset_import {
        let domain = normal_domain(import.domain());
        let other = model.opset_import.iter().find(|other| normal_domain(other.domain()) == domain);
        if other.is_some_and(|other| other.version() != import.version()) && domain.is_empty() {
            return Err(Unverifiable::new(format!(
                "function '{}' is written for operator set {}, the model for another",
                function.name(),
                import.version()
            )));
        }
    }
    Ok(())
}

fn in_graph(graph: &mut GraphProto, functions: &[FunctionProto], draft: &mut Draft) -> bool {
    let calls = |node: &NodeProto| {
        let (domain, op) = kind(node);
        let same = |function: &&FunctionProto| {
            function.name() == op && normal_domain(function.domain()) == domain && function.overload() == node.overload()
        };
        functions.iter().find(same)
    };
    if !graph.node.iter().any(|node| calls(node).is_some()) {
        return false;
    }
    let mut nodes = Vec::with_capacity(graph.node.len());
    for node in std::mem::take(&mut graph.node) {
        match calls(&node) {
            Some(function) => nodes.extend(body(&node, function, draft)),
            None => nodes.push(node),
        }
    }
    graph.node = nodes;
    true
}

/// A function's nodes with the names and attributes of one call.
fn body(call: &NodeProto, function: &FunctionProto, draft: &mut Draft) -> Vec<NodeProto> {
    let mut names = BTreeMap::new();
    for (at, formal) in function.input.iter().enumerate() {
        names.insert(formal.clone(), call.input.get(at).cloned().unwrap_or_default());
    }
    let mut aliases = Vec::new();
    for (at, formal) in function.output.iter().enumerate() {
        let Some(actual) = call.output.get(at).filter(|name| !name.is_empty()) else { continue };
        // An output that is an input handed through, or that is given twice, needs a node of its own.
        if names.contains_key(formal) {
            aliases.push((formal.clone(), actual.clone()));
        } else {
            names.insert(formal.clone(), actual.clone());
        }
    }
    let mut attributes: BTreeMap<&str, &AttributeProto> =
        function.attribute_proto.iter().map(|attribute| (attribute.name(), attribute)).collect();
    attributes.extend(call.attribute.iter().map(|attribute| (attribute.name(), attribute)));
    let scope = label(call);
    let mut nodes = function.node.clone();
    for node in &mut nodes {
        bind(node, &attributes);
        rename(node, &mut names, &mut |name| draft.names.fresh(&format!("{scope}/{name}")));
    }
    for (formal, actual) in aliases {
        let source = names.get(&formal).cloned().unwrap_or_default();
        nodes.push(NodeProto {
            op_type: Some("Identity".into()),
            name: Some(draft.names.fresh("Identity")),
            input: vec![source],
            output: vec![actual],
            ..Default::default()
        });
    }
    nodes
}

/// Replaces references to the function's attributes by their values; those without a value are left out.
fn bind(node: &mut NodeProto, attributes: &BTreeMap<&str, &AttributeProto>) {
    let own = std::mem::take(&mut node.attribute);
    node.attribute = own
        .into_iter()
        .filter_map(|attribute| match attribute.ref_attr_name.as_deref() {
            None | Some("") => Some(attribute),
            Some(reference) => {
                let mut value = (*attributes.get(reference)?).clone();
                value.name = attribute.name;
                Some(value)
            }
        })
        .collect();
    for graph in subgraphs_mut(node) {
        graph.node.iter_mut().for_each(|node| bind(node, attributes));
    }
}

/// Gives every name of a node and its subgraphs its place in the graph around it; `fresh` makes names for those that are new.
pub(super) fn rename(node: &mut NodeProto, names: &mut BTreeMap<String, String>, fresh: &mut impl FnMut(&str) -> String) {
    for input in node.input.iter_mut() {
        if let Some(new) = names.get(input) {
            *input = new.clone();
        }
    }
    for graph in subgraphs_mut(node) {
        let mut inner = names.clone();
        let defined = graph.initializer.iter().map(|tensor| tensor.name()).chain(graph.input.iter().map(|input| input.name()));
        for name in defined.map(str::to_owned).collect::<Vec<_>>() {
            let new = fresh(&name);
            inner.insert(name, new);
        }
        let renamed = |name: &mut Option<String>, inner: &BTreeMap<String, String>| {
            if let Some(new) = name.as_ref().and_then(|name| inner.get(name)) {
                *name = Some(new.clone());
            }
        };
        graph.initializer.iter_mut().for_each(|tensor| renamed(&mut tensor.name, &inner));
        graph.input.iter_mut().for_each(|input| renamed(&mut input.name, &inner));
        graph.node.iter_mut().for_each(|node| rename(node, &mut inner, fresh));
        graph.output.iter_mut().for_each(|output| renamed(&mut output.name, &inner));
    }
    for output in node.output.iter_mut().filter(|output| !output.is_empty()) {
        let new = names.entry(output.clone()).or_insert_with(|| fresh(output));
        *output = new.clone();
    }
}
