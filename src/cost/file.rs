//! What a model's file costs as it is.

use super::count::{self, counts, macs};
use super::{Cost, Uncounted};
use crate::analysis::{Pins, infer, relate};
use crate::constants::functions;
use crate::model::{Model, encoded_len};
use crate::ops::holds_tensor;
use crate::ops::meaning;
use crate::proto::{AttributeProto, NodeProto, TensorProto, is_weight};

/// What a model costs as it is, at these input shapes. What it computes from constants is no operation of a run.
pub fn cost(model: &Model, pins: &Pins) -> Cost {
    let inlined = functions::inlined(model).ok().flatten();
    let flat = inlined.as_ref().map_or(model, |(inlined, _)| inlined);
    Cost {
        macs: macs(flat, &infer(flat, pins)),
        params: params(model),
        bytes: bytes(model),
        time: 0.0,
    }
}

/// The nodes that the operations of [`cost`] leave out, in the order of the file.
pub fn uncounted(model: &Model, pins: &Pins) -> Vec<Uncounted> {
    let inlined = functions::inlined(model).ok().flatten();
    let flat = inlined.as_ref().map_or(model, |(inlined, _)| inlined);
    let facts = infer(flat, pins);
    count::uncounted(flat, &facts, &relate(flat, &facts))
        .into_iter()
        .map(|node| Uncounted::of(flat, node))
        .collect()
}

/// Whether operations are counted in branches of which each runs in a part of the runs only, because the inputs' numbers decide.
pub fn averages_branches(model: &Model, pins: &Pins) -> bool {
    let inlined = functions::inlined(model).ok().flatten();
    let flat = inlined.as_ref().map_or(model, |(inlined, _)| inlined);
    let branches = |node| meaning(flat.node(node)).control;
    let any = flat.index().nodes().filter_map(|(node, _)| branches(node));
    if !any.into_iter().any(|control| control.alternative) {
        return false;
    }
    let facts = infer(flat, pins);
    let counts = counts(flat, &facts, &relate(flat, &facts));
    counts.iter().any(|count| count.sometimes)
}

/// Parameters of a model, those of its functions included.
pub fn params(model: &Model) -> f64 {
    let count = |tensor: &TensorProto| {
        if is_weight(tensor) {
            tensor.dims.iter().product::<i64>() as f64
        } else {
            0.0
        }
    };
    let values = model
        .index()
        .values()
        .filter_map(|(value, _)| model.tensor_proto(value));
    let functions = model
        .proto
        .functions
        .iter()
        .flat_map(|function| &function.node);
    values.map(count).sum::<f64>()
        + functions
            .map(|node| in_constants(node, &count))
            .sum::<f64>()
}

/// What the constants of a node of a function count, those in its subgraphs included.
fn in_constants(node: &NodeProto, count: &dyn Fn(&TensorProto) -> f64) -> f64 {
    let constant = holds_tensor(node);
    let attribute = |attribute: &AttributeProto| {
        let own = attribute.t.as_ref().filter(|_| constant).map_or(0.0, count);
        let graphs = attribute.g.iter().chain(&attribute.graphs);
        own + graphs
            .map(|graph| {
                let nodes = graph.node.iter().map(|node| in_constants(node, count));
                graph
                    .initializer
                    .iter()
                    .map(count)
                    .chain(nodes)
                    .sum::<f64>()
            })
            .sum::<f64>()
    };
    node.attribute.iter().map(attribute).sum()
}

/// Bytes of a model's file.
pub fn bytes(model: &Model) -> f64 {
    if model.source.total_bytes > 0 {
        model.source.total_bytes as f64
    } else {
        encoded_len(model) as f64
    }
}
