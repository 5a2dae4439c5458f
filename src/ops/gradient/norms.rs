//! Normalisations.

use super::{FunctionTable, MICROSOFT, first};
use crate::gradient::{Function, GroupedNorm, LayerNorm, StoredNorm};
use crate::ops::NodeView;

pub(super) const TABLE: FunctionTable = &[
    ("", "BatchNormalization", stored),
    ("", "InstanceNormalization", |node, at| {
        let epsilon = node.float("epsilon").unwrap_or(1e-5);
        let groups = None;
        first(at, GroupedNorm { groups, epsilon })
    }),
    ("", "GroupNormalization", |node, at| {
        let epsilon = node.float("epsilon").unwrap_or(1e-5);
        let groups = Some(usize::try_from(node.int("num_groups")?).ok()?);
        first(at, GroupedNorm { groups, epsilon })
    }),
    ("", "LayerNormalization", |node, at| rows(node, at, true)),
    ("", "RMSNormalization", |node, at| rows(node, at, false)),
    ("", "SimplifiedLayerNormalization", |node, at| {
        rows(node, at, false)
    }),
    (MICROSOFT, "LayerNormalization", |node, at| {
        rows(node, at, true)
    }),
    (MICROSOFT, "SimplifiedLayerNormalization", |node, at| {
        rows(node, at, false)
    }),
];

fn stored(node: &NodeView, output: usize) -> Option<Box<dyn Function>> {
    let by_batch = node.int("training_mode").unwrap_or(0) != 0;
    let epsilon = node.float("epsilon").unwrap_or(1e-5);
    (!by_batch)
        .then(|| first(output, StoredNorm { epsilon }))
        .flatten()
}

fn rows(node: &NodeView, output: usize, is_centred: bool) -> Option<Box<dyn Function>> {
    let axis = node.int("axis").unwrap_or(-1);
    let epsilon = node.float("epsilon").unwrap_or(1e-5);
    first(
        output,
        LayerNorm {
            axis,
            epsilon,
            is_centred,
        },
    )
}
