//! Recurrent nets that run backwards: tract reads no direction, and would run them forwards.

use super::rule::{Change, LoweringRule, Site};
use crate::model::edit::NodeExt;
use crate::proto::NodeProto;
use crate::run::Unverifiable;

pub(super) const RULES: &[LoweringRule] = &[
    LoweringRule::code("", "LSTM", backwards),
    LoweringRule::code("", "GRU", backwards),
    LoweringRule::code("", "RNN", backwards),
];

/// Turns the sequence round, runs forwards, and turns the outputs back.
fn backwards(node: &NodeProto, site: &mut Site) -> Result<Change, Unverifiable> {
    if node
        .string("direction")
        .is_none_or(|direction| !direction.eq_ignore_ascii_case("reverse"))
    {
        return Ok(Change::Unchanged);
    }
    let Some(x) = node.input(0) else {
        return Ok(Change::Unchanged);
    };
    // Time is the first axis, or the second in the layout that puts the batch first.
    let axis = node.int_or("layout", 0);
    let builder = &mut site.builder;
    let round = (-1, -i64::MAX, -1);
    let turned = builder.slice(x, axis, round);
    let mut forwards = node.clone();
    forwards
        .attribute
        .retain(|attribute| attribute.name() != "direction");
    forwards.input[0] = turned;
    let all = node.output(0).map(str::to_owned);
    let fresh = builder.names.fresh("Y");
    if all.is_some() {
        forwards.output[0] = fresh.clone();
    }
    builder.nodes.push(forwards);
    if all.is_some() {
        let turned = builder.slice(&fresh, axis, round);
        builder.bind_output(&turned, node, 0);
    }
    Ok(Change::Replaced)
}
