//! Weights of readers rewritten so that they read fewer units: what is constant goes into the bias, what is equal to another unit
//! is read there.

use std::collections::{BTreeMap, BTreeSet};

use super::carry::Carried;
use super::membership::Membership;
use super::readers::{UnitReader, readers};
use super::same::{Same, SliceHash};
use crate::analysis::Analysis;
use crate::clean::is_constant;
use crate::linear::{Bias, Linear, units_of_columns, views};
use crate::model::{Model, NodeId};
use crate::proto::Dtype;
use crate::workspace::Workspace;

/// What becomes of the columns of a unit.
#[derive(Clone, Copy, Debug)]
enum ColumnChange {
    /// They go into the bias, times this number.
    Bias(f64),
    /// They are added to those of this unit.
    Onto(u32),
}

/// By reader, by group and unit.
type ColumnChanges = BTreeMap<NodeId, BTreeMap<(usize, u32), ColumnChange>>;

/// Rewrites the weights of a workspace's model; the outputs stay. False: a weight could not be written, and the model is half
/// rewritten.
pub(super) fn fold(workspace: &mut Workspace) -> bool {
    let Workspace {
        working, analysis, ..
    } = workspace;
    let membership = Membership::new(analysis);
    let views: BTreeMap<NodeId, Linear> = views(working, &analysis.relations)
        .into_iter()
        .filter(|view| is_rewritable(working, analysis, view))
        .map(|view| (view.node, view))
        .collect();
    let changes = changes(&Carried::new(working, analysis, &membership), &views);
    let written = |(node, changes)| {
        let view = views.get(node)?;
        rewrite(working, analysis, &membership, view, changes)
    };
    changes.iter().map(written).all(|written| written.is_some())
}

/// Whether a product is all that its node computes, by a weight that nobody else reads.
fn is_rewritable(model: &Model, analysis: &Analysis, view: &Linear) -> bool {
    let is_float = model
        .constant(view.weight.constant)
        .is_some_and(|constant| constant.dtype == Dtype::Float);
    is_float
        && is_constant(model, view.weight.constant)
        && view.output.is_some()
        && view.weight.is_own()
        && analysis.relations[view.node.index()].terms.len() == 1
}

/// Whether a window covers nothing beyond the border, so that a constant gives the same everywhere.
fn has_no_border(analysis: &Analysis, node: NodeId) -> bool {
    let windows = analysis.relations[node.index()]
        .terms
        .iter()
        .filter_map(|term| term.window.as_ref());
    windows
        .into_iter()
        .all(|window| !window.pads.is_empty() && window.pads.iter().all(|pad| *pad == 0))
}

/// What of the graph decides on changes.
struct Folding<'a> {
    carried: &'a Carried<'a>,
    same: Same,
    views: &'a BTreeMap<NodeId, Linear>,
}

impl Folding<'_> {
    /// What becomes of a unit at a reader where it is constant; `None` where it is not, or there is no bias to take it.
    fn bias_change(&self, reader: &UnitReader, unit: usize) -> Option<ColumnChange> {
        let number = reader.constant(unit)?;
        let view = self.views.get(&reader.node)?;
        let fits = has_no_border(self.carried.analysis, reader.node)
            && Bias::find(self.carried.model, view).is_some_and(|bias| bias.is_own());
        fits.then_some(ColumnChange::Bias(number))
    }

    /// What is equal for units that all readers read alike; `None` where that is not known, or a reader cannot be rewritten.
    fn hashes(&self, readers: &[UnitReader], unit: usize) -> Option<Vec<SliceHash>> {
        let hash = |reader: &UnitReader| {
            let is_rewritable = self.views.contains_key(&reader.node);
            reader.hash(&self.same, unit).filter(|_| is_rewritable)
        };
        readers.iter().map(hash).collect()
    }

    /// What becomes of the units of a group.
    fn of_group(&self, group: usize, readers: &[UnitReader], changes: &mut ColumnChanges) {
        let mut leaders: BTreeMap<Vec<SliceHash>, u32> = BTreeMap::new();
        for unit in 0..self.carried.membership.count(group) {
            let loud: Vec<&UnitReader> = readers
                .iter()
                .filter(|reader| !reader.is_silent(unit))
                .collect();
            let constant = loud.iter().map(|reader| self.bias_change(reader, unit));
            let found = match constant.collect::<Option<Vec<ColumnChange>>>() {
                Some(found) => found,
                None => match self.hashes(readers, unit) {
                    Some(hashes) => match leaders.get(&hashes) {
                        Some(leader) => vec![ColumnChange::Onto(*leader); loud.len()],
                        None => {
                            leaders.insert(hashes, unit as u32);
                            continue;
                        }
                    },
                    None => continue,
                },
            };
            for (reader, change) in loud.iter().zip(found) {
                let of_node = changes.entry(reader.node).or_default();
                of_node.insert((group, unit as u32), change);
            }
        }
    }
}

fn changes(carried: &Carried, views: &BTreeMap<NodeId, Linear>) -> ColumnChanges {
    let folding = Folding {
        carried,
        same: Same::new(carried),
        views,
    };
    let mut changes = ColumnChanges::new();
    for (group, readers) in readers(carried).iter().enumerate() {
        let nodes: BTreeSet<NodeId> = readers.iter().flatten().map(|reader| reader.node).collect();
        // A node that sums over the units twice has no columns of theirs alone.
        if let Some(readers) = readers
            .as_ref()
            .filter(|readers| readers.len() == nodes.len())
        {
            folding.of_group(group, readers, &mut changes);
        }
    }
    changes
}

/// Rewrites one product.
fn rewrite(
    model: &mut Model,
    analysis: &Analysis,
    membership: &Membership,
    view: &Linear,
    changes: &BTreeMap<(usize, u32), ColumnChange>,
) -> Option<()> {
    let mut columns: BTreeMap<(usize, u32), Vec<usize>> = BTreeMap::new();
    for (column, unit) in units_of_columns(analysis, view).into_iter().enumerate() {
        if let Some(unit) = unit.and_then(|(class, element)| membership.of_element(class, element))
        {
            columns.entry(unit).or_default().push(column);
        }
    }
    let mut matrix = view.matrix(model)?;
    let mut shift = vec![0.0; view.groups * view.rows];
    for ((group, unit), change) in changes {
        let from = columns.get(&(*group, *unit))?;
        let onto = match change {
            ColumnChange::Onto(leader) => columns
                .get(&(*group, *leader))
                .filter(|onto| onto.len() == from.len())?,
            ColumnChange::Bias(_) => from,
        };
        for (row, shift) in matrix.chunks_mut(view.columns).zip(&mut shift) {
            for (from, onto) in from.iter().zip(onto) {
                let weight = std::mem::take(&mut row[*from]);
                match change {
                    ColumnChange::Bias(number) => *shift += number * weight,
                    ColumnChange::Onto(_) => row[*onto] += weight,
                }
            }
        }
    }
    if shift.iter().any(|shift| *shift != 0.0) {
        let bias = Bias::find(model, view)?;
        let mut numbers = bias.read(model)?;
        numbers
            .iter_mut()
            .zip(shift)
            .for_each(|(number, shift)| *number += shift);
        bias.write(model, &numbers)?;
    }
    view.set_matrix(model, &matrix)
}
