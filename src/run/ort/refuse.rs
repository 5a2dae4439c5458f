//! Models that would not end in ONNX Runtime, or end it.

use crate::model::{Model, NodeId, normal_domain};
use crate::run::Unverifiable;

/// Turns of a loop beyond which a model is not run.
const TURNS: i64 = 1 << 20;

/// Operators that take any number of operands. ONNX Runtime checks that all operands of the others are there; of these it reads
/// one that is not.
const VARIADIC: [&str; 7] = [
    "Concat",
    "Einsum",
    "Max",
    "Mean",
    "Min",
    "SequenceConstruct",
    "Sum",
];

/// Errors: a loop that would not end, an operand that is not there.
pub(super) fn refuse(model: &Model) -> Result<(), Unverifiable> {
    refuse_absent(model)?;
    refuse_endless(model)
}

pub(super) fn is_loop(model: &Model, node: NodeId) -> bool {
    let message = model.node(node);
    message.op_type() == "Loop" && normal_domain(message.domain()).is_empty()
}

/// Errors: a loop that would not end.
fn refuse_endless(model: &Model) -> Result<(), Unverifiable> {
    for (node, entry) in model
        .index()
        .nodes()
        .filter(|(node, _)| is_loop(model, *node))
    {
        let trips = entry
            .input(0)
            .and_then(|value| model.constant(value)?.to_i64()?.first().copied());
        if let Some(trips) = trips.filter(|trips| *trips > TURNS) {
            return Err(Unverifiable::new(format!(
                "{}: up to {trips} turns are more than are run here",
                model.node_label(node)
            )));
        }
    }
    Ok(())
}

/// Errors: an operand left out where there may be any number of them.
fn refuse_absent(model: &Model) -> Result<(), Unverifiable> {
    let variadic = |node: NodeId| {
        let message = model.node(node);
        VARIADIC.contains(&message.op_type()) && normal_domain(message.domain()).is_empty()
    };
    let absent = model
        .index()
        .nodes()
        .find(|(node, entry)| variadic(*node) && entry.inputs.iter().any(Option::is_none));
    match absent {
        Some((node, _)) => Err(Unverifiable::new(format!(
            "{} lacks an operand",
            model.node_label(node)
        ))),
        None => Ok(()),
    }
}
