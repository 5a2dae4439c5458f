//! Products, read from the relations of their nodes.

use std::sync::Arc;

use crate::analysis::port_value;
use crate::model::{Index, Model, NodeId, ValueId};
use crate::ops::{WeightRows, meaning};
use crate::relation::{LabelId, Layout, Port, PortLayout, Relation, Segment, Term};

use super::operand::Operand;
use super::view::Linear;
use super::walk::Axis;

/// All products of the main graph with constant weights.
pub fn views(model: &Model, relations: &[Arc<Relation>]) -> Vec<Linear> {
    let mut views = Vec::new();
    for (node, entry) in model
        .index()
        .nodes()
        .filter(|(_, entry)| entry.graph == Index::MAIN)
    {
        let relation = &relations[node.index()];
        if entry.subgraphs.is_empty() {
            views.extend(
                relation
                    .terms
                    .iter()
                    .filter_map(|term| Linear::read(model, node, relation, term)),
            );
        }
    }
    views
}

/// The labels of a sum of products by the part that they play; the names are those of [`Linear`]'s fields.
struct ViewParts {
    summed: Vec<LabelId>,
    taps: Vec<LabelId>,
    group: Vec<LabelId>,
    row: Vec<LabelId>,
    position: Vec<LabelId>,
    slides: Vec<LabelId>,
}

impl ViewParts {
    fn of(term: &Term, on_data: &[LabelId], on_weight: &[LabelId]) -> Self {
        let of = |labels: &[LabelId], wanted: &dyn Fn(&LabelId) -> bool| -> Vec<LabelId> {
            labels
                .iter()
                .copied()
                .filter(|label| wanted(label))
                .collect()
        };
        let is_summed = |label: &LabelId| term.summed.contains(label);
        let (data, weight) = (
            |label: &LabelId| on_data.contains(label),
            |label: &LabelId| on_weight.contains(label),
        );
        ViewParts {
            summed: of(&term.summed, &data),
            taps: of(&term.summed, &|label| !data(label)),
            group: of(on_weight, &|label| data(label) && !is_summed(label)),
            row: of(on_weight, &|label| !data(label) && !is_summed(label)),
            position: of(&term.labels, &|label| data(label) && !weight(label)),
            slides: of(&term.labels, &|label| !data(label) && !weight(label)),
        }
    }
    /// Groups, rows and columns; `None` where an extent is not known.
    fn sizes(&self, extents: &[Option<usize>]) -> Option<(usize, usize, usize)> {
        let number = |labels: &[LabelId]| {
            labels
                .iter()
                .map(|label| extents[label.index()])
                .product::<Option<usize>>()
        };
        Some((
            number(&self.group)?,
            number(&self.row)?,
            number(&self.summed)?.checked_mul(number(&self.taps)?)?,
        ))
    }
}

/// The axes of an activation, and how many of them a window slides over: those whose label no multiplication is counted for.
fn sliding_axes(layout: &PortLayout, term: &Term) -> Option<(Vec<Axis>, usize)> {
    let mut sliding = 0;
    let mut found = axes(layout)?;
    for axis in &mut found {
        if axis.labels.iter().any(|label| !term.labels.contains(label)) {
            if axis.labels.len() != 1 {
                return None;
            }
            axis.slide = Some(sliding);
            sliding += 1;
        }
    }
    Some((found, sliding))
}

/// The port of the activation, that of the weight, and the constant behind the latter. Either factor may be the constant one.
fn factors(model: &Model, node: NodeId, term: &Term) -> Option<(Port, Port, Operand)> {
    let Some(weight_port) = term.weight else {
        let weight = Operand::packed(model, node)?;
        return Some((term.data, Port::In(1), weight));
    };
    let operand = |port| Operand::trace(model, port_value(model, node, port)?);
    match (operand(weight_port), operand(term.data)) {
        (Some(weight), None) => Some((term.data, weight_port, weight)),
        (None, Some(weight)) if term.window.is_none() => Some((weight_port, term.data, weight)),
        _ => None,
    }
}

impl Linear {
    fn read(model: &Model, node: NodeId, relation: &Relation, term: &Term) -> Option<Self> {
        let (data_port, weight_port, weight) = factors(model, node, term)?;
        let Port::In(input) = weight_port else {
            return None;
        };
        let data = port_value(model, node, data_port)?;
        let layout = |port| relation.ports.get(&port);
        let (data_layout, weight_layout) = (layout(data_port)?, layout(weight_port)?);
        let weight_axes = match weight.is_packed() {
            true if relation.terms.len() > 1 => return None,
            true => unpacked_axes(weight_layout, data_layout)?,
            false => axes(weight_layout)?,
        };
        let on_data: Vec<LabelId> = labels(data_layout);
        let on_weight: Vec<LabelId> = weight_axes
            .iter()
            .flat_map(|axis| axis.labels.iter().copied())
            .collect();
        let window = term.window.clone().unwrap_or_default();
        let parts = ViewParts::of(term, &on_data, &on_weight);
        let spatial = parts.taps.len();
        if parts.slides.len() != spatial
            || (spatial > 0 && (window.kernel.len() != spatial || window.pads.len() != 2 * spatial))
        {
            return None;
        }
        let (data_axes, sliding) = sliding_axes(data_layout, term)?;
        if sliding != spatial || !unique(&on_weight) || !unique(&on_data) || !unique(&term.summed) {
            return None;
        }
        let extents = numbers(relation);
        let (groups, rows, columns) = parts.sizes(&extents)?;
        let mut view = Linear {
            node,
            input: input as usize,
            data,
            weight,
            output: None,
            groups,
            rows,
            columns,
            summed: parts.summed,
            window,
            extents,
            data_axes,
            weight_axes,
            output_axes: Vec::new(),
            position: parts.position,
            group: parts.group,
            row: parts.row,
            slides: parts.slides,
            taps: parts.taps,
        };
        view.output = view.find_output(model, relation);
        Some(view)
    }

    /// The output, if its axes are the positions, groups and rows, and nothing else is done to the sum.
    fn find_output(&mut self, model: &Model, relation: &Relation) -> Option<ValueId> {
        let message = model.node(self.node);
        // Weights whose channels stand group by group along their second axis are not laid out in rows here.
        let known = meaning(message);
        match known.product {
            Some(product) if product.rows == WeightRows::Grouped => return None,
            None if known.packed.is_none() => return None,
            _ => {}
        }
        if message
            .attribute
            .iter()
            .any(|attribute| matches!(attribute.name(), "alpha" | "beta") && attribute.f() != 1.0)
        {
            return None;
        }
        let port = Port::Out(0);
        let layout = relation.ports.get(&port)?;
        let mut found = labels(layout);
        let mut wanted: Vec<LabelId> = [&self.position, &self.slides, &self.group, &self.row]
            .into_iter()
            .flatten()
            .copied()
            .collect();
        found.sort();
        wanted.sort();
        if found != wanted {
            return None;
        }
        self.output_axes = axes(layout)?;
        port_value(model, self.node, port)
    }
}

/// The axes of a packed weight's numbers: its rows, and what is summed as the activation has it.
fn unpacked_axes(weight: &PortLayout, data: &PortLayout) -> Option<Vec<Axis>> {
    let rows = axes(weight)?.into_iter().next()?;
    Some(vec![rows, axes(data)?.pop()?])
}

/// The axes of a port whose layouts are plain products.
fn axes(layout: &PortLayout) -> Option<Vec<Axis>> {
    let axis = |layout: &Layout| match &layout.0[..] {
        [Segment::Product(labels)] => Some(Axis {
            labels: labels.to_vec(),
            slide: None,
        }),
        [] => Some(Axis {
            labels: Vec::new(),
            slide: None,
        }),
        _ => None,
    };
    layout.axes.iter().map(axis).collect()
}

fn labels(layout: &PortLayout) -> Vec<LabelId> {
    layout.axes.iter().flat_map(|axis| axis.labels()).collect()
}

/// Whether no label comes twice.
fn unique(labels: &[LabelId]) -> bool {
    labels
        .iter()
        .enumerate()
        .all(|(at, label)| !labels[..at].contains(label))
}

/// The extents of a relation's labels, as far as they are known.
fn numbers(relation: &Relation) -> Vec<Option<usize>> {
    relation
        .labels
        .iter()
        .map(|label| label.extent.num().and_then(|n| usize::try_from(n).ok()))
        .collect()
}
