//! Sequences whose lengths are known: their tensors by name, for tract has no sequences.

use std::collections::BTreeMap;

use super::builder::GraphBuilder;
use super::inferred::{InferredFacts, constant_of};
use super::lowering::Lowering;
use crate::model::TensorRef;
use crate::model::edit::NodeExt;
use crate::proto::{GraphProto, NodeProto};

/// Which tensors each sequence holds.
type Members = BTreeMap<String, Vec<String>>;

/// Lets what reads sequences of the main graph read their tensors; says whether there was anything to do.
pub(super) fn resolve(lowering: &mut Lowering, known: &InferredFacts) -> bool {
    let mut graph = lowering.proto.graph.take().unwrap_or_default();
    let mut members = Members::new();
    let mut resolved = false;
    let mut nodes = Vec::with_capacity(graph.node.len());
    for node in std::mem::take(&mut graph.node) {
        let opset = lowering.opset;
        let mut builder = GraphBuilder::new(&mut lowering.names, opset);
        let done = node.key().0.is_empty()
            && (read(&node, &mut builder, &members, &graph, known).is_some());
        if done {
            resolved = true;
            let GraphBuilder {
                nodes: made,
                constants,
                ..
            } = builder;
            made.iter()
                .for_each(|node| follow(node, &mut members, &graph, known));
            nodes.extend(made);
            graph.initializer.extend(constants);
        } else {
            follow(&node, &mut members, &graph, known);
            nodes.push(node);
        }
    }
    graph.node = nodes;
    lowering.proto.graph = Some(graph);
    resolved
}

/// Whether any of a sequence's makers or readers is here.
pub(super) fn is_sequence(op: &str) -> bool {
    op.contains("Sequence") || op.starts_with("Optional")
}

/// Notes what a node that gives a sequence puts into it.
fn follow(node: &NodeProto, members: &mut Members, graph: &GraphProto, known: &InferredFacts) {
    let held = || node.input(0).and_then(|name| members.get(name)).cloned();
    let place = |at: usize, length: usize| position(node, at, length, graph, known);
    let new = match node.op_type() {
        _ if !node.key().0.is_empty() => None,
        "SequenceEmpty" => Some(Vec::new()),
        "SequenceConstruct" => Some(node.input.clone()),
        "Identity" => held(),
        "SequenceInsert" => held().and_then(|mut list| {
            let at = if node.input(2).is_some() {
                place(2, list.len() + 1)?
            } else {
                list.len()
            };
            list.insert(at, node.input(1)?.to_owned());
            Some(list)
        }),
        "SequenceErase" => held().and_then(|mut list| {
            let at = if node.input(1).is_some() {
                place(1, list.len())?
            } else {
                list.len().checked_sub(1)?
            };
            list.remove(at);
            Some(list)
        }),
        _ => None,
    };
    if let (Some(new), Some(name)) = (new, node.output(0)) {
        members.insert(name.to_owned(), new);
    }
}

/// The place that an input names in a list of a length; negative ones count from its end.
fn position(
    node: &NodeProto,
    at: usize,
    length: usize,
    graph: &GraphProto,
    known: &InferredFacts,
) -> Option<usize> {
    let at = constant_of(node.input(at)?, graph, known)?
        .to_i64()?
        .first()
        .copied()?;
    let at = if at < 0 { at + length as i64 } else { at };
    usize::try_from(at).ok().filter(|at| *at < length)
}

/// Writes what takes the place of a reader, or of a split into a sequence.
fn read(
    node: &NodeProto,
    builder: &mut GraphBuilder,
    members: &Members,
    graph: &GraphProto,
    known: &InferredFacts,
) -> Option<()> {
    let held = || node.input(0).and_then(|name| members.get(name));
    match node.op_type() {
        "SequenceAt" => {
            let list = held()?;
            let at = position(node, 1, list.len(), graph, known)?;
            builder.bind_output(list.get(at)?, node, 0);
        }
        "SequenceLength" => {
            let length = TensorRef {
                dims: Vec::new(),
                ..TensorRef::from_i64(vec![1], &[held()?.len() as i64])
            };
            let length = builder.constant(&length);
            builder.bind_output(&length, node, 0);
        }
        "ConcatFromSequence" => {
            let (list, axis) = (held()?.clone(), node.int_or("axis", 0));
            let parts: Vec<String> = match node.int_or("new_axis", 0) {
                0 => list,
                _ => list
                    .iter()
                    .map(|part| builder.unsqueeze(part, &[axis]))
                    .collect(),
            };
            let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
            if parts.is_empty() {
                return None;
            }
            let all = builder.concat(&parts, axis);
            builder.bind_output(&all, node, 0);
        }
        // What was put into an optional comes out again, be it a tensor or a sequence.
        "Optional" => builder.bind_output(node.input(0)?, node, 0),
        "OptionalGetElement" => builder.bind_output(node.input(0)?, node, 0),
        "SplitToSequence" => split(node, builder, graph, known)?,
        _ => return None,
    }
    Some(())
}

fn split(
    node: &NodeProto,
    builder: &mut GraphBuilder,
    graph: &GraphProto,
    known: &InferredFacts,
) -> Option<()> {
    let (x, axis) = (node.input(0)?, node.int_or("axis", 0));
    let dims = match constant_of(x, graph, known) {
        Some(constant) => constant.dims.iter().map(|dim| *dim as i64).collect(),
        None => known.shapes.get(x)?.clone(),
    };
    let axis = if axis < 0 {
        axis + dims.len() as i64
    } else {
        axis
    };
    let length = usize::try_from(*dims.get(usize::try_from(axis).ok()?)?).ok()?;
    const LONG: usize = 1 << 12;
    if length == 0 || length > LONG {
        return None;
    }
    let (sizes, keep) = match node.input(1) {
        None => (vec![1; length], node.int_or("keepdims", 1) != 0),
        Some(sizes) => {
            let sizes = constant_of(sizes, graph, known)?;
            let numbers = sizes.to_i64()?;
            match (sizes.dims.as_slice(), numbers.as_slice()) {
                ([], [size]) => {
                    let size = usize::try_from(*size).ok().filter(|size| *size > 0)?;
                    (
                        (0..length)
                            .step_by(size)
                            .map(|start| size.min(length - start) as i64)
                            .collect(),
                        true,
                    )
                }
                _ => (numbers, true),
            }
        }
    };
    let mut parts = builder.split(x, axis, &sizes);
    if !keep {
        parts = parts
            .iter()
            .map(|part| builder.squeeze(part, &[axis]))
            .collect();
    }
    let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
    builder.node("SequenceConstruct", &parts, &[node.output(0)?], Vec::new());
    Some(())
}
