//! Nodes that other rooms put into a graph. Every node has the name of its output.

use crate::model::TensorRef;
use crate::model::edit::NodeExt;
use crate::proto::{AttributeProto, NodeProto};

fn along(axis: i64, mut node: NodeProto) -> NodeProto {
    node.set(AttributeProto::int("axis", axis));
    node
}

/// Entries of a table along an axis, by their indices.
pub fn gather(table: &str, indices: &str, axis: i64, output: &str) -> NodeProto {
    along(
        axis,
        NodeProto::standard("Gather", &[table, indices], output),
    )
}

/// Tensors one after the other along an axis.
pub fn concat(parts: &[String], axis: i64, output: &str) -> NodeProto {
    let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
    along(axis, NodeProto::standard("Concat", &parts, output))
}

/// A product, entry by entry.
pub fn mul(a: &str, b: &str, output: &str) -> NodeProto {
    NodeProto::standard("Mul", &[a, b], output)
}

/// A quotient, entry by entry.
pub fn div(a: &str, b: &str, output: &str) -> NodeProto {
    NodeProto::standard("Div", &[a, b], output)
}

/// Entries of `a` where a truth value says so, of `b` elsewhere.
pub fn choose(truth: &str, a: &str, b: &str, output: &str) -> NodeProto {
    NodeProto::standard("Where", &[truth, a, b], output)
}

/// Another name for a value.
pub fn alias(value: &str, output: &str) -> NodeProto {
    NodeProto::standard("Identity", &[value], output)
}

/// Makes a node one that gives a constant instead; its outputs stay.
pub fn make_constant(node: &mut NodeProto, tensor: &TensorRef) {
    node.op_type = Some("Constant".into());
    node.domain = None;
    node.input.clear();
    node.attribute = vec![AttributeProto::tensor("value", tensor)];
}
