//! Nodes that other rooms put into a graph.

use crate::model::TensorRef;
use crate::proto::{AttributeProto, NodeProto, attribute_proto::AttributeType};

fn node(op_type: &str, input: Vec<String>, output: &str) -> NodeProto {
    NodeProto {
        op_type: Some(op_type.into()),
        name: Some(output.into()),
        input,
        output: vec![output.into()],
        ..Default::default()
    }
}

fn along(axis: i64, mut node: NodeProto) -> NodeProto {
    node.attribute.push(AttributeProto {
        name: Some("axis".into()),
        r#type: Some(AttributeType::Int as i32),
        i: Some(axis),
        ..Default::default()
    });
    node
}

/// Entries of a table along an axis, by their indices. Every node has the name of its output.
pub fn gather(table: String, indices: String, axis: i64, output: &str) -> NodeProto {
    along(axis, node("Gather", vec![table, indices], output))
}

/// Tensors one after the other along an axis.
pub fn concat(parts: Vec<String>, axis: i64, output: &str) -> NodeProto {
    along(axis, node("Concat", parts, output))
}

/// A product, entry by entry.
pub fn mul(a: String, b: String, output: &str) -> NodeProto {
    node("Mul", vec![a, b], output)
}

/// A quotient, entry by entry.
pub fn div(a: String, b: String, output: &str) -> NodeProto {
    node("Div", vec![a, b], output)
}

/// Entries of `a` where a truth value says so, of `b` elsewhere.
pub fn choose(truth: String, a: String, b: String, output: &str) -> NodeProto {
    node("Where", vec![truth, a, b], output)
}

/// Makes a node one that gives a constant instead; its outputs stay.
pub fn make_constant(node: &mut NodeProto, tensor: &TensorRef) {
    node.op_type = Some("Constant".into());
    node.domain = None;
    node.input.clear();
    node.attribute = vec![AttributeProto {
        name: Some("value".into()),
        r#type: Some(AttributeType::Tensor as i32),
        t: Some(tensor.to_proto("")),
        ..Default::default()
    }];
}
