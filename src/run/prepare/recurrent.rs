//! Recurrent nets that run backwards: tract reads no direction, and would run them forwards.

use super::node::{input, int_or, output, text};
use super::rules::{Entry, Outcome, Site};
use crate::proto::NodeProto;
use crate::run::Unverifiable;

pub(super) const RULES: &[Entry] = &[
    ("", "LSTM", backwards),
    ("", "GRU", backwards),
    ("", "RNN", backwards),
];

/// Turns the sequence round, runs forwards, and turns the outputs back.
fn backwards(node: &NodeProto, site: &mut Site) -> Result<Outcome, Unverifiable> {
    if text(node, "direction").is_none_or(|direction| !direction.eq_ignore_ascii_case("reverse")) {
        return Ok(Outcome::Leave);
    }
    let Some(x) = input(node, 0) else {
        return Ok(Outcome::Leave);
    };
    // Time is the first axis, or the second in the layout that puts the batch first.
    let axis = int_or(node, "layout", 0);
    let wire = &mut site.wire;
    let round = (-1, -i64::MAX, -1);
    let turned = wire.slice(x, axis, round);
    let mut forwards = node.clone();
    forwards
        .attribute
        .retain(|attribute| attribute.name() != "direction");
    forwards.input[0] = turned;
    let all = output(node, 0).map(str::to_owned);
    let fresh = wire.names.fresh("Y");
    if all.is_some() {
        forwards.output[0] = fresh.clone();
    }
    wire.nodes.push(forwards);
    if all.is_some() {
        let turned = wire.slice(&fresh, axis, round);
        wire.give(&turned, node, 0);
    }
    Ok(Outcome::Done)
}
