//! The sums that run over the units of a group.

use super::carry::Carried;
use super::interval::Interval;
use super::same::{Same, SliceHash};
use crate::analysis::port_value;
use crate::model::{Index, NodeId, Origin, ValueId};
use crate::relation::{LabelId, Port, Term};

/// By group, all sums over it; `None` where a unit of it may not go: a caller sees it, an operator reads the group whole, or
/// nothing sums over it.
pub(super) fn readers<'a>(carried: &'a Carried<'a>) -> Vec<Option<Vec<UnitReader<'a>>>> {
    let (model, analysis, membership) = (carried.model, carried.analysis, carried.membership);
    let mut found: Vec<Vec<UnitReader>> = analysis.groups.iter().map(|_| Vec::new()).collect();
    let mut may_go: Vec<bool> = analysis
        .groups
        .iter()
        .map(|group| group.lossy.is_none())
        .collect();
    // What callers see stays as wide as it is.
    let main = model.index().graph(Index::MAIN);
    let is_given =
        |value: &&ValueId| matches!(model.index().value(**value).origin, Origin::Input(_));
    for value in main.inputs.iter().filter(is_given).chain(&main.outputs) {
        for space in analysis.spaces.axes(*value) {
            for group in membership.groups(space) {
                may_go[group] = false;
            }
        }
    }
    for (node, _) in model.index().nodes() {
        for term in &analysis.relations[node.index()].terms {
            for label in &term.summed {
                for group in membership.groups(analysis.spaces.label(node, *label)) {
                    found[group].push(UnitReader::new(carried, node, term, *label, group));
                }
            }
        }
    }
    let of_group = |(readers, may_go): (Vec<UnitReader<'a>>, bool)| {
        (may_go && !readers.is_empty()).then_some(readers)
    };
    found.into_iter().zip(may_go).map(of_group).collect()
}

/// One factor of a sum of products.
struct SlicedFactor {
    value: ValueId,
    /// The axes that the label runs along: where there are two, both count.
    axes: Vec<usize>,
    /// The number that means zero.
    zero: Interval,
}

/// A sum over the units of a group.
pub(super) struct UnitReader<'a> {
    carried: &'a Carried<'a>,
    /// The node that computes it.
    pub node: NodeId,
    group: usize,
    data: Option<SlicedFactor>,
    weight: Option<SlicedFactor>,
}

impl<'a> UnitReader<'a> {
    fn new(
        carried: &'a Carried<'a>,
        node: NodeId,
        term: &Term,
        label: LabelId,
        group: usize,
    ) -> Self {
        let factor = |port: Port, zero: Interval| {
            let value = port_value(carried.model, node, port)?;
            let axes = carried.axes_of(node, port, label, group);
            (!axes.is_empty()).then_some(SlicedFactor { value, axes, zero })
        };
        let zero = |port: Port| Some(carried.of(port_value(carried.model, node, port)?).whole);
        let zero = term
            .zero
            .map_or(Some(Interval::ZERO), zero)
            .unwrap_or(Interval::ALL);
        let is_real = |factor: &SlicedFactor| {
            let dtype = carried.analysis.facts.of(factor.value).dtype;
            dtype.is_some_and(|dtype| dtype.is_float())
        };
        UnitReader {
            carried,
            node,
            group,
            // What means zero in whole numbers is not said of data.
            data: factor(term.data, Interval::ZERO).filter(is_real),
            weight: term.weight.and_then(|weight| factor(weight, zero)),
        }
    }

    /// Whether the products with a unit are all zero.
    pub fn is_silent(&self, unit: usize) -> bool {
        [&self.data, &self.weight]
            .into_iter()
            .flatten()
            .any(|factor| {
                factor.axes.iter().all(|axis| {
                    let numbers = self.carried.of(factor.value).slice(*axis, self.group, unit);
                    numbers.is_none() || (numbers == factor.zero && factor.zero.number().is_some())
                })
            })
    }

    /// The one number that a unit's data is everywhere, and that is not zero.
    pub fn constant(&self, unit: usize) -> Option<f64> {
        let data = self.data.as_ref()?;
        let [axis] = data.axes[..] else { return None };
        self.carried
            .of(data.value)
            .slice(axis, self.group, unit)
            .number()
    }

    /// What is equal for units with equal data.
    pub fn hash(&self, same: &Same, unit: usize) -> Option<SliceHash> {
        let data = self.data.as_ref()?;
        let [axis] = data.axes[..] else { return None };
        same.slice(data.value, axis, self.group, unit)
    }
}
