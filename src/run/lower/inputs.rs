//! The example's shapes instead of names of axes, and constants in one place.

use std::collections::{BTreeMap, BTreeSet};

use super::lowering::Lowering;
use crate::model::TensorRef;
use crate::model::edit::{NodeExt, each_graph};
use crate::ops::held_tensor;
use crate::proto::tensor_shape_proto::{Dimension, dimension};
use crate::proto::{Dtype, GraphProto};
use crate::proto::{TensorShapeProto, ValueInfoProto, type_proto};
use crate::run::{Tensors, Unverifiable};

/// Gives every graph input the example's shape, drops declared shapes elsewhere, and builds values into the graph that decide
/// its control flow or its shapes; gives those back.
pub(super) fn fix(
    lowering: &mut Lowering,
    example: &Tensors,
) -> Result<Vec<(String, TensorRef)>, Unverifiable> {
    each_graph(lowering.graph(), &mut |graph| {
        graph.value_info.clear();
        graph
            .input
            .iter_mut()
            .chain(&mut graph.output)
            .for_each(clear_shape);
        Ok::<(), Unverifiable>(())
    })?;
    let graph = lowering.graph();
    let deciding = deciding(graph);
    let defaults: BTreeSet<String> = graph
        .initializer
        .iter()
        .map(|tensor| tensor.name().to_owned())
        .collect();
    let mut pinned = Vec::new();
    let mut inputs = Vec::new();
    for mut info in std::mem::take(&mut graph.input) {
        let name = info.name().to_owned();
        let Some(value) = example.get(&name) else {
            if defaults.contains(&name) {
                continue;
            }
            return Err(Unverifiable::new(format!(
                "there is no example of input '{name}'"
            )));
        };
        graph.initializer.retain(|tensor| tensor.name() != name);
        if value.elements() == 1 && !value.dtype.is_float() && deciding.contains(&name) {
            graph.initializer.push(value.to_proto(&name));
            pinned.push((name, value.clone()));
            continue;
        }
        set_shape(&mut info, value)
            .ok_or_else(|| Unverifiable::new(format!("input '{name}' is no tensor")))?;
        inputs.push(info);
    }
    graph.input = inputs;
    Ok(pinned)
}

fn clear_shape(info: &mut ValueInfoProto) {
    if let Some(type_proto::Value::TensorType(tensor)) =
        info.r#type.as_mut().and_then(|kind| kind.value.as_mut())
    {
        tensor.shape = None;
    }
}

fn set_shape(info: &mut ValueInfoProto, value: &TensorRef) -> Option<()> {
    let Some(type_proto::Value::TensorType(tensor)) =
        info.r#type.as_mut().and_then(|kind| kind.value.as_mut())
    else {
        return None;
    };
    let dim = value
        .dims
        .iter()
        .map(|dim| Dimension {
            value: Some(dimension::Value::DimValue(*dim as i64)),
            ..Default::default()
        })
        .collect();
    tensor.shape = Some(TensorShapeProto { dim });
    Some(())
}

/// The inputs from which conditions and shapes are computed.
fn deciding(graph: &GraphProto) -> BTreeSet<String> {
    let mut producers = BTreeMap::new();
    let mut open = Vec::new();
    collect(graph, &mut producers, &mut open);
    let mut seen = BTreeSet::new();
    while let Some(name) = open.pop() {
        if let Some(inputs) = producers.get(&name)
            && !seen.contains(&name)
        {
            open.extend(inputs.iter().cloned());
        }
        seen.insert(name);
    }
    seen
}

fn collect(
    graph: &GraphProto,
    producers: &mut BTreeMap<String, Vec<String>>,
    open: &mut Vec<String>,
) {
    for node in &graph.node {
        let (domain, op) = node.key();
        let reads: &[usize] = match op {
            _ if !domain.is_empty() => &[],
            "If" | "ConstantOfShape" => &[0],
            "Reshape" | "Expand" | "Tile" | "TopK" | "Unsqueeze" | "Squeeze" | "Pad" | "OneHot"
            | "CumSum" | "Split" => &[1],
            "Loop" => &[0, 1],
            "Range" => &[0, 1, 2],
            "Slice" => &[1, 2, 3, 4],
            "Resize" => &[2, 3],
            _ => &[],
        };
        open.extend(
            reads
                .iter()
                .filter_map(|at| node.input(*at))
                .map(str::to_owned),
        );
        if !matches!(op, "Shape" | "Size") {
            let inputs: Vec<String> = node
                .input
                .iter()
                .filter(|name| !name.is_empty())
                .cloned()
                .collect();
            for at in 0..node.output.len() {
                if let Some(name) = node.output(at) {
                    producers.insert(name.to_owned(), inputs.clone());
                }
            }
        }
        node.subgraphs()
            .for_each(|subgraph| collect(subgraph, producers, open));
    }
}

/// Turns Constant nodes that hold tensors into initializers, which sessions share.
pub(super) fn lift_constants(lowering: &mut Lowering) -> Result<(), Unverifiable> {
    each_graph(lowering.graph(), &mut |graph| {
        let mut nodes = Vec::with_capacity(graph.node.len());
        for node in std::mem::take(&mut graph.node) {
            match (held_tensor(&node), node.output(0)) {
                (Some(tensor), Some(name)) if tensor.dtype != Dtype::String => {
                    graph.initializer.push(tensor.to_proto(name))
                }
                _ => nodes.push(node),
            }
        }
        graph.node = nodes;
        Ok(())
    })
}
