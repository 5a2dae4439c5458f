//! Which units have equal slices: numbers for slices, equal where the slices are, carried through the graph like bounds.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use rayon::prelude::*;

use super::carry::{Carried, InputPlace};
use crate::clean::is_constant;
use crate::model::{NodeId, TensorRef, ValueId};
use crate::ops::{Flow, meaning};
use crate::relation::Port;

/// A number of a slice. Of the units of a model, few enough to be stored, two that differ do not meet by chance.
pub(super) type SliceHash = u64;

/// By axis and group, the hash of what lies at each unit's indices of that axis.
type Hashes = BTreeMap<(usize, usize), Arc<[SliceHash]>>;

/// Hashes of the slices of every value that is a constant or follows from its inputs slice by slice.
pub(super) struct Same {
    values: Vec<Hashes>,
}

/// What stands for an input that all units read alike, and for one that the unit has no part in.
const SHARED: SliceHash = 1;
const ABSENT: SliceHash = 2;

impl Same {
    /// Hashes constants, and carries what they say through all nodes in order.
    pub fn new(carried: &Carried) -> Self {
        let index = carried.model.index();
        let ids: Vec<ValueId> = index.values().map(|(value, _)| value).collect();
        let values = ids
            .into_par_iter()
            .map(|value| of_constant(carried, value).unwrap_or_default())
            .collect();
        let mut same = Same { values };
        for (node, entry) in index.nodes() {
            let Some(output) = entry.output(0) else {
                continue;
            };
            if carried.model.tensor_proto(output).is_none() && is_understood(carried, node) {
                let found = same.output(carried, node, output);
                same.values[output.index()] = found;
            }
        }
        same
    }

    /// The hash of a unit's slice; `None` where nothing is known of it.
    pub fn slice(
        &self,
        value: ValueId,
        axis: usize,
        group: usize,
        unit: usize,
    ) -> Option<SliceHash> {
        self.values[value.index()]
            .get(&(axis, group))?
            .get(unit)
            .copied()
    }

    fn output(&self, carried: &Carried, node: NodeId, output: ValueId) -> Hashes {
        let mut hashes = Hashes::new();
        let inputs = &carried.model.index().node(node).inputs;
        let relation = &carried.analysis.relations[node.index()];
        let layouts = relation.ports.get(&Port::Out(0)).into_iter();
        for (axis, layout) in layouts.flat_map(|layout| &layout.axes).enumerate() {
            let Some(space) = carried.analysis.spaces.axis(output, axis) else {
                continue;
            };
            for group in carried.membership.groups(space) {
                let places = carried.places(node, inputs, layout, group);
                let of_unit = |unit: usize| {
                    let parts =
                        inputs
                            .iter()
                            .zip(&places)
                            .map(|(input, place)| match (input, place) {
                                (None, _) | (_, InputPlace::Whole) => Some(SHARED),
                                (_, InputPlace::Elsewhere) => Some(ABSENT),
                                (Some(value), InputPlace::Along(axis)) => {
                                    self.slice(*value, *axis, group, unit)
                                }
                            });
                    Some(combined(&parts.collect::<Option<Vec<_>>>()?))
                };
                let units = 0..carried.membership.count(group);
                if let Some(units) = units.map(of_unit).collect::<Option<Vec<_>>>() {
                    hashes.insert((axis, group), units.into());
                }
            }
        }
        hashes
    }
}

/// Whether equal slices of the inputs give equal slices of the first output, as the meaning of the operator says.
fn is_understood(carried: &Carried, node: NodeId) -> bool {
    let entry = carried.model.index().node(node);
    let known = meaning(carried.model.node(node));
    let is_known = known.flow != Flow::Other || known.product.is_some() || known.constant.is_some();
    let trains = known.flow == Flow::Dropped && entry.inputs.len() > 2;
    is_known && !trains && !known.draws && entry.subgraphs.is_empty()
}

fn combined(parts: &[SliceHash]) -> SliceHash {
    let mut hasher = DefaultHasher::new();
    parts.hash(&mut hasher);
    hasher.finish()
}

/// Hashes of the slices of a constant. `None`: it is none, no unit is cut from it, or its elements are no whole bytes.
fn of_constant(carried: &Carried, value: ValueId) -> Option<Hashes> {
    let proto = carried
        .model
        .tensor_proto(value)
        .filter(|_| is_constant(carried.model, value))?;
    let spaces: Vec<_> = carried
        .analysis
        .spaces
        .axes(value)
        .take(proto.dims.len())
        .collect();
    let groups: Vec<BTreeSet<usize>> = spaces
        .iter()
        .map(|space| carried.membership.groups(*space).into_iter().collect())
        .collect();
    if groups.iter().all(BTreeSet::is_empty) {
        return None;
    }
    let tensor = TensorRef::from_proto(proto).ok()?;
    let size = tensor.dtype.bits() / 8;
    if size == 0 || tensor.bytes.len() != tensor.elements() * size {
        return None;
    }
    let mut hashes = Hashes::new();
    for (axis, (space, groups)) in spaces.iter().zip(&groups).enumerate() {
        if groups.is_empty() {
            continue;
        }
        let length = tensor.dims[axis];
        let rows = by_index(&tensor, axis, size);
        let members = carried.membership.of_indices(*space, length);
        for group in groups {
            let mut units: Vec<Vec<SliceHash>> = vec![Vec::new(); carried.membership.count(*group)];
            for (member, row) in members.iter().zip(&rows) {
                if let Some((_, unit)) = member.filter(|(other, _)| other == group) {
                    units[unit as usize].push(*row);
                }
            }
            let units: Arc<[SliceHash]> = units.iter().map(|rows| combined(rows)).collect();
            hashes.insert((axis, *group), units);
        }
    }
    Some(hashes)
}

/// The hash of what lies at each index of an axis.
fn by_index(tensor: &TensorRef, axis: usize, size: usize) -> Vec<SliceHash> {
    let length = tensor.dims[axis];
    let block = size * tensor.dims[axis + 1..].iter().product::<usize>();
    let mut hashers = vec![DefaultHasher::new(); length];
    for (row, bytes) in tensor.bytes.chunks(block.max(1)).enumerate() {
        if let Some(hasher) = hashers.get_mut(row % length.max(1)) {
            hasher.write(bytes);
        }
    }
    hashers.iter().map(DefaultHasher::finish).collect()
}
