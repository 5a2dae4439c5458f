//! Names and attributes of a node that is moved into another graph.

use std::collections::BTreeMap;

use super::edit::NodeExt;
use crate::proto::{AttributeProto, NodeProto};

/// Replaces references to the function's attributes by their values; those without a value are left out.
pub fn bind(node: &mut NodeProto, attributes: &BTreeMap<&str, &AttributeProto>) {
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
    for graph in node.subgraphs_mut() {
        graph
            .node
            .iter_mut()
            .for_each(|node| bind(node, attributes));
    }
}

/// Gives every name of a node and its subgraphs its place in the graph around it; `fresh` makes names for those that are new.
pub fn rename(
    node: &mut NodeProto,
    names: &mut BTreeMap<String, String>,
    fresh: &mut impl FnMut(&str) -> String,
) {
    for input in node.input.iter_mut() {
        if let Some(new) = names.get(input) {
            *input = new.clone();
        }
    }
    for graph in node.subgraphs_mut() {
        let mut inner = names.clone();
        let defined = graph
            .initializer
            .iter()
            .map(|tensor| tensor.name())
            .chain(graph.input.iter().map(|input| input.name()));
        for name in defined.map(str::to_owned).collect::<Vec<_>>() {
            let new = fresh(&name);
            inner.insert(name, new);
        }
        let renamed = |name: &mut Option<String>, inner: &BTreeMap<String, String>| {
            if let Some(new) = name.as_ref().and_then(|name| inner.get(name)) {
                *name = Some(new.clone());
            }
        };
        graph
            .initializer
            .iter_mut()
            .for_each(|tensor| renamed(&mut tensor.name, &inner));
        graph
            .input
            .iter_mut()
            .for_each(|input| renamed(&mut input.name, &inner));
        graph
            .node
            .iter_mut()
            .for_each(|node| rename(node, &mut inner, fresh));
        graph
            .output
            .iter_mut()
            .for_each(|output| renamed(&mut output.name, &inner));
    }
    for output in node.output.iter_mut().filter(|output| !output.is_empty()) {
        let new = names.entry(output.clone()).or_insert_with(|| fresh(output));
        *output = new.clone();
    }
}
