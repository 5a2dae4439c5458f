//! What a rule is told of a cut, and what it asks to be changed at its node.

use std::sync::Arc;

use crate::facts::Dim;
use crate::relation::{LabelId, Layout, Port, Relation, Segment};

/// An attribute or shape operand that cannot be made to fit a cut.
#[derive(Clone, Debug, thiserror::Error, PartialEq)]
#[error("{0}")]
pub struct RewriteError(pub String);

/// A cut as one node sees it.
#[derive(Clone, Debug)]
pub struct Cut<'a> {
    /// The relation of the node, with the extents from before the cut.
    pub relation: &'a Relation,
    /// For each label the indices that stay, ascending; `None` when all do.
    pub kept: Vec<Option<Arc<[u32]>>>,
}

impl Cut<'_> {
    /// The indices of a label that stay, ascending; `None` when all do.
    pub fn kept(&self, label: LabelId) -> Option<&[u32]> {
        self.kept[label.index()].as_deref()
    }

    /// How many indices of a label stay.
    pub fn extent(&self, label: LabelId) -> Dim {
        match self.kept(label) {
            Some(kept) => Dim::from(kept.len()),
            None => self.relation.label(label).extent.clone(),
        }
    }

    /// How many indices of the label of this name stay; `None` if there is no such label.
    pub fn extent_of(&self, name: &str) -> Option<Dim> {
        self.relation.named(name).map(|label| self.extent(label))
    }

    /// Whether any index of any label goes.
    pub fn touches(&self) -> bool {
        self.kept.iter().any(Option::is_some)
    }

    /// The new extents of the segments of an axis.
    pub fn segments(&self, layout: &Layout) -> Vec<Dim> {
        layout
            .0
            .iter()
            .map(|segment| self.segment(segment))
            .collect()
    }

    fn segment(&self, segment: &Segment) -> Dim {
        match segment {
            Segment::Product(labels) => labels.iter().fold(Dim::Num(1), |product, label| {
                &product * &self.extent(*label)
            }),
            Segment::Pick(label, indices) => match self.kept(*label) {
                None => Dim::from(indices.len()),
                Some(kept) => Dim::from(
                    indices
                        .iter()
                        .filter(|index| kept.binary_search(index).is_ok())
                        .count(),
                ),
            },
        }
    }

    /// The new extents of a port; `None` when the port is not part of the relation.
    pub fn dims(&self, port: Port) -> Option<Vec<Dim>> {
        let layout = self.relation.ports.get(&port)?;
        Some(
            layout
                .axes
                .iter()
                .map(|axis| {
                    self.segments(axis)
                        .iter()
                        .fold(Dim::Num(0), |sum, dim| &sum + dim)
                })
                .collect(),
        )
    }
}

/// A new value for an attribute.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs)]
pub enum Setting {
    Int(i64),
    Ints(Vec<i64>),
    Float(f32),
    /// The attribute goes.
    Remove,
}

/// What a shape operand must hold after a cut.
#[derive(Clone, Debug, PartialEq)]
pub struct Demand {
    /// The input.
    pub input: u32,
    /// Its elements in row-major order; `None` where any will do. Another length than before (or more than one element
    /// different in kind) means that the operand must be a constant, which gets these elements.
    pub elements: Vec<Option<Dim>>,
    /// Whether `elements` is all that the operand may hold, so that it can be replaced as a whole by a constant.
    pub whole: bool,
}

/// What a rule asks to be changed at its node.
#[derive(Clone, Debug, Default)]
pub struct NodeEdit {
    /// Attributes with new values.
    pub settings: Vec<(&'static str, Setting)>,
    /// Shape operands.
    pub demands: Vec<Demand>,
    /// Shape operands that mean the same as they are, and would if they held these numbers.
    pub accepted: Vec<Demand>,
    /// Constant float inputs whose elements are multiplied by a number (after slicing).
    pub scales: Vec<(u32, f64)>,
    /// What the first output is to be multiplied by.
    pub result_scale: Option<f64>,
}

impl NodeEdit {
    /// An operand need not change, but some of its elements may as well be these.
    pub fn accept(&mut self, input: u32, elements: Vec<Option<Dim>>) {
        self.accepted.push(Demand {
            input,
            elements,
            whole: false,
        });
    }

    /// Sets a whole-number attribute.
    pub fn set_int(&mut self, name: &'static str, value: i64) {
        self.settings.push((name, Setting::Int(value)));
    }

    /// Sets a list attribute.
    pub fn set_ints(&mut self, name: &'static str, value: Vec<i64>) {
        self.settings.push((name, Setting::Ints(value)));
    }

    /// Sets a real-number attribute.
    pub fn set_float(&mut self, name: &'static str, value: f32) {
        self.settings.push((name, Setting::Float(value)));
    }

    /// Takes an attribute away.
    pub fn remove(&mut self, name: &'static str) {
        self.settings.push((name, Setting::Remove));
    }

    /// Input `input` must hold these elements; `None` where what it holds will do.
    pub fn demand(&mut self, input: u32, elements: Vec<Option<Dim>>) {
        self.demands.push(Demand {
            input,
            elements,
            whole: false,
        });
    }

    /// Input `input` must be a constant with exactly these elements (its dims: those of before, a first axis of another length).
    pub fn replace(&mut self, input: u32, elements: Vec<i64>) {
        self.demands.push(Demand {
            input,
            elements: elements
                .into_iter()
                .map(|element| Some(Dim::Num(element)))
                .collect(),
            whole: true,
        });
    }

    /// Multiplies the first output by a number, in a node of its own.
    pub fn scale_result(&mut self, factor: f64) {
        self.result_scale = Some(factor);
    }

    /// Multiplies a constant float input by a number.
    pub fn scale(&mut self, input: u32, factor: f64) {
        self.scales.push((input, factor));
    }
}

/// Sets an attribute to the extent of a label, if that changed.
pub(super) fn set_extent(
    cut: &Cut,
    edit: &mut NodeEdit,
    label: &str,
    attribute: &'static str,
) -> Result<(), RewriteError> {
    let Some(label) = cut
        .relation
        .named(label)
        .filter(|label| cut.kept(*label).is_some())
    else {
        return Ok(());
    };
    let extent = cut
        .extent(label)
        .num()
        .ok_or_else(|| RewriteError(format!("attribute {attribute}")))?;
    edit.set_int(attribute, extent);
    Ok(())
}
