//! Which units no output can tell of: wherever they are summed over, one factor of the product is zero.

use super::carry::Carried;
use super::interval::Interval;
use super::membership::Membership;
use crate::analysis::{Analysis, branch_ends, port_value};
use crate::model::{Index, Model, NodeId, ValueId};
use crate::relation::{LabelId, Port, Term};
use crate::workspace::Workspace;

/// The units that can be removed without loss, by group. A cut takes the products with what goes out of every sum that runs over
/// it, and out of nothing else, unless a group is lossy; where all of these products are zero, all outputs stay. Of a group that
/// could go as a whole one unit stays, unless a branch ends there.
pub fn removable(workspace: &Workspace) -> Vec<Vec<u32>> {
    let (model, analysis) = (&workspace.working, &workspace.analysis);
    let mut dead = dead(model, analysis);
    let whole: Vec<usize> = (0..dead.len())
        .filter(|group| dead[*group].len() == analysis.groups[*group].units.len())
        .collect();
    if !whole.is_empty() && branch_ends(model, analysis, &whole).is_none() {
        for group in whole {
            if branch_ends(model, analysis, &[group]).is_none() {
                dead[group].remove(0);
            }
        }
    }
    dead
}

/// The same, whole groups included.
fn dead(model: &Model, analysis: &Analysis) -> Vec<Vec<u32>> {
    let membership = Membership::new(analysis);
    let mut tells: Vec<Vec<bool>> = analysis
        .groups
        .iter()
        .map(|group| vec![group.lossy.is_some(); group.units.len()])
        .collect();
    // What callers see stays as wide as it is.
    let main = model.index().graph(Index::MAIN);
    for value in main.inputs.iter().chain(&main.outputs) {
        for space in analysis.spaces.axes(*value) {
            for group in membership.groups(space) {
                tells[group].fill(true);
            }
        }
    }
    let carried = Carried::new(model, analysis, &membership);
    let mut summed = vec![false; tells.len()];
    for (node, _) in model.index().nodes() {
        for term in &analysis.relations[node.index()].terms {
            for label in &term.summed {
                for group in membership.groups(analysis.spaces.label(node, *label)) {
                    summed[group] = true;
                    let silent = Silence::new(&carried, node, term, *label, group);
                    for (unit, tells) in tells[group].iter_mut().enumerate() {
                        *tells = *tells || !silent.of(unit);
                    }
                }
            }
        }
    }
    let silent = |(tells, summed): (Vec<bool>, bool)| {
        let units = (0u32..).zip(tells).filter(|(_, tells)| summed && !tells);
        units.map(|(unit, _)| unit).collect()
    };
    tells.into_iter().zip(summed).map(silent).collect()
}

/// The factors of a sum along one label.
struct Silence<'a> {
    carried: &'a Carried<'a>,
    group: usize,
    /// Values of which slices that are zero make the products zero, with the axes and the number that means zero. Where a label
    /// runs along two axes of one, both are to be zero.
    factors: Vec<(ValueId, Vec<usize>, Interval)>,
}

impl<'a> Silence<'a> {
    fn new(
        carried: &'a Carried<'a>,
        node: NodeId,
        term: &Term,
        label: LabelId,
        group: usize,
    ) -> Self {
        let factor = |port: Port| {
            let value = port_value(carried.model, node, port)?;
            let axes = carried.axes_of(node, port, label, group);
            (!axes.is_empty()).then_some((value, axes))
        };
        let is_real = |value| {
            let dtype = carried.analysis.facts.of(value).dtype;
            dtype.is_some_and(|dtype| dtype.is_float())
        };
        let zero = |port: Port| Some(carried.of(port_value(carried.model, node, port)?).whole);
        let mut factors = Vec::new();
        if let Some((value, axes)) = term.weight.and_then(factor) {
            let zero = term.zero.map_or(Some(Interval::ZERO), zero);
            factors.push((value, axes, zero.unwrap_or(Interval::ALL)));
        }
        // What means zero in whole numbers is not said of data.
        if let Some((value, axes)) = factor(term.data).filter(|(value, _)| is_real(*value)) {
            factors.push((value, axes, Interval::ZERO));
        }
        Silence {
            carried,
            group,
            factors,
        }
    }

    /// Whether the products with a unit are all zero.
    fn of(&self, unit: usize) -> bool {
        self.factors.iter().any(|(value, axes, zero)| {
            axes.iter().all(|axis| {
                let numbers = self.carried.of(*value).slice(*axis, self.group, unit);
                numbers.is_none() || (numbers == *zero && zero.number().is_some())
            })
        })
    }
}
