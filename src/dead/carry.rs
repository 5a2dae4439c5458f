//! Bounds carried through the graph: what each node makes of what is known of its inputs, slice by slice.

use std::collections::BTreeMap;

use rayon::prelude::*;

use super::interval::Interval;
use super::membership::Membership;
use super::numbers::Numbers;
use super::transfer::transfer;
use crate::analysis::{Analysis, SpaceId, port_value};
use crate::model::{Model, NodeId, ValueId};
use crate::ops::{Flow, flow};
use crate::relation::{LabelId, Layout, Port};

/// What is known of the numbers of every value.
pub(super) struct Carried<'a> {
    pub model: &'a Model,
    pub analysis: &'a Analysis,
    pub membership: &'a Membership<'a>,
    values: Vec<Numbers>,
}

/// What is known of one input where the output is looked at; `None` where the input is absent.
pub(super) type Look<'a> = dyn Fn(usize) -> Option<Interval> + 'a;

/// Where an input is looked at: at the units of a group along one of its axes, as a whole, or not at all, since what the output
/// has there comes from other inputs.
#[derive(Clone, Copy)]
pub(super) enum Place {
    Along(usize),
    Whole,
    Elsewhere,
}

impl<'a> Carried<'a> {
    /// Reads the constants, and carries what they say through all nodes in order.
    pub fn new(model: &'a Model, analysis: &'a Analysis, membership: &'a Membership<'a>) -> Self {
        let ids: Vec<ValueId> = model.index().values().map(|(value, _)| value).collect();
        let read = |value: ValueId| Numbers::of_constant(model, analysis, membership, value);
        let values = ids
            .into_par_iter()
            .map(|value| read(value).unwrap_or(Numbers::UNKNOWN))
            .collect();
        let mut carried = Carried {
            model,
            analysis,
            membership,
            values,
        };
        for (node, entry) in model.index().nodes() {
            let Some(output) = entry.outputs.first().copied().flatten() else {
                continue;
            };
            if model.tensor_proto(output).is_none() && entry.subgraphs.is_empty() {
                let found = carried.output(node, output);
                carried.values[output.index()] = found;
            }
        }
        carried
    }

    /// What is known of a value.
    pub fn of(&self, value: ValueId) -> &Numbers {
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

    /// What a node makes of its inputs, in its first output.
    fn output(&self, node: NodeId, output: ValueId) -> Numbers {
        let inputs = self.model.index().node(node).inputs.clone();
        let whole = transfer(self, node, &|input| {
            let value = inputs.get(input).copied().flatten()?;
            Some(self.of(value).whole)
        });
        let mut numbers = Numbers {
            whole,
            slices: BTreeMap::new(),
        };
        let relation = &self.analysis.relations[node.index()];
        let Some(layout) = relation.ports.get(&Port::Out(0)) else {
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
    ) -> Vec<Place> {
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
            Some(axis) => Place::Along(axis),
            None if joins => Place::Elsewhere,
            None => Place::Whole,
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
            transfer(self, node, &|input| {
                let numbers = self.of(inputs.get(input).copied().flatten()?);
                Some(match places.get(input)? {
                    Place::Along(axis) => numbers.slice(*axis, group, unit),
                    Place::Whole => numbers.whole,
                    Place::Elsewhere => Interval::NONE,
                })
            })
        };
        (0..self.membership.count(group)).map(of_unit).collect()
    }
}
