//! Weights that are normalised by statistics of their own, stored as they come out.
//!
//! Weight standardisation and weight normalisation are written into many files as nodes over constants. What comes out is a
//! constant, but its statistics run over the channels that a cut takes; stored, it is a weight like any other.

use std::collections::{BTreeMap, BTreeSet};

use rayon::prelude::*;

use super::{edit, unused};
use crate::analysis::{Facts, Pins, infer};
use crate::facts::Contents;
use crate::model::{Index, LoadError, Model, NodeId, Origin, TensorRef, ValueId};
use crate::ops::meaning;
use crate::proto::{Dtype, GraphProto, TensorProto, ValueInfoProto};
use crate::run::{Runtime, Tensors};

/// Stores the results of nodes that normalise constants, wherever the file does not grow by it and the runtime can compute
/// them; with the names of what is stored now. `None` where there are none.
pub fn fold_statistics(
    model: &Model,
    runtime: &dyn Runtime,
) -> Result<Option<(Model, BTreeSet<String>)>, LoadError> {
    let computed = Computed::of(model);
    if !computed.statistics.contains(&true) || !model.proto.training_info.is_empty() {
        return Ok(None);
    }
    let facts = infer(model, &Pins::new());
    let parts: Vec<NormPart> = computed
        .results(model)
        .into_iter()
        .filter_map(|(node, value)| computed.part(model, &facts, node, value))
        .collect();
    let mut stored: BTreeMap<NodeId, TensorProto> = BTreeMap::new();
    let mut alike: BTreeMap<&[String], Vec<&NormPart>> = BTreeMap::new();
    parts
        .iter()
        .for_each(|part| alike.entry(&part.operators).or_default().push(part));
    for parts in alike.into_values() {
        stored.extend(
            results(&parts, runtime)
                .into_iter()
                .map(|(part, tensor)| (part.node, tensor.to_proto(&part.name))),
        );
    }
    if stored.is_empty() {
        return Ok(None);
    }
    let mut folded = model.clone();
    let removed: BTreeSet<NodeId> = stored.keys().copied().collect();
    let names = stored
        .values()
        .map(|tensor| tensor.name().to_owned())
        .collect();
    stored
        .into_values()
        .for_each(|tensor| edit::add_initializer(&mut folded, Index::MAIN, tensor));
    edit::remove_nodes(&mut folded, &removed)?;
    unused::remove(&mut folded)?;
    Ok(Some((folded, names)))
}

/// A value that constants give, and how.
struct NormPart {
    node: NodeId,
    name: String,
    dtype: Dtype,
    elements: usize,
    /// The types of its operators, in order.
    operators: Vec<String>,
    model: Model,
    inputs: Tensors,
}

/// How many numbers a constant has.
fn size(model: &Model, value: ValueId) -> usize {
    model
        .constant(value)
        .map_or(0, |tensor| tensor.dims.iter().product())
}

/// A graph of some nodes alone that gives one value, and its inputs.
fn isolated(
    model: &Model,
    output: &str,
    nodes: &BTreeSet<NodeId>,
    constants: &BTreeSet<ValueId>,
) -> Option<(GraphProto, Tensors)> {
    let mut graph = GraphProto {
        name: Some("constants".into()),
        node: nodes.iter().map(|node| model.node(*node).clone()).collect(),
        output: vec![ValueInfoProto {
            name: Some(output.to_owned()),
            ..Default::default()
        }],
        ..Default::default()
    };
    let mut inputs = Tensors::new();
    for constant in constants.iter().copied() {
        let (tensor, name) = (
            model.constant(constant)?,
            &model.index().value(constant).name,
        );
        // A runtime that sees constants computes with them while it makes the model ready, operator by operator.
        if tensor.dtype.is_float() && size(model, constant) > Contents::LIMIT {
            graph.input.push(ValueInfoProto::like(name, &tensor));
            inputs.insert(name.clone(), tensor);
        } else {
            graph.initializer.push(tensor.to_proto(name));
        }
    }
    Some((graph, inputs))
}

/// What computations by the same operators give, where the runtime computes the smallest of them alike in two ways.
fn results<'a>(parts: &[&'a NormPart], runtime: &dyn Runtime) -> Vec<(&'a NormPart, TensorRef)> {
    let Some(smallest) = parts.iter().min_by_key(|part| part.elements) else {
        return Vec::new();
    };
    if let Err(why) = runtime.prepare(&smallest.model, &smallest.inputs, &[]) {
        tracing::debug!(%why, "'{}' and those alike are not folded", smallest.name);
        return Vec::new();
    }
    let result = |part: &&'a NormPart| {
        let session = runtime.prepare_variant(&part.model, &part.inputs).ok()?;
        let result = session.run(&part.inputs).ok()?.into_iter().next()?;
        let right =
            result.dtype == part.dtype && result.dims.iter().product::<usize>() == part.elements;
        right.then_some((*part, result))
    };
    parts.par_iter().filter_map(result).collect()
}

/// What depends on constants alone.
struct Computed {
    /// By value.
    constant: Vec<bool>,
    /// By value: whether some number in it was computed from many.
    statistics: Vec<bool>,
}

impl Computed {
    fn of(model: &Model) -> Self {
        let values = model.index().values();
        let constant: Vec<bool> = values
            .map(|(value, _)| edit::is_constant(model, value) || model.constant(value).is_some())
            .collect();
        let mut computed = Computed {
            statistics: vec![false; constant.len()],
            constant,
        };
        for node in &model.index().graph(Index::MAIN).nodes {
            let (entry, message) = (model.index().node(*node), model.node(*node));
            let known = meaning(message);
            let own = crate::model::normal_domain(message.domain()).is_empty() && !known.draws;
            let from_constants = own && !entry.inputs.is_empty() && entry.subgraphs.is_empty();
            if !from_constants
                || !entry
                    .inputs
                    .iter()
                    .flatten()
                    .all(|input| computed.constant[input.index()])
            {
                continue;
            }
            let statistic = known.reduces
                || known.normalises
                || entry
                    .inputs
                    .iter()
                    .flatten()
                    .any(|input| computed.statistics[input.index()]);
            for output in entry.outputs.iter().flatten() {
                computed.constant[output.index()] = true;
                computed.statistics[output.index()] = statistic;
            }
        }
        computed
    }

    /// Whether a value is what comes out of such a computation: something that is not computed from constants reads it.
    fn is_result(&self, model: &Model, value: ValueId) -> bool {
        let entry = model.index().value(value);
        let read = |node: NodeId| {
            model
                .index()
                .node(node)
                .outputs
                .iter()
                .flatten()
                .any(|output| !self.constant[output.index()])
        };
        self.statistics[value.index()]
            && !entry.is_output
            && entry.readers.iter().any(|(reader, _)| read(*reader))
    }

    /// All such values that can be stored, with the nodes that give them and nothing else that is used.
    fn results(&self, model: &Model) -> Vec<(NodeId, ValueId)> {
        let ambiguous = edit::ambiguous(model);
        let annotated = edit::annotated(model);
        let mut results = Vec::new();
        for (value, entry) in model.index().values() {
            let Origin::Output(node, _) = entry.origin else {
                continue;
            };
            let named = ambiguous.contains(&entry.name) || annotated.contains(&entry.name);
            if !self.is_result(model, value) || named || entry.graph != Index::MAIN {
                continue;
            }
            let alone = |other: &ValueId| {
                let other_entry = model.index().value(*other);
                *other == value || (other_entry.readers.is_empty() && !other_entry.is_output)
            };
            if model.index().node(node).outputs.iter().flatten().all(alone) {
                results.push((node, value));
            }
        }
        results
    }

    /// Whether nothing needs a constant any more once what it gives is stored.
    fn goes(&self, model: &Model, value: ValueId) -> bool {
        let readers = &model.index().value(value).readers;
        readers.iter().all(|(reader, _)| {
            model
                .index()
                .node(*reader)
                .outputs
                .iter()
                .flatten()
                .all(|output| self.constant[output.index()])
        })
    }

    /// The computation of a value; `None` where the constants that it is computed from are smaller or are needed still.
    fn part(&self, model: &Model, facts: &Facts, node: NodeId, value: ValueId) -> Option<NormPart> {
        let fact = facts.of(value);
        let (dtype, elements) = (fact.dtype?, fact.elements()?);
        let (nodes, constants) = self.behind(model, node);
        if elements
            > constants
                .iter()
                .filter(|value| self.goes(model, **value))
                .map(|value| size(model, *value))
                .max()?
        {
            return None;
        }
        let name = model.index().value(value).name.clone();
        let (graph, inputs) = isolated(model, &name, &nodes, &constants)?;
        let operators = graph
            .node
            .iter()
            .map(|node| node.op_type().to_owned())
            .collect();
        Some(NormPart {
            node,
            name,
            dtype,
            elements,
            operators,
            model: model.with_graph(graph).ok()?,
            inputs,
        })
    }

    /// The nodes that lead to one, in order, itself included, and the constants that they read.
    fn behind(&self, model: &Model, last: NodeId) -> (BTreeSet<NodeId>, BTreeSet<ValueId>) {
        let (mut nodes, mut constants) = (BTreeSet::new(), BTreeSet::new());
        let mut open = vec![last];
        while let Some(node) = open.pop() {
            if !nodes.insert(node) {
                continue;
            }
            for input in model.index().node(node).inputs.iter().flatten() {
                match model.index().value(*input).origin {
                    Origin::Output(producer, _) if model.constant(*input).is_none() => {
                        open.push(producer)
                    }
                    _ => {
                        constants.insert(*input);
                    }
                }
            }
        }
        (nodes, constants)
    }
}
