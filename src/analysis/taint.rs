//! Values computed from an extent that a cut changes: who may read them, and which cut is at fault where one may not.

use std::collections::BTreeSet;

use super::infer::view;
use super::known;
use super::rewrite::{Failure, Rewriter};
use super::spaces::SpaceId;
use crate::facts::Dim;
use crate::model::{NodeId, Origin, ValueId};
use crate::ops::{Demand, Flow, NodeEdit, flow, lookup, meaning};
use crate::proto::Dtype;
use crate::relation::Reason;

impl Rewriter<'_> {
    /// What a rule does not demand of a shape operand holds as it was: where such an operand was computed from an extent
    /// that changed, its old numbers are demanded.
    pub(super) fn restore(&self, node: NodeId, edit: &mut NodeEdit) {
        let entry = self.original.index().node(node);
        let message = self.original.node(node);
        let tainted = |input: u32| {
            let value = entry.input(input as usize)?;
            self.tainted[value.index()].then_some(value)
        };
        if !(0..entry.inputs.len() as u32).any(|input| tainted(input).is_some()) {
            return;
        }
        let view = view(self.original, &self.analysis.facts, node, true);
        let Some(operator) = lookup(message.domain(), message.op_type()) else {
            return;
        };
        let target = operator.shape_operand(&view);
        for input in operator
            .shape_inputs(&view)
            .into_iter()
            .filter(|input| Some(*input) != target)
        {
            let Some(contents) =
                tainted(input).and_then(|value| self.analysis.facts.of(value).contents.as_ref())
            else {
                continue;
            };
            let mut old: Vec<Option<Dim>> = contents
                .0
                .iter()
                .map(|element| element.dim().filter(|dim| dim.num().is_some()))
                .collect();
            let accepted = edit
                .accepted
                .iter()
                .find(|accepted| accepted.input == input);
            let now = tainted(input).and_then(|value| self.facts.of(value).contents.as_ref());
            if let (Some(accepted), Some(now)) = (accepted, now) {
                for ((old, accepted), now) in
                    old.iter_mut().zip(&accepted.elements).zip(now.0.iter())
                {
                    if accepted.is_some() && *accepted == now.dim() {
                        *old = None;
                    }
                }
            }
            demand_old(edit, input, old);
        }
    }

    /// An extent that a cut changes may be used to compute shapes, never as a number of the computation itself (a scale
    /// 1/√d, say): there the cut would change what the rest of the model computes.
    pub(super) fn follow_taint(&mut self, node: NodeId) {
        let entry = self.original.index().node(node);
        let message = self.original.node(node);
        let changed = |rewriter: &Self, value: ValueId| {
            rewriter.facts.of(value).contents != rewriter.analysis.facts.of(value).contents
        };
        if meaning(message).reads_extents {
            for output in entry.outputs.iter().flatten() {
                self.tainted[output.index()] = changed(self, *output);
            }
            return;
        }
        let shape_inputs = match lookup(message.domain(), message.op_type()) {
            Some(operator) => {
                operator.shape_inputs(&view(self.original, &self.analysis.facts, node, true))
            }
            None => Vec::new(),
        };
        let read = |(at, value): (usize, &Option<ValueId>)| {
            value
                .filter(|value| self.tainted[value.index()] && !shape_inputs.contains(&(at as u32)))
        };
        let read: Vec<ValueId> = entry.inputs.iter().enumerate().filter_map(read).collect();
        if read.is_empty() {
            return;
        }
        let may_turn = self.may_turn(node, &read);
        // One number on its way to be used, or whole numbers of a shape; a tensor that it scales is where it is used.
        let followed = |output: &ValueId| {
            let fact = self.facts.of(*output);
            let scaled = fact.dtype.is_some_and(|dtype| dtype.is_float());
            !may_turn
                && fact
                    .contents
                    .as_ref()
                    .is_some_and(|contents| !scaled || contents.0.len() == 1)
        };
        if !entry.outputs.iter().flatten().all(followed) && self.keep_numbers(node, &read) {
            return;
        }
        for output in entry.outputs.iter().flatten() {
            if self.facts.of(*output).contents.is_some() && !may_turn {
                self.tainted[output.index()] = changed(self, *output);
            } else {
                let mut spaces = Vec::new();
                read.iter()
                    .for_each(|value| self.blame(*value, &mut spaces));
                let what = format!(
                    "{}, which computes with an extent",
                    self.original.node_label(node)
                );
                self.failures.push(Failure {
                    node,
                    spaces,
                    reason: Reason::Demand(what),
                });
            }
        }
    }

    /// A single real number that was worked out from an extent (a scale 1/√d) stays what it was: it is written down where it is
    /// used. False, with nothing done, where the node reads anything else that was.
    fn keep_numbers(&mut self, node: NodeId, read: &[ValueId]) -> bool {
        let numbers = |value: &ValueId| {
            let tensor = known::tensor_of(self.analysis.facts.of(*value))?;
            (tensor.dtype == Dtype::Float && tensor.dims.iter().product::<usize>() == 1)
                .then_some((*value, tensor))
        };
        let Some(numbers) = read.iter().map(numbers).collect::<Option<Vec<_>>>() else {
            return false;
        };
        let inputs = self.original.index().node(node).inputs.clone();
        for (value, tensor) in numbers {
            for at in (0..inputs.len()).filter(|at| inputs[*at] == Some(value)) {
                self.operands.write(self.model, node, at as u32, &tensor);
            }
        }
        self.infer(node);
        true
    }

    /// The cut axes, of any value, whose extents have reached the inputs of a node.
    pub(super) fn blame_inputs(&self, node: NodeId, spaces: &mut Vec<SpaceId>) {
        for input in self
            .original
            .index()
            .node(node)
            .inputs
            .iter()
            .flatten()
            .filter(|input| self.tainted[input.index()])
        {
            self.blame(*input, spaces);
        }
    }

    /// Whether an extent is compared with a number that a deeper cut may take it below, so that a trial cut tells nothing.
    fn may_turn(&self, node: NodeId, read: &[ValueId]) -> bool {
        if !matches!(
            flow(self.original.node(node)),
            Flow::Largest | Flow::Smallest
        ) {
            return false;
        }
        let inputs = self.original.index().node(node).inputs.iter().flatten();
        let numbers = |value: &ValueId| {
            self.analysis
                .facts
                .of(*value)
                .contents
                .as_ref()
                .and_then(|contents| contents.numbers())
        };
        let others: Vec<i64> = inputs
            .filter(|input| !read.contains(input))
            .filter_map(numbers)
            .flatten()
            .collect();
        let mut extents = read.iter().filter_map(numbers).flatten();
        extents.any(|extent| others.iter().any(|other| (2..=extent).contains(other)))
    }

    /// The cut axes whose extent a tainted value was computed from.
    fn blame(&self, value: ValueId, spaces: &mut Vec<SpaceId>) {
        let mut seen = BTreeSet::from([value]);
        let mut open = vec![value];
        while let Some(value) = open.pop() {
            let Origin::Output(node, _) = self.original.index().value(value).origin else {
                continue;
            };
            let inputs = self.original.index().node(node).inputs.iter().flatten();
            if meaning(self.original.node(node)).reads_extents {
                for input in inputs {
                    let axes = self.analysis.spaces.axes(*input);
                    let cut = |space: &SpaceId| {
                        self.selection
                            .indices(&self.analysis.spaces, &self.analysis.classes, *space)
                            .is_some()
                    };
                    spaces.extend(axes.filter(cut));
                }
            } else {
                open.extend(
                    inputs.filter(|input| self.tainted[input.index()] && seen.insert(**input)),
                );
            }
        }
    }
}

/// Demands old numbers of an input, where its rule demands nothing else of the same elements.
fn demand_old(edit: &mut NodeEdit, input: u32, old: Vec<Option<Dim>>) {
    match edit.demands.iter_mut().find(|demand| demand.input == input) {
        Some(demand) if demand.elements.len() == old.len() => {
            demand
                .elements
                .iter_mut()
                .zip(old)
                .for_each(|(wanted, old)| *wanted = wanted.take().or(old));
        }
        Some(_) => {}
        None => edit.demands.push(Demand {
            input,
            elements: old,
            whole: false,
        }),
    }
}
