//! The nodes whose time depends on what is kept.

use crate::analysis::{Analysis, ClassId, Facts, Group};
use crate::cost::{KeptShare, width};
use crate::model::{Index, Model, NodeId};
use crate::relation::LabelId;

/// A node with widths that may shrink.
pub(super) struct TimedPart {
    pub node: NodeId,
    pub labels: Vec<LabelId>,
    pub widths: Vec<KeptShare>,
}

impl TimedPart {
    /// Whether a group's cut changes a width.
    pub fn is_touched_by(&self, group: &Group) -> bool {
        let without = |class: ClassId| {
            if group.classes.contains(&class) {
                0.0
            } else {
                1.0
            }
        };
        self.widths.iter().any(|extent| extent.at(&without) < 1.0)
    }
}

/// The nodes of the main graph that compute sums of products over widths that may shrink.
pub(super) fn parts(model: &Model, analysis: &Analysis) -> Vec<TimedPart> {
    let mut parts = Vec::new();
    for (node, entry) in model.index().nodes() {
        let relation = &analysis.relations[node.index()];
        if entry.graph != Index::MAIN
            || !relation.terms.iter().any(|term| relation.multiplies(term))
        {
            continue;
        }
        let mut labels: Vec<LabelId> = relation
            .terms
            .iter()
            .flat_map(|term| term.labels.iter().copied())
            .collect();
        labels.sort();
        labels.dedup();
        let widths = |label: &LabelId| {
            Some((
                *label,
                width(analysis, analysis.spaces.label(node, *label))?,
            ))
        };
        let (labels, widths): (Vec<_>, Vec<_>) = labels.iter().filter_map(widths).unzip();
        if !labels.is_empty() {
            parts.push(TimedPart {
                node,
                labels,
                widths,
            });
        }
    }
    parts
}

/// The elements that all other nodes of the main graph write, and what their number depends on.
pub(super) fn rest(
    model: &Model,
    analysis: &Analysis,
    facts: &Facts,
    timed: &[bool],
) -> Vec<(f64, Vec<KeptShare>)> {
    let mut rest = Vec::new();
    for (node, entry) in model.index().nodes() {
        if entry.graph != Index::MAIN || timed.get(node.index()).copied().unwrap_or(false) {
            continue;
        }
        for output in entry.outputs.iter().flatten() {
            let fact = facts.of(*output);
            let dims: Option<Vec<usize>> = fact
                .shape
                .as_ref()
                .and_then(|shape| shape.iter().map(|dim| dim.count()).collect());
            let Some(dims) = dims.filter(|_| {
                fact.contents.is_none() && fact.dtype.is_some_and(|dtype| dtype.is_float())
            }) else {
                continue;
            };
            let elements = dims.iter().product::<usize>() as f64;
            rest.push((
                elements,
                analysis
                    .spaces
                    .axes(*output)
                    .filter_map(|space| width(analysis, space))
                    .collect(),
            ));
        }
    }
    rest
}
