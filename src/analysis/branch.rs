//! Whole branches: groups that may lose all of their units.
//!
//! Where every unit of a group is gone, the products that sum over it give their bias alone. Where all that is left of
//! the group then leads to nothing, and the bias may stand for the branch in a sum with what runs beside it, the branch
//! goes as a whole: the two convolutions of a residual block, an attention with all its heads, a feed-forward layer.

use std::collections::BTreeSet;

use super::{Analysis, Selection};
use crate::facts::Dim;
use crate::model::{Index, Model, NodeId, Origin, ValueId};
use crate::ops::{self, Flow, WeightRows, meaning};

/// What ends the branches of some groups, if these may lose all their units together: the products that give their
/// biases alone.
pub fn ends(model: &Model, analysis: &Analysis, groups: &[usize]) -> Option<Vec<NodeId>> {
    if groups.iter().any(|group| {
        analysis
            .groups
            .get(*group)
            .is_none_or(|group| group.lossy.is_some())
    }) {
        return None;
    }
    let all: Vec<(usize, Vec<u32>)> = groups
        .iter()
        .map(|group| {
            (
                *group,
                (0..analysis.groups[*group].units.len() as u32).collect(),
            )
        })
        .collect();
    let selection = analysis.select(all.iter().map(|(group, units)| (*group, units.as_slice())));
    let branch = BranchUses::new(model, analysis, &selection);
    let live = branch.live();
    let alive = |node: &NodeId| live[node.index()];
    let ends: Vec<NodeId> = branch
        .ends
        .iter()
        .copied()
        .filter(|node| {
            branch
                .output(*node)
                .is_some_and(|end| branch.is_read(end, &live))
        })
        .collect();
    let left = model
        .index()
        .nodes()
        .map(|(node, _)| node)
        .filter(alive)
        .any(|node| branch.touches(node));
    let seen = model
        .index()
        .values()
        .any(|(value, entry)| entry.is_output && branch.touched.contains(&value));
    (!ends.is_empty() && !left && !seen && branch.sums(&ends, &live)).then_some(ends)
}

struct BranchUses<'a> {
    model: &'a Model,
    analysis: &'a Analysis,
    /// Values that lose something.
    touched: BTreeSet<ValueId>,
    /// Products all of whose summed slices are gone.
    ends: BTreeSet<NodeId>,
}

impl<'a> BranchUses<'a> {
    fn new(model: &'a Model, analysis: &'a Analysis, selection: &Selection) -> Self {
        let mut branch = BranchUses {
            model,
            analysis,
            touched: BTreeSet::new(),
            ends: BTreeSet::new(),
        };
        let mut emptied = BTreeSet::new();
        for (value, _) in model.index().values() {
            let left: Vec<Dim> = (0..analysis.spaces.axes(value).count())
                .filter_map(|axis| analysis.new_extent(value, axis, selection))
                .collect();
            if !left.is_empty() {
                branch.touched.insert(value);
            }
            if left.contains(&Dim::from(0usize)) {
                emptied.insert(value);
            }
        }
        for (node, entry) in model.index().nodes() {
            let whole = entry.graph == Index::MAIN
                && entry
                    .inputs
                    .iter()
                    .flatten()
                    .any(|input| emptied.contains(input));
            if whole
                && branch
                    .output(node)
                    .is_some_and(|end| !branch.touched.contains(&end))
                && branch.leaves_its_bias(node)
            {
                branch.ends.insert(node);
            }
        }
        branch
    }

    fn output(&self, node: NodeId) -> Option<ValueId> {
        match self.model.index().node(node).outputs[..] {
            [output] => output,
            _ => None,
        }
    }

    /// Whether a node gives a constant bias, or nothing, where its products are gone.
    fn leaves_its_bias(&self, node: NodeId) -> bool {
        let message = self.model.node(node);
        let Some(product) = meaning(message)
            .product
            .filter(|product| matches!(product.rows, WeightRows::First | WeightRows::Last(_)))
        else {
            return false;
        };
        let Some(bias) = product.bias else {
            return true;
        };
        let inputs = &self.model.index().node(node).inputs;
        let constant = match inputs.get(bias.input as usize).copied().flatten() {
            None => None,
            Some(value) => match self.model.constant(value) {
                Some(tensor) if tensor.dtype.is_float() => Some(tensor),
                _ => return false,
            },
        };
        let Some(factor) = bias.factor else {
            return true;
        };
        let plain = message
            .attribute
            .iter()
            .all(|attribute| attribute.name() != factor || attribute.f() == 1.0);
        plain && constant.is_none_or(|bias| bias.dims.len() < 2 || bias.dims[0] == 1)
    }

    fn touches(&self, node: NodeId) -> bool {
        let entry = self.model.index().node(node);
        entry
            .inputs
            .iter()
            .chain(&entry.outputs)
            .flatten()
            .any(|value| self.touched.contains(value))
    }

    /// Nodes that the outputs need once the ends are constants. Nodes of subgraphs count as needed.
    fn live(&self) -> Vec<bool> {
        let index = self.model.index();
        let mut live = vec![false; index.nodes().count()];
        let mut waiting: Vec<ValueId> = index
            .values()
            .filter(|(_, entry)| entry.is_output && entry.graph == Index::MAIN)
            .map(|(value, _)| value)
            .collect();
        for (node, entry) in index
            .nodes()
            .filter(|(_, entry)| entry.graph != Index::MAIN || !entry.subgraphs.is_empty())
        {
            live[node.index()] = true;
            waiting.extend(entry.inputs.iter().flatten());
        }
        while let Some(value) = waiting.pop() {
            let Origin::Output(node, _) = index.value(value).origin else {
                continue;
            };
            if self.ends.contains(&node) || std::mem::replace(&mut live[node.index()], true) {
                continue;
            }
            waiting.extend(index.node(node).inputs.iter().flatten());
        }
        live
    }

    fn is_read(&self, value: ValueId, live: &[bool]) -> bool {
        let entry = self.model.index().value(value);
        entry.is_output || entry.readers.iter().any(|(reader, _)| live[reader.index()])
    }

    /// Whether the constants that the ends become, of extent 1 on all axes but the channels', meet something of full shape
    /// in a sum before anything asks for theirs.
    fn sums(&self, ends: &[NodeId], live: &[bool]) -> bool {
        let index = self.model.index();
        let mut constant: BTreeSet<ValueId> =
            ends.iter().filter_map(|node| self.output(*node)).collect();
        for node in index
            .graph(Index::MAIN)
            .nodes
            .iter()
            .filter(|node| live[node.index()])
        {
            let entry = index.node(*node);
            let varying: Vec<ValueId> = entry
                .inputs
                .iter()
                .flatten()
                .copied()
                .filter(|input| self.varies(*input, &constant))
                .collect();
            if !entry
                .inputs
                .iter()
                .flatten()
                .any(|input| constant.contains(input))
            {
                continue;
            }
            let full = |value: ValueId| self.analysis.facts.of(value).shape.as_ref();
            match (&varying[..], self.output(*node)) {
                ([], Some(output)) if self.is_entrywise(*node) => {
                    constant.insert(output);
                }
                // The other summand gives the sum its shape.
                ([other], Some(output))
                    if matches!(ops::flow(self.model.node(*node)), Flow::Add | Flow::Sub)
                        && full(*other).is_some()
                        && full(*other) == full(output) => {}
                _ => return false,
            }
        }
        let shown = |value: &ValueId| {
            index.value(*value).is_output
                || index
                    .value(*value)
                    .readers
                    .iter()
                    .any(|(reader, _)| index.node(*reader).graph != Index::MAIN)
        };
        !constant.iter().any(shown)
    }

    fn is_entrywise(&self, node: NodeId) -> bool {
        let message = self.model.node(node);
        ops::lookup(message.domain(), message.op_type())
            .is_some_and(|operator| operator.is_entrywise())
    }

    fn varies(&self, value: ValueId, constant: &BTreeSet<ValueId>) -> bool {
        !constant.contains(&value) && self.model.tensor_proto(value).is_none()
    }
}
