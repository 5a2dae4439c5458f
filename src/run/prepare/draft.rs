//! The order in which the rewrites are made.

use super::known::{Infer, Known};
use super::node::{each_node, label};
use super::rules::{Outcome, Rules};
use super::wire::Names;
use super::{branch, contents, inputs, loops, precision, sequences, sparse};
use crate::model::{Model, TensorRef, functions};
use crate::proto::{GraphProto, ModelProto, NodeProto};
use crate::run::{Tensors, Unverifiable, table};

/// The copy that is being prepared.
pub(super) struct Draft {
    pub(super) proto: ModelProto,
    pub(super) names: Names,
    pub(super) opset: i64,
    /// Names that must stay: graph outputs and taps.
    pub(super) wanted: Vec<String>,
    /// A node that could not be rewritten for want of a shape, a type or a content.
    pub(super) waiting: Option<String>,
}

impl Draft {
    pub(super) fn graph(&mut self) -> &mut GraphProto {
        self.proto.graph.get_or_insert_default()
    }
}

/// A copy fit for tract.
#[derive(Debug)]
pub(in crate::run) struct Prepared {
    /// The model; its graph's inputs are those that a run must give, with shapes in numbers.
    pub(in crate::run) proto: ModelProto,
    /// Inputs whose value is built into the copy: a run must give the same.
    pub(in crate::run) pinned: Vec<(String, TensorRef)>,
}

/// Prepares a copy of `model` for inputs of the shapes of `example`.
pub(in crate::run) fn prepare(
    model: &Model,
    example: &Tensors,
    taps: &[String],
    infer: &Infer,
) -> Result<Prepared, Unverifiable> {
    let mut proto = model.proto.clone();
    sort_nodes(model, &mut proto);
    proto.graph.iter_mut().for_each(drop_empty_tails);
    let outputs = proto
        .graph
        .iter()
        .flat_map(|graph| &graph.output)
        .map(|output| output.name().to_owned());
    let wanted = outputs.chain(taps.iter().cloned()).collect();
    let names = Names::new(model.index().values().map(|(_, value)| value.name.as_str()));
    let mut draft = Draft {
        proto,
        names,
        opset: model.opset(""),
        wanted,
        waiting: None,
    };
    let Draft { proto, names, .. } = &mut draft;
    functions::inline(proto, &mut |hint| names.fresh(hint)).map_err(Unverifiable::new)?;
    sparse::make_dense(&mut draft)?;
    let pinned = inputs::fix(&mut draft, example)?;
    precision::raise(&mut draft)?;
    inputs::lift_constants(&mut draft)?;
    let known = rewrite(&mut draft, infer)?;
    if let Some(node) = draft.waiting.take() {
        return Err(stuck(&mut draft, &known, &node));
    }
    contents::drop_dead(&mut draft);
    check(&draft)?;
    Ok(Prepared {
        proto: draft.proto,
        pinned,
    })
}

/// Why a node cannot be rewritten: one before it does not fit, or something is not known.
fn stuck(draft: &mut Draft, known: &Known, waiting: &str) -> Unverifiable {
    let problem = |node: &NodeProto| {
        Some(format!(
            "{}: {}",
            label(node),
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
        draft
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
        for attribute in &mut node.attribute {
            attribute
                .g
                .iter_mut()
                .chain(&mut attribute.graphs)
                .for_each(drop_empty_tails);
        }
    }
}

/// Applies rules until none applies; asks what is known only when a rule, a branch or a constant needs it. Gives what is known
/// at last.
fn rewrite(draft: &mut Draft, infer: &Infer) -> Result<Known, Unverifiable> {
    const ROUNDS: usize = 256;
    let rules = Rules::all();
    let mut known = Known::default();
    for _ in 0..ROUNDS {
        contents::drop_dead(draft);
        match rules.apply(draft, &known)? {
            Outcome::Done => continue,
            Outcome::Leave if !contents::wanted(draft) => return Ok(known),
            Outcome::Leave | Outcome::NeedsFacts => {}
        }
        known = infer(&draft.proto);
        let folded = contents::fold(draft, &known);
        let branched = branch::fold(draft, &known, |_| true)?;
        let unrolled = loops::unroll(draft, &known, |_| true)?;
        let listed = sequences::resolve(draft, &known);
        contents::drop_dead(draft);
        let ruled = rules.apply(draft, &known)?;
        if !folded && !branched && !unrolled && !listed && ruled != Outcome::Done {
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

/// Refuses what tract lacks or computes wrongly.
fn check(draft: &Draft) -> Result<(), Unverifiable> {
    let Some(graph) = &draft.proto.graph else {
        return Err(Unverifiable::new("the model has no graph"));
    };
    each_node(graph, &mut |node| match table::problem(node) {
        None => Ok(()),
        Some(problem) => Err(Unverifiable::new(format!("{}: {problem}", label(node)))),
    })
}
