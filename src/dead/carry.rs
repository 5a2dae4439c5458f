//! Bounds carried through the graph: what each node makes of what is known of its inputs, slice by slice.

use std::collections::BTreeMap;

use rayon::prelude::*;

use super::interval::Interval;
use super::membership::Membership;
use super::numbers::KnownNumbers;
use super::transfer::transfer;
use crate::analysis::{Analysis, SpaceId, port_value};
use crate::model::{Model, NodeId, ValueId};
use crate::ops::{Flow, flow, meaning};
use crate::relation::{LabelId, Layout, Port};

/// What is known of the numbers of every value.
pub(super) struct Carried<'a> {
    pub model: &'a Model,
    pub analysis: &'a Analysis,
    pub membership: &'a Membership<'a>,
    values: Vec<KnownNumbers>,
}

/// Where an input is looked at: at the units of a group along one of its axes, as a whole, or not at all, since what the output
/// has there comes from other inputs.
#[derive(Clone, Copy)]
pub(super) enum InputPlace {
    Along(usize),
    Whole,
    Elsewhere,
}

impl<'a> Carried<'a> {
    /// Reads the constants, and carries what they say through all nodes in order.
    pub fn new(model: &'a Model, analysis: &'a Analysis, membership: &'a Membership<'a>) -> Self {
        let ids: Vec<ValueId> = model.index().values().map(|(value, _)| value).collect();
        let read = |value: ValueId| KnownNumbers::of_constant(model, analysis, membership, value);
        let values = ids
            .into_par_iter()
            .map(|value| read(value).unwrap_or(KnownNumbers::UNKNOWN))
            .collect();
        let mut carried = Carried {
            model,
            analysis,
            membership,
            values,
        };
        for (node, entry) in model.index().nodes() {
            // What a cell gives at all steps and at the last are the same numbers; of others the first output alone is known.
            let cell = meaning(model.node(node)).recurrence.is_some();
            let known = if cell { entry.outputs.len() } else { 1 };
            for (at, output) in entry.outputs.iter().enumerate().take(known) {
                let Some(output) = output else { continue };
                if model.tensor_proto(*output).is_none() && entry.subgraphs.is_empty() {
                    let found = carried.output(node, Port::Out(at as u32), *output);
                    carried.values[output.index()] = found;
                }
            }
        }
        carried
    }

    /// What is known of a value.
    pub fn of(&self, value: ValueId) -> &KnownNumbers {
        &self.values[value.index()]
    }

    /// The axes of a port that a label runs along, if a group is cut along all of them.
    pub fn axes_of(&self, node: NodeId, port: Port, label: LabelId, group: usize) -> Vec<usize> {
        let layout = self.analysis.relations[node.index()].ports.get(&port);
        let Some((layout, value)) = layout.zip(port_value(self.model, node, port)) else {
            return Vec::new();
        };
        let axes: Vec<usize> = (0..layout.axes.len())
            .filter(|axis| layout.axes[*axis].labels().any(|other| other == label))
            .collect();
        if axes.iter().all(|axis| self.carries(value, *axis, group)) {
            axes
        } else {
            Vec::new()
        }
    }

    fn carries(&self, value: ValueId, axis: usize, group: usize) -> bool {
        let space = self.analysis.spaces.axis(value, axis);
        space.is_some_and(|space: SpaceId| self.membership.groups(space).contains(&group))
    }

    /// What a node makes of its inputs, in one of its outputs.
    fn output(&self, node: NodeId, port: Port, output: ValueId) -> KnownNumbers {
        let inputs = self.model.index().node(node).inputs.clone();
        let whole = transfer(self.model, self.analysis, node, &|input| {
            let value = inputs.get(input).copied().flatten()?;
            Some(self.of(value).whole)
        });
        let mut numbers = KnownNumbers {
            whole,
            slices: BTreeMap::new(),
        };
        let relation = &self.analysis.relations[node.index()];
        let Some(layout) = relation.ports.get(&port) else {
            return numbers;
        };
        for (axis, layout) in layout.axes.iter().enumerate() {
            let Some(space) = self.analysis.spaces.axis(output, axis) else {
                continue;
            };
            for group in self.membership.groups(space) {
                let units = self.along(node, &inputs, layout, group);
                if units.iter().any(|unit| *unit != whole) {
                    numbers.slices.insert((axis, group), units.into());
                }
            }
        }
        numbers
    }

    /// Where each input of a node is looked at for the units of a group, along an axis of the first output of this layout.
    pub fn places(
        &self,
        node: NodeId,
        inputs: &[Option<ValueId>],
        layout: &Layout,
        group: usize,
    ) -> Vec<InputPlace> {
        let carries = |label: &LabelId| {
            let space = self.analysis.spaces.label(node, *label);
            self.membership.groups(space).contains(&group)
        };
        let labels: Vec<LabelId> = layout.labels().filter(carries).collect();
        let along = |input: usize| {
            let axes = |label: &LabelId| self.axes_of(node, Port::In(input as u32), *label, group);
            labels.iter().find_map(|label| axes(label).first().copied())
        };
        let axes: Vec<Option<usize>> = (0..inputs.len()).map(along).collect();
        let joins = flow(self.model.node(node)) == Flow::Joined && axes.iter().any(Option::is_some);
        let place = |axis: Option<usize>| match axis {
            Some(axis) => InputPlace::Along(axis),
            None if joins => InputPlace::Elsewhere,
            None => InputPlace::Whole,
        };
        axes.into_iter().map(place).collect()
    }

    /// What a node makes of each unit of a group, along an axis of this layout.
    fn along(
        &self,
        node: NodeId,
        inputs: &[Option<ValueId>],
        layout: &Layout,
        group: usize,
    ) -> Vec<Interval> {
        let places = self.places(node, inputs, layout, group);
        let of_unit = |unit: usize| {
            transfer(self.model, self.analysis, node, &|input| {
                let numbers = self.of(inputs.get(input).copied().flatten()?);
                Some(match places.get(input)? {
                    InputPlace::Along(axis) => numbers.slice(*axis, group, unit),
                    InputPlace::Whole => numbers.whole,
                    InputPlace::Elsewhere => Interval::NONE,
                })
            })
        };
        (0..self.membership.count(group)).map(of_unit).collect()
    }
}
