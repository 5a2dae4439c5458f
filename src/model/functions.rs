//! Calls of the model's own functions become the functions' nodes.

use std::collections::{BTreeMap, HashSet};

use super::{LoadError, Model, normal_domain};
use crate::proto::{AttributeProto, FunctionProto, GraphProto, ModelProto, NodeProto};

/// Makes names that are not taken yet, from a hint.
type Fresh<'a> = &'a mut dyn FnMut(&str) -> String;

/// The model with all calls of its own functions inlined; `None` where it has no functions, or such as can not be inlined.
/// Errors: the inlined graph is not valid (never expected).
pub fn inlined(model: &Model) -> Result<Option<Model>, LoadError> {
    if model.proto.functions.is_empty() {
        return Ok(None);
    }
    let mut taken: HashSet<String> = model.index().values().map(|(_, value)| value.name.clone()).collect();
    let mut fresh = |hint: &str| {
        let numbered = (2..).map(|number| format!("{hint}_{number}"));
        let name = std::iter::once(hint.to_owned()).chain(numbered).find(|name| !taken.contains(name)).unwrap_or_default();
        taken.insert(name.clone());
        name
    };
    let mut inlined = model.clone();
    if inline(&mut inlined.proto, &mut fresh).is_err() {
        return Ok(None);
    }
    inlined.reindex()?;
    Ok(Some(inlined))
}

/// Inlines all calls, nested ones too. Errors: a recursive function, or one written for other operator versions than the model.
pub fn inline(proto: &mut ModelProto, fresh: Fresh) -> Result<(), String> {
    const DEPTH: usize = 64;
    let functions = std::mem::take(&mut proto.functions);
    if functions.is_empty() {
        return Ok(());
    }
    for function in &functions {
        same_versions(proto, function)?;
    }
    let mut graph = proto.graph.take().unwrap_or_default();
    for _ in 0..DEPTH {
        if !in_all_graphs(&mut graph, &functions, fresh) {
            proto.graph = Some(graph);
            return Ok(());
        }
    }
    Err("a function of the model calls itself".into())
}

fn same_versions(model: &mut ModelProto, function: &FunctionProto) -> Result<(), String> {
    for import in &function.opset_import {
        let domain = normal_domain(import.domain());
        match model.opset_import.iter().find(|other| normal_domain(other.domain()) == domain) {
            Some(other) if other.version() != import.version() && domain.is_empty() => {
                return Err(format!(
                    "function '{}' is written for operator set {}, the model for another",
                    function.name(),
                    import.version()
                ));
            }
            Some(_) => {}
            None => model.opset_import.push(import.clone()),
        }
    }
    Ok(())
}

fn in_all_graphs(graph: &mut GraphProto, functions: &[FunctionProto], fresh: Fresh) -> bool {
    let mut changed = false;
    for subgraph in graph.node.iter_mut().flat_map(subgraphs_mut) {
        changed |= in_all_graphs(subgraph, functions, fresh);
    }
    in_graph(graph, functions, fresh) | changed
}

fn subgraphs_mut(node: &mut NodeProto) -> impl Iterator<Item = &mut GraphProto> {
    node.attribute.iter_mut().flat_map(|attribute| attribute.g.iter_mut().chain(&mut attribute.graphs))
}

fn in_graph(graph: &mut GraphProto, functions: &[FunctionProto], fresh: Fresh) -> bool {
    let calls = |node: &NodeProto| {
        let (domain, op) = (normal_domain(node.domain()), node.op_type());
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
            Some(function) => nodes.extend(body(&node, function, fresh)),
            None => nodes.push(node),
        }
    }
    graph.node = nodes;
    true
}

/// A function's nodes with the names and attributes of one call.
fn body(call: &NodeProto, function: &FunctionProto, fresh: Fresh) -> Vec<NodeProto> {
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
    let scope = match call.name() {
        "" => call.output.first().map_or("", String::as_str),
        name => name,
    };
    let mut nodes = function.node.clone();
    for node in &mut nodes {
        bind(node, &attributes);
        rename(node, &mut names, &mut |name| fresh(&format!("{scope}/{name}")));
        // One without a name goes by its output's, which no other has.
        if !node.name().is_empty() {
            node.name = Some(format!("{scope}/{}", node.name()));
        }
    }
    for (formal, actual) in aliases {
        let source = names.get(&formal).cloned().unwrap_or_default();
        nodes.push(NodeProto {
            op_type: Some("Identity".into()),
            name: Some(fresh("Identity")),
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
pub fn rename(node: &mut NodeProto, names: &mut BTreeMap<String, String>, fresh: &mut impl FnMut(&str) -> String) {
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
