//! Sequences that can be followed before the model runs, taken out of a model that is to be analysed: what is put into a
//! sequence and taken out of it again is the same tensor.

use super::inferred::InferredFacts;
use super::lowering::Lowering;
use super::sequences::is_sequence;
use super::{branch, contents, loops, sequences};
use crate::analysis::{Pins, infer};
use crate::facts::Fact;
use crate::model::edit::{NodeExt, each_node};
use crate::model::{Index, Model, Names};
use crate::proto::ValueInfoProto;
use crate::proto::type_proto::Value as TypeValue;
use crate::proto::{GraphProto, ModelProto, NodeProto};

/// The model without the sequences and optionals of its main graph whose lengths and places are known; `None` where there are
/// none, or where any stays. Branches that are always taken and loops of a known number of turns are written out where they
/// carry sequences.
pub fn without_sequences(model: &Model) -> Option<Model> {
    const ROUNDS: usize = 64;
    let has = |graph: &GraphProto| graph.node.iter().any(carries);
    if !model.proto.graph.as_ref().is_some_and(has) {
        return None;
    }
    let outputs = model
        .graph(Index::MAIN)
        .output
        .iter()
        .map(|output| output.name().to_owned())
        .collect();
    let names = Names::of(model);
    let mut lowering = Lowering {
        proto: model.proto.clone(),
        names,
        opset: model.opset(""),
        wanted: outputs,
        waiting: None,
    };
    for _ in 0..ROUNDS {
        let known = known(&with(model, lowering.proto.clone())?);
        let branched = branch::fold(&mut lowering, &known, carries).ok()?;
        let unrolled = loops::unroll(&mut lowering, &known, carries).ok()?;
        let listed = sequences::resolve(&mut lowering, &known);
        contents::drop_dead(&mut lowering);
        if !lowering.proto.graph.as_ref().is_some_and(has) {
            return with(model, lowering.proto);
        }
        if !branched && !unrolled && !listed {
            return None;
        }
    }
    None
}

/// The model with another graph.
fn with(model: &Model, proto: ModelProto) -> Option<Model> {
    let mut model = model.clone();
    model.proto = proto;
    model.reindex().ok()?;
    Some(model)
}

/// Whether a node makes or reads sequences or optionals, itself or in its subgraphs.
fn carries(node: &NodeProto) -> bool {
    let (domain, op) = node.key();
    if domain.is_empty() && is_sequence(op) {
        return true;
    }
    let typed = |info: &ValueInfoProto| {
        let kind = info
            .r#type
            .as_ref()
            .and_then(|r#type| r#type.value.as_ref());
        matches!(
            kind,
            Some(TypeValue::SequenceType(_) | TypeValue::OptionalType(_))
        )
    };
    let within = |graph: &GraphProto| {
        let mut found = graph.input.iter().chain(&graph.output).any(typed);
        let _ = each_node(graph, &mut |inner| {
            found |= inner.key().0.is_empty() && is_sequence(inner.key().1);
            Ok::<(), ()>(())
        });
        found
    };
    node.subgraphs().any(within)
}

/// What the rules know, whatever the inputs; an extent that is known only at run time stands as -1.
fn known(model: &Model) -> InferredFacts {
    let facts = infer(model, &Pins::new());
    let mut known = InferredFacts {
        contents: crate::analysis::known(model),
        ..Default::default()
    };
    for (value, entry) in model
        .index()
        .values()
        .filter(|(_, entry)| entry.graph == Index::MAIN)
    {
        let Fact { dtype, shape, .. } = facts.of(value);
        known
            .dtypes
            .extend(dtype.map(|dtype| (entry.name.clone(), dtype)));
        let dims = shape
            .as_ref()
            .map(|shape| shape.iter().map(|dim| dim.num().unwrap_or(-1)).collect());
        known
            .shapes
            .extend(dims.map(|dims| (entry.name.clone(), dims)));
    }
    known
}
