//! The part of a model that some of its values depend on.

use std::collections::{BTreeMap, HashSet};

use super::{LoadError, Model, TensorRef};
use crate::proto::{
    GraphProto, TensorShapeProto, TypeProto, ValueInfoProto, tensor_shape_proto, type_proto,
};

/// The model that computes these values of the main graph, and nothing that they do not need. Values of which `starts`
/// gives an example become inputs. Weights are shared with the original. Errors: never, for a model that was valid.
pub fn prefix(
    model: &Model,
    outputs: &[String],
    starts: &BTreeMap<String, TensorRef>,
) -> Result<Model, LoadError> {
    let mut part = model.clone();
    let Some(graph) = &mut part.proto.graph else {
        return Ok(part);
    };
    let mut needed: HashSet<String> = outputs.iter().cloned().collect();
    let mut kept = Vec::new();
    for node in std::mem::take(&mut graph.node).into_iter().rev() {
        if node
            .output
            .iter()
            .any(|output| needed.contains(output) && !starts.contains_key(output))
        {
            needed.extend(node.input.iter().cloned());
            node.attribute
                .iter()
                .flat_map(|attribute| attribute.g.iter().chain(&attribute.graphs))
                .for_each(|inner| reads(inner, &mut needed));
            kept.push(node);
        }
    }
    kept.reverse();
    graph.node = kept;
    graph
        .initializer
        .retain(|tensor| needed.contains(tensor.name()));
    graph.sparse_initializer.retain(|tensor| {
        tensor
            .values
            .as_ref()
            .is_some_and(|values| needed.contains(values.name()))
    });
    let declared = |name: &String| {
        graph
            .output
            .iter()
            .chain(&graph.value_info)
            .find(|info| info.name() == name)
            .cloned()
    };
    let bare = |name: &String| ValueInfoProto {
        name: Some(name.clone()),
        ..Default::default()
    };
    graph.output = outputs
        .iter()
        .map(|name| declared(name).unwrap_or_else(|| bare(name)))
        .collect();
    graph.value_info.clear();
    graph.input.retain(|input| needed.contains(input.name()));
    graph.input.extend(
        starts
            .iter()
            .filter(|(name, _)| needed.contains(*name))
            .map(|(name, tensor)| input(name, tensor)),
    );
    part.reindex()?;
    Ok(part)
}

/// The declaration of an input that takes tensors like this one.
pub(crate) fn input(name: &str, tensor: &TensorRef) -> ValueInfoProto {
    let dim = |dim: &usize| tensor_shape_proto::Dimension {
        value: Some(tensor_shape_proto::dimension::Value::DimValue(*dim as i64)),
        ..Default::default()
    };
    let shape = TensorShapeProto {
        dim: tensor.dims.iter().map(dim).collect(),
    };
    let tensor = type_proto::Tensor {
        elem_type: Some(tensor.dtype as i32),
        shape: Some(shape),
    };
    let r#type = TypeProto {
        value: Some(type_proto::Value::TensorType(tensor)),
        ..Default::default()
    };
    ValueInfoProto {
        name: Some(name.to_owned()),
        r#type: Some(r#type),
        ..Default::default()
    }
}

/// All names that a subgraph reads, its own among them.
fn reads(graph: &GraphProto, into: &mut HashSet<String>) {
    into.extend(graph.output.iter().map(|output| output.name().to_owned()));
    for node in &graph.node {
        into.extend(node.input.iter().cloned());
        node.attribute
            .iter()
            .flat_map(|attribute| attribute.g.iter().chain(&attribute.graphs))
            .for_each(|inner| reads(inner, into));
    }
}
