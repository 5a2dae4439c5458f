//! The order of the passes.

use super::apply::LoweringTable;
use super::inferred::{Infer, InferredFacts};
use super::lowering::Lowering;
use super::rule::Change;
use super::{branch, contents, inputs, loops, precision, sequences, sparse};
use crate::constants::functions;
use crate::model::edit::NodeExt;
use crate::model::{Model, Names, TensorRef};
use crate::proto::{GraphProto, ModelProto, NodeProto};
use crate::run::{Tensors, Unverifiable};

/// A copy fit for tract.
#[derive(Debug)]
pub(in crate::run) struct LoweredModel {
    /// The model; its graph's inputs are those that a run must give, with shapes in numbers.
    pub(in crate::run) proto: ModelProto,
    /// Inputs whose value is built into the copy: a run must give the same.
    pub(in crate::run) pinned: Vec<(String, TensorRef)>,
}

/// Lowers a copy of `model` for inputs of the shapes of `example`.
pub(super) fn lower(
    model: &Model,
    example: &Tensors,
    taps: &[String],
    infer: &Infer,
    rules: &LoweringTable,
) -> Result<LoweredModel, Unverifiable> {
    let mut proto = model.proto.clone();
    sort_nodes(model, &mut proto);
    proto.graph.iter_mut().for_each(drop_empty_tails);
    let outputs = proto
        .graph
        .iter()
        .flat_map(|graph| &graph.output)
        .map(|output| output.name().to_owned());
    let wanted = outputs.chain(taps.iter().cloned()).collect();
    let mut names = Names::of(model);
    let nodes = model.index().nodes();
    names.reserve(nodes.map(|(node, _)| model.node(node).name()));
    let mut lowering = Lowering {
        proto,
        names,
        opset: model.opset(""),
        wanted,
        waiting: None,
    };
    let Lowering { proto, names, .. } = &mut lowering;
    functions::inline(proto, &mut |hint| names.fresh(hint))?;
    sparse::make_dense(&mut lowering)?;
    let pinned = inputs::fix(&mut lowering, example)?;
    precision::raise(&mut lowering)?;
    inputs::lift_constants(&mut lowering)?;
    let known = rewrite(&mut lowering, infer, rules)?;
    if let Some(node) = lowering.waiting.take() {
        return Err(stuck(&mut lowering, &known, &node));
    }
    contents::drop_dead(&mut lowering);
    Ok(LoweredModel {
        proto: lowering.proto,
        pinned,
    })
}

/// Why a node cannot be rewritten: one before it does not fit, or something is not known.
fn stuck(lowering: &mut Lowering, known: &InferredFacts, waiting: &str) -> Unverifiable {
    let problem = |node: &NodeProto| {
        Some(format!(
            "{}: {}",
            node.label(),
            node.output
                .iter()
                .find_map(|name| known.problems.get(name))?
        ))
    };
    let missing = || {
        format!(
            "{waiting}: a shape or a type that the runtime tract needs is not known before it runs"
        )
    };
    Unverifiable::new(
        lowering
            .graph()
            .node
            .iter()
            .find_map(problem)
            .unwrap_or_else(missing),
    )
}

/// Optional inputs left out at the end of a list may be written as empty names, which tract takes for inputs.
fn drop_empty_tails(graph: &mut GraphProto) {
    for node in &mut graph.node {
        while node.input.last().is_some_and(String::is_empty) {
            node.input.pop();
        }
        node.subgraphs_mut().for_each(drop_empty_tails);
    }
}

/// Applies rules until none applies; asks what is known only when a rule, a branch or a constant needs it. Gives what is known
/// at last.
fn rewrite(
    lowering: &mut Lowering,
    infer: &Infer,
    rules: &LoweringTable,
) -> Result<InferredFacts, Unverifiable> {
    const ROUNDS: usize = 256;
    let mut known = InferredFacts::default();
    for _ in 0..ROUNDS {
        contents::drop_dead(lowering);
        match rules.apply(lowering, &known)? {
            Change::Replaced => continue,
            Change::Unchanged if !contents::wanted(lowering) => return Ok(known),
            Change::Unchanged | Change::NeedsFacts => {}
        }
        known = infer(&lowering.proto);
        let folded = contents::fold(lowering, &known);
        let branched = branch::fold(lowering, &known, |_| true)?;
        let unrolled = loops::unroll(lowering, &known, |_| true)?;
        let listed = sequences::resolve(lowering, &known);
        contents::drop_dead(lowering);
        let ruled = rules.apply(lowering, &known)?;
        if !folded && !branched && !unrolled && !listed && ruled != Change::Replaced {
            return Ok(known);
        }
    }
    Ok(known)
}

/// Puts the nodes of every graph into an order in which producers come before readers, as the index found it.
fn sort_nodes(model: &Model, proto: &mut ModelProto) {
    // Inner graphs are rarely out of order, and tract takes any order; only the main graph is walked in order here.
    let Some((_, entry)) = model.index().graphs().next() else {
        return;
    };
    let Some(graph) = &mut proto.graph else {
        return;
    };
    let order: Vec<usize> = entry
        .nodes
        .iter()
        .map(|id| model.index().node(*id).position as usize)
        .collect();
    if order
        .iter()
        .enumerate()
        .any(|(at, position)| at != *position)
    {
        let nodes = std::mem::take(&mut graph.node);
        graph.node = order
            .iter()
            .filter_map(|position| nodes.get(*position).cloned())
            .collect();
    }
}
