//! Reading attributes off a bare node, and writing them.

use crate::model::{TensorRef, normal_domain};
use crate::proto::attribute_proto::AttributeType;
use crate::proto::{AttributeProto, GraphProto, NodeProto};

pub(in crate::run) fn attribute<'a>(node: &'a NodeProto, name: &str) -> Option<&'a AttributeProto> {
    node.attribute
        .iter()
        .find(|attribute| attribute.name() == name)
}

pub(in crate::run) fn int(node: &NodeProto, name: &str) -> Option<i64> {
    attribute(node, name).map(AttributeProto::i)
}

pub(super) fn int_or(node: &NodeProto, name: &str, default: i64) -> i64 {
    int(node, name).unwrap_or(default)
}

pub(super) fn float(node: &NodeProto, name: &str) -> Option<f32> {
    attribute(node, name).map(AttributeProto::f)
}

pub(super) fn floats<'a>(node: &'a NodeProto, name: &str) -> Option<&'a [f32]> {
    attribute(node, name).map(|attribute| attribute.floats.as_slice())
}

pub(super) fn ints<'a>(node: &'a NodeProto, name: &str) -> Option<&'a [i64]> {
    attribute(node, name).map(|attribute| attribute.ints.as_slice())
}

pub(in crate::run) fn text(node: &NodeProto, name: &str) -> Option<String> {
    attribute(node, name).map(|attribute| String::from_utf8_lossy(attribute.s()).into_owned())
}

pub(in crate::run) fn texts(node: &NodeProto, name: &str) -> Vec<String> {
    let strings = attribute(node, name).map_or(&[][..], |attribute| attribute.strings.as_slice());
    strings
        .iter()
        .map(|text| String::from_utf8_lossy(text).into_owned())
        .collect()
}

/// An input's name, if it is given.
pub(in crate::run) fn input(node: &NodeProto, at: usize) -> Option<&str> {
    node.input
        .get(at)
        .map(String::as_str)
        .filter(|name| !name.is_empty())
}

/// An output's name, if it is given.
pub(in crate::run) fn output(node: &NodeProto, at: usize) -> Option<&str> {
    node.output
        .get(at)
        .map(String::as_str)
        .filter(|name| !name.is_empty())
}

/// `(domain, operator)`, the domain in its normal spelling.
pub(in crate::run) fn kind(node: &NodeProto) -> (&str, &str) {
    (normal_domain(node.domain()), node.op_type())
}

/// How messages call a node.
pub(in crate::run) fn label(node: &NodeProto) -> String {
    let name = if node.name().is_empty() {
        node.output.first().map_or("unnamed", String::as_str)
    } else {
        node.name()
    };
    let domain = normal_domain(node.domain());
    if domain.is_empty() {
        format!("{} '{name}'", node.op_type())
    } else {
        format!("{domain}:{} '{name}'", node.op_type())
    }
}

pub(super) fn with_int(name: &str, value: i64) -> AttributeProto {
    AttributeProto {
        name: Some(name.into()),
        i: Some(value),
        r#type: Some(AttributeType::Int as i32),
        ..Default::default()
    }
}

pub(super) fn with_ints(name: &str, values: &[i64]) -> AttributeProto {
    AttributeProto {
        name: Some(name.into()),
        ints: values.to_vec(),
        r#type: Some(AttributeType::Ints as i32),
        ..Default::default()
    }
}

pub(super) fn with_float(name: &str, value: f32) -> AttributeProto {
    AttributeProto {
        name: Some(name.into()),
        f: Some(value),
        r#type: Some(AttributeType::Float as i32),
        ..Default::default()
    }
}

pub(super) fn with_tensor(name: &str, tensor: &TensorRef) -> AttributeProto {
    let t = Some(tensor.to_proto(""));
    AttributeProto {
        name: Some(name.into()),
        t,
        r#type: Some(AttributeType::Tensor as i32),
        ..Default::default()
    }
}

pub(super) fn with_graph(name: &str, graph: GraphProto) -> AttributeProto {
    AttributeProto {
        name: Some(name.into()),
        g: Some(graph),
        r#type: Some(AttributeType::Graph as i32),
        ..Default::default()
    }
}

/// The subgraphs of a node.
pub(in crate::run) fn subgraphs(node: &NodeProto) -> impl Iterator<Item = &GraphProto> {
    node.attribute
        .iter()
        .flat_map(|attribute| attribute.g.iter().chain(&attribute.graphs))
}

/// The subgraphs of a node, to be edited.
pub(super) fn subgraphs_mut(node: &mut NodeProto) -> impl Iterator<Item = &mut GraphProto> {
    node.attribute
        .iter_mut()
        .flat_map(|attribute| attribute.g.iter_mut().chain(&mut attribute.graphs))
}

/// Visits a graph and all inside it, the innermost first.
pub(super) fn each_graph<E>(
    graph: &mut GraphProto,
    visit: &mut impl FnMut(&mut GraphProto) -> Result<(), E>,
) -> Result<(), E> {
    for node in &mut graph.node {
        for subgraph in subgraphs_mut(node) {
            each_graph(subgraph, visit)?;
        }
    }
    visit(graph)
}

/// Visits all nodes of a graph and of those inside it.
pub(in crate::run) fn each_node<E>(
    graph: &GraphProto,
    visit: &mut impl FnMut(&NodeProto) -> Result<(), E>,
) -> Result<(), E> {
    graph.node.iter().try_for_each(|node| {
        visit(node)?;
        subgraphs(node).try_for_each(|subgraph| each_node(subgraph, visit))
    })
}
