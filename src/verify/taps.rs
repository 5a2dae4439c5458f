//! Where a cut can be looked at: what the nodes give that contract removed slices, and the outputs.

use std::collections::BTreeSet;

use super::compare::distance;
use crate::analysis::{Analysis, Pins, Selection, infer};
use crate::facts::Fact;
use crate::model::{GraphId, Index, LoadError, Model, NodeId, TensorRef, ValueId};
use crate::ops::holds_tensor;
use crate::ops::meaning;
use crate::proto::ValueInfoProto;
use crate::run::Tensors;

/// What masking must move a value inside by, to count as something that was seen.
const ALIVE: f64 = 1e-4;
/// Bytes of values inside that are looked at in one run.
pub(super) const BUDGET: usize = 64 << 20;

/// One value of the main graph, and what stays of each of its axes.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Tap {
    pub(super) name: String,
    pub(super) kept: Vec<Option<Vec<u32>>>,
    /// Bytes that it takes in the original, as far as its extents are known.
    pub(super) bytes: usize,
    /// Whether it lies behind a choice.
    pub(super) chosen: bool,
}

/// What can be looked at.
#[derive(Clone, Debug, Default)]
pub(super) struct Sights {
    pub(super) taps: Vec<Tap>,
    /// The graph outputs that lie behind a choice.
    pub(super) chosen: BTreeSet<String>,
}

/// What is given by each node of the main graph that reads removed slices and sums over them (or takes their statistics), or
/// holds a graph in which one does. Left out are graph outputs, which are compared anyway, and what the pruned model does not
/// have (branches that are gone).
pub(super) fn sights(
    model: &Model,
    analysis: &Analysis,
    selection: &Selection,
    pruned: &Model,
    example: &Tensors,
) -> Sights {
    let index = model.index();
    let pins: Pins = example
        .iter()
        .map(|(name, tensor)| {
            (
                name.clone(),
                tensor.dims.iter().map(|dim| *dim as i64).collect(),
            )
        })
        .collect();
    let facts = infer(model, &pins);
    // What is left of a branch that is gone is a constant.
    let nodes = pruned
        .proto
        .graph
        .iter()
        .flat_map(|graph| &graph.node)
        .filter(|node| !holds_tensor(node));
    let given: BTreeSet<&String> = nodes.flat_map(|node| &node.output).collect();
    let (mut touched, mut behind): (BTreeSet<ValueId>, BTreeSet<ValueId>) = Default::default();
    let mut sights = Sights::default();
    for node in &index.graph(Index::MAIN).nodes {
        let (entry, mut reads) = (index.node(*node), BTreeSet::new());
        reads_of(model, *node, &mut reads);
        let sums = contracts(model, analysis, selection, *node);
        let is_touched = sums || reads.iter().any(|value| touched.contains(value));
        let chosen = reads.iter().any(|value| behind.contains(value))
            || (is_touched && chooses(model, *node));
        for value in entry.outputs.iter().flatten() {
            if is_touched {
                touched.insert(*value);
            }
            if chosen {
                behind.insert(*value);
            }
            let (name, is_output) = (&index.value(*value).name, index.value(*value).is_output);
            if is_output && chosen {
                sights.chosen.insert(name.clone());
            }
            if !sums || is_output || !given.contains(name) {
                continue;
            }
            let fact = facts.of(*value);
            sights
                .taps
                .extend(tap(analysis, selection, (*value, name), fact, chosen));
        }
    }
    sights
}

/// A value to be looked at; `None` where its shape or its type is not known, or where a constant is left of it.
fn tap(
    analysis: &Analysis,
    selection: &Selection,
    (value, name): (ValueId, &str),
    fact: &Fact,
    chosen: bool,
) -> Option<Tap> {
    let (shape, dtype) = (fact.shape.as_ref()?, fact.dtype?);
    let kept: Vec<_> = (0..shape.len())
        .map(|axis| analysis.kept_axis(value, axis, selection))
        .collect();
    // Of a branch that is gone altogether a constant is left.
    if kept.iter().flatten().any(Vec::is_empty) {
        return None;
    }
    let elements: usize = shape.iter().map(|dim| dim.count().unwrap_or(1)).product();
    Some(Tap {
        name: name.to_owned(),
        kept,
        bytes: dtype.bytes_for(elements),
        chosen,
    })
}

/// Whether masking moves each of some values.
pub(super) fn moves(
    taps: &[Tap],
    original: &[TensorRef],
    masked: &[TensorRef],
    outputs: usize,
) -> Vec<bool> {
    let pairs = original
        .iter()
        .skip(outputs)
        .zip(masked.iter().skip(outputs));
    let moves = |(tap, (original, masked)): (&Tap, (&TensorRef, &TensorRef))| {
        distance(&tap.of(original), &tap.of(masked)).is_some_and(|(apart, _)| apart > ALIVE)
    };
    taps.iter().zip(pairs).map(moves).collect()
}

/// Taps as many at a time as fit; one empty batch where there are none.
pub(super) fn batches(taps: &[Tap]) -> Vec<&[Tap]> {
    let (mut batches, mut start, mut bytes) = (Vec::new(), 0, 0);
    for (at, tap) in taps.iter().enumerate() {
        if at > start && bytes + tap.bytes > BUDGET {
            batches.push(&taps[start..at]);
            (start, bytes) = (at, 0);
        }
        bytes += tap.bytes;
    }
    batches.push(&taps[start..]);
    batches
}

/// The same model with these values among its outputs, behind those that it has.
pub(super) fn tapped<'a>(
    model: &Model,
    taps: impl IntoIterator<Item = &'a Tap>,
) -> Result<Model, LoadError> {
    let mut tapped = model.clone();
    let graph = tapped.proto.graph.get_or_insert_default();
    graph
        .output
        .extend(taps.into_iter().map(|tap| ValueInfoProto::named(&tap.name)));
    tapped.reindex()?;
    Ok(tapped)
}

/// Whether a node, or one of the graphs in it, sums over slices that go or takes their statistics.
fn contracts(model: &Model, analysis: &Analysis, selection: &Selection, node: NodeId) -> bool {
    let relation = &analysis.relations[node.index()];
    let kept = analysis.kept_labels(node, selection);
    let is_cut = |label: usize| kept.get(label).is_some_and(Option::is_some);
    let summed = relation
        .terms
        .iter()
        .flat_map(|term| &term.summed)
        .any(|label| is_cut(label.index()));
    let lossy = relation
        .labels
        .iter()
        .enumerate()
        .any(|(at, label)| is_cut(at) && label.fate.loss().is_some());
    summed
        || lossy
        || inner(model, node).any(|graph| {
            nodes(model, graph).any(|node| contracts(model, analysis, selection, node))
        })
}

/// Whether a node, or one in its graphs, decides between numbers: where two are nearly the same, rounding turns it, and some of
/// what lies behind differs.
fn chooses(model: &Model, node: NodeId) -> bool {
    let message = model.node(node);
    let own = meaning(message).chooses(message);
    own || inner(model, node).any(|graph| nodes(model, graph).any(|node| chooses(model, node)))
}

/// All values that a node reads, in its graphs too.
fn reads_of(model: &Model, node: NodeId, reads: &mut BTreeSet<ValueId>) {
    reads.extend(model.index().node(node).inputs.iter().flatten());
    for graph in inner(model, node) {
        reads.extend(&model.index().graph(graph).outputs);
        nodes(model, graph).for_each(|node| reads_of(model, node, reads));
    }
}

fn inner(model: &Model, node: NodeId) -> impl Iterator<Item = GraphId> + '_ {
    model.index().node(node).subgraphs.iter().copied()
}

fn nodes(model: &Model, graph: GraphId) -> impl Iterator<Item = NodeId> + '_ {
    model.index().graph(graph).nodes.iter().copied()
}
