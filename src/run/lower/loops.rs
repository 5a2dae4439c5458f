//! A `Loop` whose condition is known at every turn becomes its turns, one after the other: tract has no loop.

use std::collections::{BTreeMap, HashMap};

use super::builder::GraphBuilder;
use super::inferred::InferredFacts;
use super::lowering::Lowering;
use super::rule::refusal;
use crate::model::TensorRef;
use crate::model::edit::{NodeExt, each_node};
use crate::model::rename;
use crate::proto::{AttributeProto, Dtype, GraphProto, NodeProto, TensorProto};
use crate::run::Unverifiable;

/// How many turns have been written out, kept at the node while others are still to come. What each scanned output has
/// given so far stands behind the node's own inputs.
const TURNS: &str = "~turns";
/// Nodes that all turns together may make.
const MOST: usize = 100_000;

/// What the pass looks names up in, as far as it has got.
#[derive(Default)]
struct LoopUses {
    /// Constants of the graph, by their place there.
    constants: HashMap<String, usize>,
    /// Nodes that hand on, by what they give.
    handed: HashMap<String, String>,
}

impl LoopUses {
    fn constant(&mut self, graph: &mut GraphProto, tensor: TensorProto) {
        self.constants
            .insert(tensor.name().to_owned(), graph.initializer.len());
        graph.initializer.push(tensor);
    }

    fn node(&mut self, node: &NodeProto) {
        if let ("", "Identity" | "Cast") = node.key()
            && let (Some(from), Some(to)) = (node.input(0), node.output(0))
        {
            self.handed.insert(to.to_owned(), from.to_owned());
        }
    }
}

/// Writes out the turns of the main graph's loops, of those that are `wanted`, as far as their conditions are known; says whether
/// there were any.
pub(super) fn unroll(
    lowering: &mut Lowering,
    known: &InferredFacts,
    wanted: fn(&NodeProto) -> bool,
) -> Result<bool, Unverifiable> {
    let mut graph = lowering.proto.graph.take().unwrap_or_default();
    if !graph.node.iter().any(|node| node.key() == ("", "Loop")) {
        lowering.proto.graph = Some(graph);
        return Ok(false);
    }
    let mut unrolled = false;
    let mut seen = LoopUses::default();
    for (at, tensor) in graph.initializer.iter().enumerate() {
        seen.constants.insert(tensor.name().to_owned(), at);
    }
    let mut nodes = Vec::with_capacity(graph.node.len());
    for mut node in std::mem::take(&mut graph.node) {
        if node.key() != ("", "Loop") || !wanted(&node) {
            seen.node(&node);
            nodes.push(node);
            continue;
        }
        let body = node
            .attribute("body")
            .and_then(|attribute| attribute.g.clone());
        let body = body.ok_or_else(|| refusal(&node, "has no body"))?;
        let mut done = false;
        ends_somewhere(&node, &body, &seen, &graph, known)?;
        while !done && nodes.len() < MOST && node.int_or(TURNS, 0) < MOST as i64 {
            match goes_on(&node, &seen, &graph, known) {
                Some(true) => turn(
                    &mut node, &body, &mut graph, &mut seen, &mut nodes, lowering,
                )?,
                Some(false) if finish(&node, &body, &mut graph, &mut nodes, lowering) => {
                    done = true
                }
                _ => break,
            }
            unrolled = true;
        }
        if !done {
            nodes.push(node);
        }
    }
    graph.node = nodes;
    lowering.proto.graph = Some(graph);
    Ok(unrolled)
}

/// Whether there is another turn; `None` where that is not known (yet).
fn goes_on(
    node: &NodeProto,
    seen: &LoopUses,
    graph: &GraphProto,
    known: &InferredFacts,
) -> Option<bool> {
    let number = |name: &str| truth(name, seen, graph, known);
    let trips = match node.input(0) {
        Some(name) => number(name)?,
        None => i64::MAX,
    };
    if node.int_or(TURNS, 0) >= trips {
        return Some(false);
    }
    match node.input(1) {
        Some(name) => number(name).map(|truth| truth != 0),
        None => Some(true),
    }
}

/// A number that is known, seen through the nodes that hand it on.
fn truth(name: &str, seen: &LoopUses, graph: &GraphProto, known: &InferredFacts) -> Option<i64> {
    let mut name = name;
    loop {
        let stored = seen
            .constants
            .get(name)
            .and_then(|at| TensorRef::from_proto(graph.initializer.get(*at)?).ok());
        if let Some(tensor) = stored.or_else(|| known.contents.get(name).cloned()) {
            return tensor.to_i64()?.first().copied();
        }
        name = seen.handed.get(name)?;
    }
}

/// Errors: a loop all of whose turns are known to be too many to be written out.
fn ends_somewhere(
    node: &NodeProto,
    body: &GraphProto,
    seen: &LoopUses,
    graph: &GraphProto,
    known: &InferredFacts,
) -> Result<(), Unverifiable> {
    let mut size = 0usize;
    let _ = each_node(body, &mut |_| {
        size += 1;
        Ok::<(), ()>(())
    });
    // One that a condition ends may end early.
    let counts = node
        .input(1)
        .is_none_or(|goes| truth(goes, seen, graph, known).is_some())
        && body
            .output
            .first()
            .zip(body.input.get(1))
            .is_some_and(|(goes, given)| hands_on(body, given.name(), goes.name()));
    match node
        .input(0)
        .and_then(|trips| truth(trips, seen, graph, known))
    {
        Some(trips) if counts && (trips as f64) * size.max(1) as f64 > MOST as f64 => {
            Err(Unverifiable::new(format!(
                "{}: its {trips} turns are too many to be written out for a runtime that has no loop",
                node.label()
            )))
        }
        _ => Ok(()),
    }
}

/// Whether a body gives a truth that it takes unchanged, or one that is always true.
fn hands_on(body: &GraphProto, taken: &str, given: &str) -> bool {
    let mut name = given;
    for node in body.node.iter().rev() {
        if node.output(0) == Some(name) && node.key() == ("", "Identity") {
            name = node.input(0).unwrap_or_default();
        }
    }
    let is_true = |tensor: &TensorProto| {
        let numbers = TensorRef::from_proto(tensor)
            .ok()
            .and_then(|tensor| tensor.to_i64());
        tensor.name() == name && numbers.is_some_and(|numbers| numbers.first() == Some(&1))
    };
    name == taken || body.initializer.iter().any(is_true)
}

/// Writes one turn's nodes, and lets the node begin where that turn ends.
fn turn(
    node: &mut NodeProto,
    body: &GraphProto,
    graph: &mut GraphProto,
    seen: &mut LoopUses,
    nodes: &mut Vec<NodeProto>,
    lowering: &mut Lowering,
) -> Result<(), Unverifiable> {
    let malformed = || Unverifiable::new(format!("the body of {} does not fit it", node.name()));
    let turns = node.int_or(TURNS, 0);
    let states = body.input.len().checked_sub(2).ok_or_else(malformed)?;
    let given = node
        .input
        .get(2..2 + states)
        .ok_or_else(malformed)?
        .to_vec();
    let firsts = turn_and_condition(turns, graph, seen, lowering);
    let mut names: BTreeMap<String, String> = body
        .input
        .iter()
        .map(|formal| formal.name().to_owned())
        .zip(firsts.into_iter().chain(given))
        .collect();
    for tensor in &body.initializer {
        let mut tensor = tensor.clone();
        let new = lowering.names.fresh(tensor.name());
        names.insert(tensor.name().to_owned(), new.clone());
        tensor.name = Some(new);
        seen.constant(graph, tensor);
    }
    for mut inner in body.node.iter().cloned() {
        rename(&mut inner, &mut names, &mut |name| {
            lowering.names.fresh(name)
        });
        inner.name = Some(lowering.names.fresh(inner.name()));
        seen.node(&inner);
        nodes.push(inner);
    }
    let results: Vec<String> = body
        .output
        .iter()
        .map(|result| {
            names
                .get(result.name())
                .map_or(result.name(), String::as_str)
                .to_owned()
        })
        .collect();
    let (ends, scanned) = results.split_at_checked(1 + states).ok_or_else(malformed)?;
    node.input
        .iter_mut()
        .skip(1)
        .zip(ends)
        .for_each(|(slot, end)| slot.clone_from(end));
    node.input.extend(scanned.iter().cloned());
    node.attribute.retain(|attribute| attribute.name() != TURNS);
    node.attribute.push(AttributeProto::int(TURNS, turns + 1));
    Ok(())
}

/// Stores the number of a turn, and that it goes on, as constants; gives their names.
fn turn_and_condition(
    turn: i64,
    graph: &mut GraphProto,
    seen: &mut LoopUses,
    lowering: &mut Lowering,
) -> [String; 2] {
    let mut constant = |hint: &str, tensor: TensorRef| {
        let name = lowering.names.fresh(hint);
        seen.constant(graph, tensor.to_proto(&name));
        name
    };
    let at = constant(
        "turn",
        TensorRef {
            dims: Vec::new(),
            ..TensorRef::from_i64(vec![1], &[turn])
        },
    );
    let goes = constant(
        "goes",
        TensorRef {
            dtype: Dtype::Bool,
            dims: Vec::new(),
            bytes: vec![1u8].into(),
        },
    );
    [at, goes]
}

/// Gives the outputs; false where an output that scans has no turn to show its shape.
fn finish(
    node: &NodeProto,
    body: &GraphProto,
    graph: &mut GraphProto,
    nodes: &mut Vec<NodeProto>,
    lowering: &mut Lowering,
) -> bool {
    let states = body.input.len().saturating_sub(2);
    let scans = body.output.len().saturating_sub(1 + states);
    let scanned = node.input.get(2 + states..).unwrap_or(&[]);
    if scans > 0 && scanned.is_empty() {
        return false;
    }
    let opset = lowering.opset;
    let mut builder = GraphBuilder::new(&mut lowering.names, opset);
    for (slot, state) in node.input.iter().skip(2).take(states).enumerate() {
        builder.bind_output(state, node, slot);
    }
    for scan in 0..scans {
        let rows: Vec<String> = scanned
            .iter()
            .skip(scan)
            .step_by(scans)
            .map(|row| builder.unsqueeze(row, &[0]))
            .collect();
        let rows: Vec<&str> = rows.iter().map(String::as_str).collect();
        let all = builder.concat(&rows, 0);
        builder.bind_output(&all, node, states + scan);
    }
    nodes.extend(builder.nodes);
    graph.initializer.extend(builder.constants);
    true
}
