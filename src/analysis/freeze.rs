//! What freezes classes of factors, or makes their loss one of quality: callers, and what operators say of their labels.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::Options;
use super::numbering::Numbering;
use super::relate::port_value;
use super::spaces::{SpaceId, Spaces};
use super::union_find::UnionFind;
use crate::model::{Index, Model, NodeId, Origin, ValueId};
use crate::relation::{Fate, LabelId, Port, Reason, Relation};

/// Axes that the user allows to shrink although callers see them, as (value name, axis).
pub type Allowed = BTreeSet<(String, usize)>;

/// What freezes nothing, though callers see it or an operator picks from it at run time.
pub(super) struct Exempt {
    /// Axes of graph inputs and outputs.
    pub allowed: Allowed,
    /// Axes that are picked from by numbers that are counted anew.
    pub picked: BTreeSet<(NodeId, LabelId)>,
}

impl Exempt {
    pub fn new(options: &Options, picked: BTreeSet<(NodeId, LabelId)>) -> Self {
        let outputs = options.tokens.outputs.iter();
        Exempt {
            allowed: options.allowed.iter().chain(outputs).cloned().collect(),
            picked,
        }
    }
}

/// What freezes a class.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holder {
    /// A node that fixes it.
    Node(NodeId),
    /// An input or output of the model that has it.
    End(ValueId),
}

impl Holder {
    /// The name of the node, or of the input or output.
    pub fn name(self, model: &Model) -> &str {
        match self {
            Holder::Node(node) => model.node_label(node),
            Holder::End(value) => &model.index().value(value).name,
        }
    }
}

/// Why a class is frozen, and what freezes it, where that is known.
pub(super) type Cause = (Reason, Option<Holder>);

/// What is lost beside the elements of a class that go.
pub(super) struct Loss {
    pub(super) reason: Reason,
    /// How many of them an operator chooses at a time, if one chooses among them.
    pub(super) routed: Option<u32>,
}

/// Collects the causes that freeze classes, or make them lossy.
pub(super) struct Freezer<'a> {
    /// By the root of a set of factors.
    pub(super) frozen: BTreeMap<u32, Cause>,
    /// By the root of a set of factors.
    pub(super) lossy: BTreeMap<u32, Loss>,
    pub(super) union: &'a mut UnionFind,
    pub(super) numbers: &'a Numbering,
}

impl Freezer<'_> {
    fn roots(&mut self, space: SpaceId) -> Vec<u32> {
        let factors = self.numbers.of_space(space);
        factors
            .map(|factor| self.union.find(factor as u32))
            .collect()
    }

    fn freeze(&mut self, space: SpaceId, reason: &Reason, holder: Option<Holder>) {
        for root in self.roots(space) {
            self.frozen
                .entry(root)
                .or_insert_with(|| (reason.clone(), holder));
        }
    }

    fn lose(&mut self, space: SpaceId, reason: &Reason, routed: Option<u32>) {
        for root in self.roots(space) {
            let loss = self.lossy.entry(root).or_insert_with(|| Loss {
                reason: reason.clone(),
                routed,
            });
            loss.routed = loss.routed.max(routed);
        }
    }

    pub(super) fn causes(
        &mut self,
        model: &Model,
        spaces: &Spaces,
        relations: &[Arc<Relation>],
        exempt: &Exempt,
    ) {
        self.freeze_callers(model, spaces, &exempt.allowed);
        for (node, _) in model.index().nodes() {
            let relation = &relations[node.index()];
            self.note_fates(spaces, relation, node, &exempt.picked);
            self.freeze_undescribed(model, spaces, relation, node);
        }
        for (value, entry) in model.index().values() {
            if matches!(entry.origin, Origin::Sparse(_)) {
                let reason = Reason::operator("stored as a sparse tensor");
                self.freeze_value(spaces, value, (&reason, None), &Allowed::new(), "");
            }
        }
    }

    /// Freezes what callers see, whatever else holds it.
    fn freeze_callers(&mut self, model: &Model, spaces: &Spaces, allowed: &Allowed) {
        let main = model.index().graph(Index::MAIN);
        for (values, reason) in [
            (&main.inputs, Reason::GraphInput),
            (&main.outputs, Reason::GraphOutput),
        ] {
            for value in values {
                self.freeze_value(
                    spaces,
                    *value,
                    (&reason, Some(Holder::End(*value))),
                    allowed,
                    &model.index().value(*value).name,
                );
            }
        }
    }

    /// Takes up what an operator's rule says of its labels.
    fn note_fates(
        &mut self,
        spaces: &Spaces,
        relation: &Relation,
        node: NodeId,
        picked: &BTreeSet<(NodeId, LabelId)>,
    ) {
        for (at, label) in relation.labels.iter().enumerate() {
            let id = LabelId(at as u32);
            if picked.contains(&(node, id)) {
                continue;
            }
            let space = spaces.label(node, id);
            match &label.fate {
                Fate::Free => {}
                Fate::Fixed(reason) => self.freeze(space, reason, Some(Holder::Node(node))),
                Fate::Lossy(reason) => self.lose(space, reason, None),
                Fate::Routed(routing) => self.lose(space, &routing.reason, Some(routing.least)),
            }
        }
    }

    /// Freezes formal inputs and results that the rule says nothing of: boundaries that it does not understand.
    fn freeze_undescribed(
        &mut self,
        model: &Model,
        spaces: &Spaces,
        relation: &Relation,
        node: NodeId,
    ) {
        for (branch, graph) in model.index().node(node).subgraphs.iter().enumerate() {
            let graph = model.index().graph(*graph);
            let formals = (0..graph.inputs.len()).map(|at| Port::Formal(branch as u32, at as u32));
            let results = (0..graph.outputs.len()).map(|at| Port::Result(branch as u32, at as u32));
            for port in formals
                .chain(results)
                .filter(|port| !relation.ports.contains_key(port))
            {
                if let Some(value) = port_value(model, node, port) {
                    let reason = Reason::NotDescribed(port.to_string());
                    let cause = (&reason, Some(Holder::Node(node)));
                    self.freeze_value(spaces, value, cause, &Allowed::new(), "");
                }
            }
        }
    }

    fn freeze_value(
        &mut self,
        spaces: &Spaces,
        value: ValueId,
        (reason, holder): (&Reason, Option<Holder>),
        allowed: &Allowed,
        name: &str,
    ) {
        for (axis, space) in spaces.axes(value).enumerate() {
            if !allowed.contains(&(name.to_owned(), axis)) {
                self.freeze(space, reason, holder);
            }
        }
    }
}
