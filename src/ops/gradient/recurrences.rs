//! Recurrent layers with their usual functions.

use super::FunctionTable;
use crate::gradient::{CellKind, Function, RecurrentLayer};
use crate::ops::NodeView;

pub(super) const TABLE: FunctionTable = &[
    ("", "LSTM", |node, at| {
        // Peepholes are read beside the states.
        let couples = node.int("input_forget").unwrap_or(0) != 0;
        if couples || node.has_input(7) {
            None
        } else {
            recurrent(node, at, CellKind::Lstm)
        }
    }),
    ("", "GRU", |node, at| {
        let resets_product = node.int("linear_before_reset").unwrap_or(0) != 0;
        recurrent(node, at, CellKind::Gru { resets_product })
    }),
];

/// All hidden states (the first output), or the last ones (the second); none with functions, clips, lengths or a layout of the
/// model's own.
fn recurrent(node: &NodeView, output: usize, cell: CellKind) -> Option<Box<dyn Function>> {
    let own = ["activations", "activation_alpha", "activation_beta", "clip"];
    let is_plain = own.iter().all(|name| node.attribute(name).is_none())
        && node.int("layout").unwrap_or(0) == 0
        && !node.has_input(4);
    let reversed = match node.string("direction").unwrap_or("forward") {
        "forward" => vec![false],
        "reverse" => vec![true],
        "bidirectional" => vec![false, true],
        _ => return None,
    };
    (is_plain && output < 2).then(|| {
        Box::new(RecurrentLayer {
            cell,
            reversed,
            gives_last: output == 1,
        }) as Box<dyn Function>
    })
}
