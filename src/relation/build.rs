//! Building a relation, and the laws that hold for every one that is built.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use super::{
    Fate, Label, LabelId, Layout, Packed, Port, PortLayout, Reason, Relation, Routing, Segment,
    Term,
};
use crate::facts::Dim;

/// Builds a relation for a node whose ports have these shapes.
#[derive(Debug)]
pub struct Builder {
    shapes: BTreeMap<Port, Vec<Dim>>,
    relation: Relation,
    /// Labels along which the operator reads no entries (law 3 does not hold for them).
    unread: BTreeSet<LabelId>,
    /// The labels' names, each with the number that a further label of that name gets.
    names: BTreeMap<Cow<'static, str>, u32>,
}

impl Builder {
    /// Starts with the ports that exist and whose rank is known.
    pub fn new(shapes: BTreeMap<Port, Vec<Dim>>) -> Self {
        Builder {
            shapes,
            relation: Relation::default(),
            unread: BTreeSet::new(),
            names: BTreeMap::new(),
        }
    }

    /// The extents of a port, if it exists and its rank is known.
    pub fn shape(&self, port: Port) -> Option<&[Dim]> {
        self.shapes.get(&port).map(Vec::as_slice)
    }

    /// A label whose indices may go.
    pub fn free(&mut self, name: impl Into<Cow<'static, str>>, extent: impl Into<Dim>) -> LabelId {
        self.label(name, extent, Fate::Free)
    }

    /// A label whose indices all stay.
    pub fn fixed(
        &mut self,
        name: impl Into<Cow<'static, str>>,
        extent: impl Into<Dim>,
        reason: Reason,
    ) -> LabelId {
        self.label(name, extent, Fate::Fixed(reason))
    }

    /// A label whose indices may go at a loss.
    pub fn lossy(
        &mut self,
        name: impl Into<Cow<'static, str>>,
        extent: impl Into<Dim>,
        reason: Reason,
    ) -> LabelId {
        self.label(name, extent, Fate::Lossy(reason))
    }

    /// A label among whose indices the operator chooses when it runs.
    pub fn routed(
        &mut self,
        name: impl Into<Cow<'static, str>>,
        extent: impl Into<Dim>,
        routing: Routing,
    ) -> LabelId {
        self.label(name, extent, Fate::Routed(routing))
    }

    /// The length of an axis of this layout.
    pub fn extent(&self, layout: &Layout) -> Dim {
        layout.extent(&self.relation.labels)
    }

    /// Bytes that hold numbers of `bits` bits, a row of them built like `of`: the innermost part of an input's last axis. `None`
    /// where their number is not known.
    pub fn packed(&mut self, of: Layout, bits: u32, reason: Reason) -> Option<LabelId> {
        let numbers = of.extent(&self.relation.labels).num()?;
        let numbers_of = self.relation.show(&of);
        let numbers_of = if of.0.len() > 1 {
            format!("({numbers_of})")
        } else {
            numbers_of
        };
        let name = if 8 % bits == 0 {
            format!("{numbers_of}/{}", 8 / bits)
        } else {
            format!("{numbers_of}·{bits}/8")
        };
        let bytes = numbers.checked_mul(i64::from(bits))?.checked_add(7)? / 8;
        let fate = Fate::Fixed(reason);
        self.relation.labels.push(Label {
            name: name.into(),
            extent: bytes.into(),
            fate,
            packs: Some(Packed { of, bits }),
        });
        let label = LabelId((self.relation.labels.len() - 1) as u32);
        Some(label)
    }

    /// Indices that come from nowhere: padding, or an axis of 1 that is broadcast. Free, unless there is only one.
    pub fn fill(&mut self, extent: impl Into<Dim>) -> LabelId {
        self.label("", extent, Fate::Free)
    }

    /// A label of any fate. A second label of the same name gets a number behind it.
    pub fn label(
        &mut self,
        name: impl Into<Cow<'static, str>>,
        extent: impl Into<Dim>,
        fate: Fate,
    ) -> LabelId {
        let mut name = name.into();
        if !name.is_empty() {
            while let Some(number) = self.names.get_mut(&name) {
                *number += 1;
                let numbered = Cow::Owned(format!("{name}{}", *number - 1));
                if !self.names.contains_key(&numbered) {
                    name = numbered;
                }
            }
            self.names.insert(name.clone(), 2);
        }
        self.relation.labels.push(Label {
            name,
            extent: extent.into(),
            fate,
            packs: None,
        });
        LabelId((self.relation.labels.len() - 1) as u32)
    }

    /// Says that all indices of a label stay.
    pub fn fix(&mut self, label: LabelId, reason: Reason) {
        self.relation.labels[label.index()].fate = Fate::Fixed(reason);
    }

    /// Describes the axes of a port; a port that does not exist (an optional input left out) is passed over.
    pub fn port<L: Into<Layout>>(
        &mut self,
        port: Port,
        name: impl Into<Cow<'static, str>>,
        axes: impl IntoIterator<Item = L>,
    ) {
        if self.shapes.contains_key(&port) {
            let axes = axes.into_iter().map(Into::into).collect();
            self.relation.ports.insert(
                port,
                PortLayout {
                    name: name.into(),
                    axes,
                },
            );
        }
    }

    /// Describes a port whose entries the operator does not read, only their number or type (Shape, CastLike): its axes
    /// get free labels of these names that need not reach an output.
    pub fn unread<N: Into<Cow<'static, str>>>(
        &mut self,
        port: Port,
        name: impl Into<Cow<'static, str>>,
        names: impl IntoIterator<Item = N>,
    ) {
        let dims = self.shape(port).unwrap_or_default().to_vec();
        let labels: Vec<LabelId> = dims
            .into_iter()
            .zip(names)
            .map(|(dim, name)| self.free(name, dim))
            .collect();
        self.unread.extend(&labels);
        self.port(port, name, labels);
    }

    /// Describes a port all of whose axes stay (axis numbers, a scalar parameter).
    pub fn whole(&mut self, port: Port, name: impl Into<Cow<'static, str>>, reason: &Reason) {
        let dims = self.shape(port).unwrap_or_default().to_vec();
        let labels: Vec<LabelId> = dims
            .into_iter()
            .map(|dim| self.fixed("", dim, reason.clone()))
            .collect();
        self.port(port, name, labels);
    }

    /// One sum that the operator computes.
    pub fn term(&mut self, term: Term) {
        self.relation.terms.push(term);
    }

    /// Completes and checks the relation. What was left out is fixed (law 1); a layout whose extents do not add up
    /// to the axis (law 2), or a label that goes nowhere (law 3), makes the whole node fixed, for then the rule is wrong.
    pub fn finish(mut self) -> Relation {
        if let Some(problem) = self.broken_law() {
            debug_assert!(false, "relation breaks a law: {problem}\n{}", self.relation);
            return Self::frozen(self.shapes, Reason::NotDescribed(problem));
        }
        let missing: Vec<(Port, Vec<Dim>)> = self
            .shapes
            .iter()
            .filter(|(port, _)| !self.relation.ports.contains_key(port))
            .map(|(port, dims)| (*port, dims.clone()))
            .collect();
        for (port, dims) in missing {
            self.freeze_port(port, &dims, &Reason::NotDescribed(port.to_string()));
        }
        self.relation
    }

    /// A relation in which nothing may go.
    pub fn frozen(shapes: BTreeMap<Port, Vec<Dim>>, reason: Reason) -> Relation {
        let mut builder = Builder::new(BTreeMap::new());
        for (port, dims) in &shapes {
            builder.freeze_port(*port, dims, &reason);
        }
        builder.relation
    }

    fn freeze_port(&mut self, port: Port, dims: &[Dim], reason: &Reason) {
        let axes = dims
            .iter()
            .map(|dim| {
                self.label("", dim.clone(), Fate::Fixed(reason.clone()))
                    .into()
            })
            .collect();
        self.relation.ports.insert(
            port,
            PortLayout {
                name: Cow::Owned(port.to_string()),
                axes,
            },
        );
    }

    /// What breaks a law, if anything does.
    fn broken_law(&self) -> Option<String> {
        self.misfit()
            .or_else(|| self.misplaced_bytes())
            .or_else(|| self.unguided_label())
            .or_else(|| self.lost_label())
    }

    /// A layout that does not add up to its axis, or that picks beyond its label (law 2).
    fn misfit(&self) -> Option<String> {
        let labels = &self.relation.labels;
        for (port, layout) in &self.relation.ports {
            let dims = &self.shapes[port];
            if layout.axes.len() != dims.len() {
                return Some(format!(
                    "{port} has {} axes, {} are described",
                    dims.len(),
                    layout.axes.len()
                ));
            }
            for (axis, (layout, dim)) in layout.axes.iter().zip(dims).enumerate() {
                let extent = layout.extent(labels);
                if extent.differs(dim) {
                    return Some(format!(
                        "axis {axis} of {port} is {dim}, its layout gives {extent}"
                    ));
                }
                if let Some(label) = layout.0.iter().find_map(|part| self.picked_beyond(part)) {
                    return Some(format!(
                        "axis {axis} of {port} picks beyond label '{}'",
                        label.name
                    ));
                }
            }
        }
        None
    }

    /// The label of a segment that picks indices which the label does not have.
    fn picked_beyond(&self, segment: &Segment) -> Option<&Label> {
        let Segment::Pick(label, indices) = segment else {
            return None;
        };
        let label = &self.relation.labels[label.index()];
        let extent = label.extent.num()?;
        let beyond = indices.iter().any(|index| i64::from(*index) >= extent);
        beyond.then_some(label)
    }

    /// Packed bytes that are not the innermost part of an input's last axis.
    fn misplaced_bytes(&self) -> Option<String> {
        let labels = &self.relation.labels;
        for (port, layout) in &self.relation.ports {
            let all: Vec<LabelId> = layout.axes.iter().flat_map(Layout::labels).collect();
            let packs = |label: &LabelId| labels[label.index()].packs.is_some();
            let innermost = layout.axes.last().is_none_or(|axis| axis.0.len() == 1);
            if all.iter().rev().skip(1).any(packs)
                || (all.last().is_some_and(packs) && !(innermost && matches!(port, Port::In(_))))
            {
                return Some(format!(
                    "bytes of {port} that are not the innermost part of its last axis"
                ));
            }
        }
        None
    }

    /// A label that is chosen by numbers which do not run over it, so that nothing says which of its indices are.
    fn unguided_label(&self) -> Option<String> {
        let labels = self.relation.labels.iter().enumerate();
        let mut routed = labels.filter_map(|(at, label)| match &label.fate {
            Fate::Routed(routing) => Some((at, label, routing.by)),
            _ => None,
        });
        let runs_over = |port: Port, at: usize| {
            let axes = self.relation.ports.get(&port).map(|port| &port.axes);
            axes.into_iter()
                .flatten()
                .any(|axis| axis.labels().any(|other| other.index() == at))
        };
        let (_, label, port) = routed.find(|(at, _, port)| !runs_over(*port, *at))?;
        Some(format!(
            "label '{}' is chosen by {port}, which does not have it",
            label.name
        ))
    }

    /// A label whose indices may go, but that reaches no output and is not summed over (law 3).
    fn lost_label(&self) -> Option<String> {
        let labels = &self.relation.labels;
        let mut reaches = vec![false; labels.len()];
        for (port, layout) in &self.relation.ports {
            if matches!(port, Port::Out(_) | Port::Formal(..)) {
                layout
                    .axes
                    .iter()
                    .flat_map(Layout::labels)
                    .for_each(|label| reaches[label.index()] = true);
            }
        }
        for term in &self.relation.terms {
            term.summed
                .iter()
                .for_each(|label| reaches[label.index()] = true);
        }
        self.unread
            .iter()
            .for_each(|label| reaches[label.index()] = true);
        let lost = labels.iter().zip(&reaches).find(|(label, reaches)| {
            !**reaches && label.fate == Fate::Free && !label.extent.is_one()
        });
        lost.map(|(label, _)| format!("label '{}' reaches no output and is not summed", label.name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A router's numbers for 3 experts of 5 tokens, and weights of 3 experts, which are chosen by this port.
    fn chosen(by: Port) -> Relation {
        let dims = |extents: &[i64]| extents.iter().map(|extent| Dim::Num(*extent)).collect();
        let shapes = [
            (Port::In(0), dims(&[5, 3])),
            (Port::In(1), dims(&[3, 2])),
            (Port::Out(0), dims(&[5, 2])),
        ];
        let mut builder = Builder::new(BTreeMap::from(shapes));
        let tokens = builder.free("s", 5i64);
        let experts = builder.routed(
            "E",
            3i64,
            Routing {
                by,
                least: 1,
                reason: Reason::operator("a choice"),
            },
        );
        let channels = builder.free("c", 2i64);
        builder.port(Port::In(0), "router", [tokens, experts]);
        builder.port(Port::In(1), "w", [experts, channels]);
        builder.port(Port::Out(0), "y", [tokens, channels]);
        builder.finish()
    }

    #[test]
    fn what_is_chosen_is_chosen_by_numbers_that_run_over_it() {
        let relation = chosen(Port::In(0));
        let experts = relation.named("E").unwrap();
        let loss = relation.label(experts).fate.loss();
        assert_eq!(loss, Some(&Reason::operator("a choice")));
        let wrong = std::panic::catch_unwind(|| chosen(Port::Out(0)));
        assert_eq!(wrong.is_err(), cfg!(debug_assertions));
    }
}
