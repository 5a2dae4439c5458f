//! Editing of graphs, once for all rooms: reading and making attributes, declaring values, finding and removing what is dead.
//!
//! Names that nothing has are made by [`super::Names`].

use std::collections::HashSet;

use super::{TensorRef, normal_domain};
use crate::proto::attribute_proto::AttributeType;
use crate::proto::tensor_shape_proto::{Dimension, dimension};
use crate::proto::{
    AttributeProto, Dtype, GraphProto, NodeProto, TensorShapeProto, TypeProto, ValueInfoProto,
    type_proto,
};

/// Reading of a bare node. An attribute that is absent reads as `None`, one of another type as that type's default.
pub trait NodeExt {
    /// Whether the node is this operator of `ai.onnx`.
    fn is(&self, op_type: &str) -> bool;
    /// Domain, in its normal spelling, and operator.
    fn key(&self) -> (&str, &str);
    /// Name for messages: operator and node.
    fn label(&self) -> String;
    /// Name of an input, if it is given.
    fn input(&self, slot: usize) -> Option<&str>;
    /// Name of an output, if it is given.
    fn output(&self, slot: usize) -> Option<&str>;
    /// An attribute of any type.
    fn attribute(&self, name: &str) -> Option<&AttributeProto>;
    /// A whole-number attribute.
    fn int(&self, name: &str) -> Option<i64> {
        self.attribute(name).map(AttributeProto::i)
    }
    /// A whole-number attribute, or its default.
    fn int_or(&self, name: &str, default: i64) -> i64 {
        self.int(name).unwrap_or(default)
    }
    /// A real-number attribute.
    fn float(&self, name: &str) -> Option<f32> {
        self.attribute(name).map(AttributeProto::f)
    }
    /// A list of whole numbers.
    fn ints(&self, name: &str) -> Option<&[i64]> {
        self.attribute(name)
            .map(|attribute| attribute.ints.as_slice())
    }
    /// A list of real numbers.
    fn floats(&self, name: &str) -> Option<&[f32]> {
        self.attribute(name)
            .map(|attribute| attribute.floats.as_slice())
    }
    /// A text; `None` where it is not UTF-8.
    fn string(&self, name: &str) -> Option<&str> {
        std::str::from_utf8(self.attribute(name)?.s()).ok()
    }
    /// A list of texts; empty where it is absent.
    fn strings(&self, name: &str) -> Vec<String> {
        let list = self.attribute(name).map(|attribute| &attribute.strings);
        list.into_iter()
            .flatten()
            .map(|text| String::from_utf8_lossy(text).into_owned())
            .collect()
    }
    /// Subgraphs of the node.
    fn subgraphs(&self) -> impl Iterator<Item = &GraphProto>;
    /// Subgraphs of the node, to be edited.
    fn subgraphs_mut(&mut self) -> impl Iterator<Item = &mut GraphProto>;
    /// Sets an attribute, in place of one of the same name.
    fn set(&mut self, attribute: AttributeProto);
}

fn given(names: &[String], slot: usize) -> Option<&str> {
    names
        .get(slot)
        .map(String::as_str)
        .filter(|name| !name.is_empty())
}

impl NodeExt for NodeProto {
    fn is(&self, op_type: &str) -> bool {
        self.key() == ("", op_type)
    }

    fn key(&self) -> (&str, &str) {
        (normal_domain(self.domain()), self.op_type())
    }

    fn label(&self) -> String {
        let name = if self.name().is_empty() {
            self.output.first().map_or("unnamed", String::as_str)
        } else {
            self.name()
        };
        match self.key() {
            ("", op) => format!("{op} '{name}'"),
            (domain, op) => format!("{domain}:{op} '{name}'"),
        }
    }

    fn input(&self, slot: usize) -> Option<&str> {
        given(&self.input, slot)
    }

    fn output(&self, slot: usize) -> Option<&str> {
        given(&self.output, slot)
    }

    fn attribute(&self, name: &str) -> Option<&AttributeProto> {
        self.attribute
            .iter()
            .find(|attribute| attribute.name() == name)
    }

    fn subgraphs(&self) -> impl Iterator<Item = &GraphProto> {
        self.attribute
            .iter()
            .flat_map(|attribute| attribute.g.iter().chain(&attribute.graphs))
    }

    fn subgraphs_mut(&mut self) -> impl Iterator<Item = &mut GraphProto> {
        self.attribute
            .iter_mut()
            .flat_map(|attribute| attribute.g.iter_mut().chain(&mut attribute.graphs))
    }

    fn set(&mut self, attribute: AttributeProto) {
        self.attribute
            .retain(|other| other.name() != attribute.name());
        self.attribute.push(attribute);
    }
}

impl AttributeProto {
    fn typed(name: &str, kind: AttributeType) -> Self {
        AttributeProto {
            name: Some(name.into()),
            r#type: Some(kind as i32),
            ..Default::default()
        }
    }

    /// A whole number.
    pub fn int(name: &str, value: i64) -> Self {
        AttributeProto {
            i: Some(value),
            ..Self::typed(name, AttributeType::Int)
        }
    }

    /// Whole numbers.
    pub fn ints(name: &str, values: &[i64]) -> Self {
        AttributeProto {
            ints: values.to_vec(),
            ..Self::typed(name, AttributeType::Ints)
        }
    }

    /// A real number.
    pub fn float(name: &str, value: f32) -> Self {
        AttributeProto {
            f: Some(value),
            ..Self::typed(name, AttributeType::Float)
        }
    }

    /// Real numbers.
    pub fn floats(name: &str, values: &[f32]) -> Self {
        AttributeProto {
            floats: values.to_vec(),
            ..Self::typed(name, AttributeType::Floats)
        }
    }

    /// A text.
    pub fn string(name: &str, value: &str) -> Self {
        AttributeProto {
            s: Some(value.as_bytes().to_vec().into()),
            ..Self::typed(name, AttributeType::String)
        }
    }

    /// A tensor without a name.
    pub fn tensor(name: &str, value: &TensorRef) -> Self {
        AttributeProto {
            t: Some(value.to_proto("")),
            ..Self::typed(name, AttributeType::Tensor)
        }
    }

    /// A subgraph.
    pub fn graph(name: &str, graph: GraphProto) -> Self {
        AttributeProto {
            g: Some(graph),
            ..Self::typed(name, AttributeType::Graph)
        }
    }
}

impl NodeProto {
    /// A node of `ai.onnx` with one output, whose name is also the node's.
    pub fn standard(op_type: &str, inputs: &[&str], output: &str) -> Self {
        NodeProto {
            op_type: Some(op_type.into()),
            name: Some(output.into()),
            input: inputs.iter().map(|name| (*name).to_owned()).collect(),
            output: vec![output.into()],
            ..Default::default()
        }
    }
}

impl ValueInfoProto {
    /// A value of which only the name is declared.
    pub fn named(name: &str) -> Self {
        ValueInfoProto {
            name: Some(name.into()),
            ..Default::default()
        }
    }

    /// A tensor of a type and, where they are declared, of these extents.
    pub fn tensor(name: &str, elem_type: i32, dims: Option<&[i64]>) -> Self {
        let dim = |dim: &i64| Dimension {
            value: Some(dimension::Value::DimValue(*dim)),
            ..Default::default()
        };
        let tensor = type_proto::Tensor {
            elem_type: Some(elem_type),
            shape: dims.map(|dims| TensorShapeProto {
                dim: dims.iter().map(dim).collect(),
            }),
        };
        ValueInfoProto {
            r#type: Some(TypeProto {
                value: Some(type_proto::Value::TensorType(tensor)),
                ..Default::default()
            }),
            ..Self::named(name)
        }
    }

    /// A tensor of the type and the extents of this one.
    pub fn like(name: &str, tensor: &TensorRef) -> Self {
        let dims: Vec<i64> = tensor.dims.iter().map(|dim| *dim as i64).collect();
        Self::tensor(name, tensor.dtype.code(), Some(&dims))
    }

    /// A tensor of floats whose extents are not declared.
    pub fn floats(name: &str) -> Self {
        Self::tensor(name, Dtype::Float.code(), None)
    }
}

/// Collects all names that a graph and its subgraphs read, their own among them.
pub fn reads(graph: &GraphProto, into: &mut HashSet<String>) {
    into.extend(graph.output.iter().map(|output| output.name().to_owned()));
    for node in &graph.node {
        into.extend(node.input.iter().cloned());
        node.subgraphs().for_each(|inner| reads(inner, into));
    }
}

/// Removes the nodes and constants of a graph, whose nodes stand behind what they read, that no root needs; what `given`
/// names is not computed. Returns all names that are needed.
pub fn retain_live(
    graph: &mut GraphProto,
    roots: impl IntoIterator<Item = String>,
    given: &dyn Fn(&str) -> bool,
) -> HashSet<String> {
    let mut needed: HashSet<String> = roots.into_iter().collect();
    let mut kept = Vec::with_capacity(graph.node.len());
    for node in std::mem::take(&mut graph.node).into_iter().rev() {
        let live = |name: &String| !name.is_empty() && needed.contains(name) && !given(name);
        if node.output.iter().any(live) {
            needed.extend(node.input.iter().cloned());
            node.subgraphs().for_each(|inner| reads(inner, &mut needed));
            kept.push(node);
        }
    }
    kept.reverse();
    graph.node = kept;
    graph
        .initializer
        .retain(|tensor| needed.contains(tensor.name()));
    graph.sparse_initializer.retain(|tensor| {
        let name = tensor.values.as_ref().map(|values| values.name());
        name.is_some_and(|name| needed.contains(name))
    });
    needed
}

/// Visits a graph and all inside it, the innermost first.
pub fn each_graph<E>(
    graph: &mut GraphProto,
    visit: &mut impl FnMut(&mut GraphProto) -> Result<(), E>,
) -> Result<(), E> {
    for subgraph in graph.node.iter_mut().flat_map(NodeExt::subgraphs_mut) {
        each_graph(subgraph, visit)?;
    }
    visit(graph)
}

/// Visits all nodes of a graph and of those inside it.
pub fn each_node<E>(
    graph: &GraphProto,
    visit: &mut impl FnMut(&NodeProto) -> Result<(), E>,
) -> Result<(), E> {
    graph.node.iter().try_for_each(|node| {
        visit(node)?;
        node.subgraphs()
            .try_for_each(|subgraph| each_node(subgraph, visit))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::text;

    #[test]
    fn what_no_root_needs_goes_and_what_is_given_is_not_computed() {
        let text = "input x f32[2]\nconst c f32[2]\nconst d f32[2]\na = Add(x, c)\nb = Relu(a)\ne = Add(b, d)\noutput e\n";
        let mut graph = text::message(text).unwrap().graph.unwrap();
        let needed = retain_live(&mut graph, ["b".to_owned()], &|_| false);
        let names: Vec<&str> = graph.node.iter().map(NodeProto::name).collect();
        assert_eq!(names, ["a", "b"]);
        assert_eq!(graph.initializer.len(), 1);
        assert!(needed.contains("x"));
        retain_live(&mut graph, ["b".to_owned()], &|name| name == "a");
        assert_eq!(graph.node.len(), 1);
        assert!(graph.initializer.is_empty());
    }

    #[test]
    fn attributes_read_as_they_were_made() {
        let mut node = NodeProto::standard("Odd", &["x", ""], "y");
        node.set(AttributeProto::int("a", 1));
        node.set(AttributeProto::int("a", 2));
        node.set(AttributeProto::ints("b", &[3, 4]));
        node.set(AttributeProto::string("mode", "edge"));
        assert_eq!((node.int("a"), node.attribute.len()), (Some(2), 3));
        assert_eq!(node.ints("b"), Some(&[3, 4][..]));
        assert_eq!(node.string("mode"), Some("edge"));
        assert_eq!((node.input(0), node.input(1)), (Some("x"), None));
        assert!(node.is("Odd") && !node.is("Even"));
    }
}
