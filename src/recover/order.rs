//! Which layers are fitted in one pass over the data: those that do not depend on each other.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::{Model, NodeId, Origin, ValueId};

/// For each layer how many layers lie before it, at most, and for any value the same. Values no layer leads to have depth 0.
#[derive(Debug, Default)]
pub(super) struct Depths {
    of: BTreeMap<ValueId, usize>,
    /// Values that depend on the model's inputs.
    varying: BTreeSet<ValueId>,
}

impl Depths {
    /// Depths of all values of the main graph, where a pass fits each of these layers. What lies between two layers that one
    /// pass fits together, and the second of them, is as deep as the first.
    pub fn new(model: &Model, layers: impl Iterator<Item = NodeId>) -> Self {
        let is_layer: BTreeSet<NodeId> = layers.collect();
        let mut depths = Depths::default();
        for node in &model.index().graph(crate::model::Index::MAIN).nodes {
            let entry = model.index().node(*node);
            let mut before = entry
                .inputs
                .iter()
                .flatten()
                .map(|input| depths.value(*input))
                .max()
                .unwrap_or(0);
            // What a subgraph reads from outside may be anything before it.
            if !entry.subgraphs.is_empty() {
                before = depths.of.values().copied().max().unwrap_or(0).max(before);
            }
            let reads = |input: &ValueId| depths.varies(model, *input);
            let varies = !entry.subgraphs.is_empty() || entry.inputs.iter().flatten().any(reads);
            let after = before + usize::from(is_layer.contains(node));
            entry.outputs.iter().flatten().for_each(|output| {
                depths.of.insert(*output, after);
                if varies {
                    depths.varying.insert(*output);
                }
            });
        }
        depths
    }

    /// Whether a value depends on the model's inputs. What does not is weights on their way to a layer (dequantized,
    /// transposed), which change as layers are mended.
    pub fn varies(&self, model: &Model, value: ValueId) -> bool {
        matches!(model.index().value(value).origin, Origin::Input(_))
            || self.varying.contains(&value)
    }

    /// How many layers lie on the longest way to a value.
    pub fn value(&self, value: ValueId) -> usize {
        self.of.get(&value).copied().unwrap_or(0)
    }
}
