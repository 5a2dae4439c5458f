//! Inputs that hold ids of tokens: where their numbers go, and which axes of tables they count.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::freeze::{Allowed, Holder};
use super::infer::Facts;
use super::relate::port_value;
use crate::model::edit::NodeExt;
use crate::model::{Index, Model, NodeId, ValueId};
use crate::ops::{Along, Flow, NodeView, Pick, meaning};
use crate::relation::{Fate, LabelId, Port, Relation};

/// The ends of a model that speak of tokens by their ids: their rows may go, where the ids are counted anew.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TokenEnds {
    /// Inputs that hold ids.
    pub inputs: BTreeSet<String>,
    /// Axes of outputs that have an entry for each token.
    pub outputs: Allowed,
}

/// Which rows of a vocabulary stay.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct KeptTokens {
    /// The ends that speak of them.
    pub ends: TokenEnds,
    /// How many rows there are.
    pub rows: usize,
    /// Ids that stay, ascending, each once.
    pub kept: Vec<u32>,
}

/// An axis that the ids of an input count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct TokenAxis {
    /// The input that holds the ids.
    pub input: ValueId,
    /// The table.
    pub table: ValueId,
    /// The node that picks by them.
    pub node: NodeId,
    /// The axis that it picks from.
    pub label: LabelId,
}

/// The axes that the ids of these inputs count; none of an input whose numbers do more than pick.
pub(super) fn find(
    model: &Model,
    facts: &Facts,
    relations: &[Arc<Relation>],
    ends: &TokenEnds,
) -> Vec<TokenAxis> {
    let inputs = &model.index().graph(Index::MAIN).inputs;
    let named = inputs
        .iter()
        .filter(|value| ends.inputs.contains(&model.index().value(**value).name));
    named
        .flat_map(|input| picked(model, facts, relations, *input).unwrap_or_default())
        .collect()
}

/// The axes that the numbers of an input pick from.
///
/// Errors: a node that does more with them than to pick and to hand them on, or an output that gives them.
pub fn picked(
    model: &Model,
    facts: &Facts,
    relations: &[Arc<Relation>],
    input: ValueId,
) -> Result<Vec<TokenAxis>, Holder> {
    let (mut seen, mut waiting) = (BTreeSet::from([input]), vec![input]);
    let mut axes = Vec::new();
    while let Some(value) = waiting.pop() {
        let entry = model.index().value(value);
        if entry.is_output {
            return Err(Holder::End(value));
        }
        for (node, slot) in &entry.readers {
            let relation = &relations[node.index()];
            match read(model, facts, relation, (*node, *slot)) {
                IdUse::Extents => {}
                IdUse::Picks(table, label) => axes.push(TokenAxis {
                    input,
                    table,
                    node: *node,
                    label,
                }),
                IdUse::HandsOn(output) => {
                    if seen.insert(output) {
                        waiting.push(output);
                    }
                }
                IdUse::Computes => return Err(Holder::Node(*node)),
            }
        }
    }
    axes.sort();
    Ok(axes)
}

/// What a node does with ids.
enum IdUse {
    /// It looks at their shape alone.
    Extents,
    /// It picks along this axis of another input.
    Picks(ValueId, LabelId),
    /// It gives them, or some of them, here.
    HandsOn(ValueId),
    /// It takes them for numbers.
    Computes,
}

fn read(model: &Model, facts: &Facts, relation: &Relation, (node, slot): (NodeId, u32)) -> IdUse {
    let message = model.node(node);
    let known = meaning(message);
    if known.reads_extents {
        return IdUse::Extents;
    }
    if let Some(pick) = known.picks.iter().find(|pick| pick.indices == slot) {
        let axis = match pick.along {
            Along::Axis(attribute) => message.int(attribute).unwrap_or(0),
            Along::Rows => 0,
            Along::Each(_) | Along::Depth => return IdUse::Computes,
        };
        let table = port_value(model, node, Port::In(pick.table));
        return match table.zip(axis_label(relation, pick, axis)) {
            Some((table, label)) => IdUse::Picks(table, label),
            None => IdUse::Computes,
        };
    }
    let output = port_value(model, node, Port::Out(0));
    let is_whole = |value: &ValueId| {
        facts
            .of(*value)
            .dtype
            .is_some_and(|dtype| dtype.is_integer())
    };
    let hands_on = match known.flow {
        Flow::Same | Flow::Dropped | Flow::Reshaped | Flow::Permuted | Flow::Picked => true,
        Flow::Converted => output.as_ref().is_some_and(is_whole),
        Flow::Moved => adds_nothing(relation),
        _ => false,
    };
    match output.filter(|_| slot == 0 && hands_on) {
        Some(output) => IdUse::HandsOn(output),
        None => IdUse::Computes,
    }
}

/// The index space of the axis that a node picks from, if what it gives does not have it.
fn axis_label(relation: &Relation, pick: &Pick, axis: i64) -> Option<LabelId> {
    let table = relation.ports.get(&Port::In(pick.table))?;
    let mut labels = table
        .axes
        .get(NodeView::axis(axis, table.axes.len())?)?
        .labels();
    let (label, None) = (labels.next()?, labels.next()) else {
        return None;
    };
    let given = |(port, layout): (&Port, &crate::relation::PortLayout)| {
        matches!(port, Port::Out(_))
            && layout
                .axes
                .iter()
                .any(|axis| axis.labels().any(|other| other == label))
    };
    (!relation.ports.iter().any(given)).then_some(label)
}

/// Whether all that a node gives are entries of its first input: it fills in none.
fn adds_nothing(relation: &Relation) -> bool {
    let labels = |port: Port| -> Option<BTreeSet<LabelId>> {
        let axes = &relation.ports.get(&port)?.axes;
        Some(axes.iter().flat_map(|axis| axis.labels()).collect())
    };
    let (Some(read), Some(given)) = (labels(Port::In(0)), labels(Port::Out(0))) else {
        return false;
    };
    let is_fixed = |label: &LabelId| matches!(relation.label(*label).fate, Fate::Fixed(_));
    given
        .iter()
        .all(|label| read.contains(label) && !is_fixed(label))
}
