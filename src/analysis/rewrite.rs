//! Carrying a cut through the nodes: attributes and shape operands that hold extents, checked by inferring again.
//!
//! Works on a copy of the model whose constants have their new dims already. Every node is inferred anew, and every
//! extent must equal the count of what was kept: what `onnx.checker` does not see is found here, before anything runs.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::sync::Arc;

use super::Analysis;
use super::demand::Operands;
use super::groups::Selection;
use super::infer::{Declared, Facts, InputShapes, leave, results, seed, view};
use super::spaces::SpaceId;
use crate::facts::Dim;
use crate::model::{GraphId, Index, Model, NodeId, ValueId};
use crate::ops::{Cut, Demand, NodeEdit, lookup};
use crate::relation::{LabelId, Reason, Relation};

/// For each label of a node the indices that stay; `None` where all do.
type KeptByLabel = Vec<Option<Arc<[u32]>>>;

/// A node that does not follow a cut, and the spaces that must stay whole because of it.
#[derive(Clone, Debug)]
pub struct Failure {
    /// The node.
    pub node: NodeId,
    /// The spaces to freeze.
    pub spaces: Vec<SpaceId>,
    /// Why.
    pub reason: Reason,
}

/// Rewrites all nodes of `model` (the copy) for a selection made on `original`. Errors: every node that cannot follow.
pub fn rewrite(
    model: &mut Model,
    original: &Model,
    analysis: &Analysis,
    selection: &Selection,
) -> Result<(), Vec<Failure>> {
    let facts = seed(model, &InputShapes::new());
    let tainted = vec![false; model.index().values().len()];
    let declared = Declared::new(original);
    let operands = Operands::new(model);
    let mut rewriter = Rewriter {
        model,
        original,
        analysis,
        selection,
        facts,
        declared: &declared,
        tainted,
        operands,
        failures: Vec::new(),
    };
    // Inputs that may shrink are fed with the kept slices.
    for input in original.index().graph(Index::MAIN).inputs.clone() {
        if original.tensor_proto(input).is_none() {
            rewriter.narrow(input);
        }
    }
    rewriter.graph(Index::MAIN);
    let Rewriter {
        operands, failures, ..
    } = rewriter;
    operands.insert_nodes(model);
    if failures.is_empty() {
        Ok(())
    } else {
        Err(failures)
    }
}

pub(super) struct Rewriter<'a> {
    pub(super) model: &'a mut Model,
    pub(super) original: &'a Model,
    pub(super) analysis: &'a Analysis,
    pub(super) selection: &'a Selection,
    pub(super) facts: Facts,
    pub(super) declared: &'a Declared<'a>,
    /// Values computed from an extent that changed.
    pub(super) tainted: Vec<bool>,
    pub(super) operands: Operands,
    pub(super) failures: Vec<Failure>,
}

impl Rewriter<'_> {
    fn graph(&mut self, id: GraphId) {
        for node in self.original.index().graph(id).nodes.clone() {
            let mut edit = self.edit(node);
            self.restore(node, &mut edit);
            self.apply(node, &edit);
            self.repack(node);
            self.demands(node, &edit.demands);
            for subgraph in &self.original.index().node(node).subgraphs {
                // What comes in again from step to step is what the analysis says of it; whether it fits what is given at
                // first and what every step results in shows at the node itself.
                for formal in self.original.index().graph(*subgraph).inputs.clone() {
                    self.narrow(formal);
                }
                self.graph(*subgraph);
            }
            self.infer(node);
            // Extents that are computed elsewhere may have followed another cut, or stand as plain numbers; those that are symbols
            // are asked for only where that is not enough, for they may well be left to a -1.
            for symbols in [false, true] {
                if !self.mismatches(node).is_empty()
                    && let Some(demand) = self.target(node, symbols)
                {
                    self.demands(node, &[demand]);
                    self.infer(node);
                }
            }
            let mut wrong = self.mismatches(node);
            if !wrong.is_empty() {
                self.blame_inputs(node, &mut wrong);
                let what = format!("the shape of {}", self.original.node_label(node));
                let found: Vec<_> = self
                    .original
                    .index()
                    .node(node)
                    .outputs
                    .iter()
                    .flatten()
                    .map(|output| &self.facts.of(*output).shape)
                    .collect();
                tracing::debug!(?found, problem = ?self.facts.problems.get(&node), "{what} is not what was kept");
                self.failures.push(Failure {
                    node,
                    spaces: wrong,
                    reason: Reason::Demand(what),
                });
                self.assume_expected_shape(node);
            }
            self.follow_taint(node);
        }
    }

    /// What the rule asks to be changed at a node; nothing where no label of it is touched.
    fn edit(&mut self, node: NodeId) -> NodeEdit {
        let mut edit = NodeEdit::default();
        let relation = &self.analysis.relations[node.index()];
        let kept = self.analysis.kept_labels(node, self.selection);
        if kept.iter().all(Option::is_none) {
            return edit;
        }
        let view = view(self.original, &self.analysis.facts, node, true);
        let Some(operator) = lookup(view.node.domain(), view.node.op_type()) else {
            return edit;
        };
        let (relation, kept) = self.by_multiples(node, relation, kept);
        let cut = Cut {
            relation: &relation,
            kept,
        };
        if let Err(error) = operator.rewrite(&view, &cut, &mut edit) {
            self.fail(node, Reason::Demand(error.to_string()));
        }
        edit
    }

    /// Labels whose extent is a symbol's multiple (heads merged into the batch) have no list of indices: a rule sees them whole, with
    /// the extent that is left of them.
    fn by_multiples<'b>(
        &self,
        node: NodeId,
        relation: &'b Relation,
        mut kept: Vec<Option<Arc<[u32]>>>,
    ) -> (Cow<'b, Relation>, KeptByLabel) {
        let mut relation = Cow::Borrowed(relation);
        for (at, kept) in kept.iter_mut().enumerate() {
            let label = LabelId(at as u32);
            if kept.is_some() && relation.label(label).extent.count().is_none() {
                *kept = None;
                let space = self.analysis.spaces.label(node, label);
                if let Some(extent) =
                    self.selection
                        .extent(&self.analysis.spaces, &self.analysis.classes, space)
                    && let Some(label) = relation.to_mut().labels.get_mut(at)
                {
                    label.extent = extent;
                }
            }
        }
        (relation, kept)
    }

    /// Freezes everything that is cut at a node.
    pub(super) fn fail(&mut self, node: NodeId, reason: Reason) {
        let kept = self.analysis.kept_labels(node, self.selection);
        let cut = kept.iter().enumerate().filter(|(_, kept)| kept.is_some());
        let mut spaces: Vec<SpaceId> = cut
            .map(|(label, _)| self.analysis.spaces.label(node, LabelId(label as u32)))
            .collect();
        if spaces.is_empty() {
            self.blame_inputs(node, &mut spaces);
        }
        self.failures.push(Failure {
            node,
            spaces,
            reason,
        });
    }

    /// The extent that an axis has after the cut, as far as inference got.
    fn found(&self, value: ValueId, axis: usize) -> Option<&Dim> {
        self.facts.of(value).shape.as_ref()?.get(axis)
    }

    /// All that a target operand must hold: numbers, cut extents, and with `symbols` whatever else came out differently.
    fn target(&self, node: NodeId, symbols: bool) -> Option<Demand> {
        let message = self.original.node(node);
        let view = view(self.original, &self.analysis.facts, node, true);
        let input = lookup(message.domain(), message.op_type())?.shape_operand(&view)?;
        let output = self.original.index().node(node).output(0)?;
        let shape = self.analysis.facts.of(output).shape.as_ref()?;
        let element = |(axis, dim): (usize, &Dim)| match self.analysis.new_extent(
            output,
            axis,
            self.selection,
        ) {
            Some(extent) => Some(extent),
            None if dim.count().is_some() || (symbols && self.found(output, axis) != Some(dim)) => {
                Some(dim.clone())
            }
            None => None,
        };
        Some(Demand {
            input,
            elements: shape.iter().enumerate().map(element).collect(),
            whole: false,
        })
    }

    fn demands(&mut self, node: NodeId, demands: &[Demand]) {
        for demand in demands {
            if let Err(what) = self.operands.satisfy(self.model, &self.facts, node, demand)
                && !self.operands.reshape_by_constant(
                    self.model,
                    &self.analysis.facts,
                    self.original,
                    node,
                    demand,
                )
            {
                self.fail(node, Reason::Demand(what));
            }
        }
    }

    pub(super) fn infer(&mut self, node: NodeId) {
        let mut view = view(self.model, &self.facts, node, false);
        self.operands.substitute(node, &mut view.inputs);
        let results = results(&view);
        leave(self.model, self.declared, &mut self.facts, node, results);
    }

    /// The axes of a node's outputs whose new extent is not the count of what was kept.
    fn mismatches(&self, node: NodeId) -> Vec<SpaceId> {
        let mut wrong = Vec::new();
        for output in self.original.index().node(node).outputs.iter().flatten() {
            let Some(old) = &self.analysis.facts.of(*output).shape else {
                continue;
            };
            for (axis, (space, old)) in self.analysis.spaces.axes(*output).zip(old).enumerate() {
                let left = self.analysis.new_extent(*output, axis, self.selection);
                if self.found(*output, axis) != Some(left.as_ref().unwrap_or(old)) {
                    wrong.push(space);
                    // The cut that went astray may be of another axis of the same node.
                    if left.is_none() {
                        wrong.extend(self.cut_spaces_of(node));
                    }
                }
            }
        }
        wrong.sort();
        wrong.dedup();
        wrong
    }

    /// Gives the outputs of a node that failed the extents that they should have, so that only it is blamed.
    fn assume_expected_shape(&mut self, node: NodeId) {
        for output in self.original.index().node(node).outputs.iter().flatten() {
            self.narrow(*output);
        }
    }

    /// Takes it that a value has the extents that the cut leaves it.
    fn narrow(&mut self, value: ValueId) {
        let mut fact = self.analysis.facts.of(value).clone();
        for (axis, dim) in fact.shape.iter_mut().flatten().enumerate() {
            if let Some(extent) = self.analysis.new_extent(value, axis, self.selection) {
                *dim = extent;
            }
        }
        self.facts.set(value, fact);
    }

    fn cut_spaces_of(&self, node: NodeId) -> Vec<SpaceId> {
        let entry = self.original.index().node(node);
        let values: BTreeSet<ValueId> = entry
            .inputs
            .iter()
            .chain(&entry.outputs)
            .flatten()
            .copied()
            .collect();
        let axes = values
            .into_iter()
            .flat_map(|value| self.analysis.spaces.axes(value));
        axes.filter(|space| {
            self.selection
                .indices(&self.analysis.spaces, &self.analysis.classes, *space)
                .is_some()
        })
        .collect()
    }
}
