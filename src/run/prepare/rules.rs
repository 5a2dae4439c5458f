//! Rewrites of single nodes: which there are, and how they are applied.

use std::collections::BTreeMap;

use super::draft::Draft;
use super::known::Known;
use super::node::{kind, label, subgraphs_mut};
use super::wire::Wire;
use super::{
    attention, batch_norm, bits, columns, contrib, embedding, indices, multi_head, older, pads,
    quantized, quantized_lstm, recurrent, reduce, spectra, steps,
};
use crate::model::TensorRef;
use crate::proto::{Dtype, GraphProto, NodeProto};
use crate::run::Unverifiable;

/// What a rule, or a pass over all rules, came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// The node was replaced.
    Done,
    /// There is nothing to do.
    Leave,
    /// There is, but a shape, a type or a content that it needs is not known (yet).
    NeedsFacts,
}

/// A rule: writes into the site's wire what takes the node's place. It must say `Leave` to what it makes itself.
pub(super) type Rule = fn(&NodeProto, &mut Site) -> Result<Outcome, Unverifiable>;

/// `(domain, operator, rule)`.
pub(super) type Entry = (&'static str, &'static str, Rule);

/// Where a node stands.
pub(super) struct Site<'a> {
    pub(super) wire: Wire<'a>,
    known: &'a Known,
    constants: &'a BTreeMap<String, TensorRef>,
}

impl Site<'_> {
    /// Whether it was asked what is known: what is missing then will not be known before the model runs.
    pub(super) fn asked(&self) -> bool {
        !self.known.dtypes.is_empty()
    }

    /// A constant's elements.
    pub(super) fn tensor(&self, name: Option<&str>) -> Option<TensorRef> {
        let name = name?;
        self.constants
            .get(name)
            .or_else(|| self.known.contents.get(name))
            .cloned()
    }

    pub(super) fn shape(&self, name: Option<&str>) -> Option<Vec<i64>> {
        let name = name?;
        match self.constants.get(name) {
            Some(constant) => Some(constant.dims.iter().map(|dim| *dim as i64).collect()),
            None => self.known.shapes.get(name).cloned(),
        }
    }

    pub(super) fn dtype(&self, name: Option<&str>) -> Option<Dtype> {
        let name = name?;
        self.constants
            .get(name)
            .map(|constant| constant.dtype)
            .or_else(|| self.known.dtypes.get(name).copied())
    }
}

/// All rules.
pub(super) struct Rules(BTreeMap<(&'static str, &'static str), Rule>);

impl Rules {
    pub(super) fn all() -> Self {
        let families: [&[Entry]; 16] = [
            attention::RULES,
            batch_norm::RULES,
            bits::RULES,
            columns::RULES,
            contrib::RULES,
            embedding::RULES,
            indices::RULES,
            multi_head::RULES,
            older::RULES,
            pads::RULES,
            quantized::RULES,
            quantized_lstm::RULES,
            recurrent::RULES,
            reduce::RULES,
            spectra::RULES,
            steps::RULES,
        ];
        Rules(
            families
                .iter()
                .flat_map(|family| family.iter())
                .map(|(domain, op, rule)| ((*domain, *op), *rule))
                .collect(),
        )
    }

    /// One pass over all graphs. Leaves in `draft.waiting` the first node that needs to know more.
    pub(super) fn apply(&self, draft: &mut Draft, known: &Known) -> Result<Outcome, Unverifiable> {
        draft.waiting = None;
        let mut graph = draft.proto.graph.take().unwrap_or_default();
        let outcome = self.in_graph(&mut graph, draft, known, &BTreeMap::new());
        draft.proto.graph = Some(graph);
        outcome
    }

    fn in_graph(
        &self,
        graph: &mut GraphProto,
        draft: &mut Draft,
        known: &Known,
        outer: &BTreeMap<String, TensorRef>,
    ) -> Result<Outcome, Unverifiable> {
        let mut outcome = Outcome::Leave;
        let mut note = |new: Outcome| match (outcome, new) {
            (Outcome::Done, _) | (_, Outcome::Leave) => {}
            _ => outcome = new,
        };
        let touched = graph
            .node
            .iter()
            .any(|node| self.0.contains_key(&kind(node)) || !node_is_flat(node));
        if !touched {
            return Ok(outcome);
        }
        let mut constants = outer.clone();
        constants.extend(graph.initializer.iter().filter_map(|tensor| {
            let tensor_ref = TensorRef::from_proto(tensor).ok()?;
            Some((tensor.name().to_owned(), tensor_ref))
        }));
        let mut nodes = Vec::with_capacity(graph.node.len());
        for mut node in std::mem::take(&mut graph.node) {
            for subgraph in subgraphs_mut(&mut node) {
                note(self.in_graph(subgraph, draft, known, &constants)?);
            }
            let Some(rule) = self.0.get(&kind(&node)) else {
                nodes.push(node);
                continue;
            };
            let mut site = Site {
                wire: Wire::new(&mut draft.names, draft.opset),
                known,
                constants: &constants,
            };
            let result = rule(&node, &mut site)?;
            note(result);
            if result == Outcome::NeedsFacts {
                draft.waiting.get_or_insert_with(|| label(&node));
            }
            if result == Outcome::Done {
                let Wire {
                    nodes: made,
                    constants: new,
                    ..
                } = site.wire;
                nodes.extend(made);
                graph.initializer.extend(new);
            } else {
                nodes.push(node);
            }
        }
        graph.node = nodes;
        Ok(outcome)
    }
}

fn node_is_flat(node: &NodeProto) -> bool {
    super::node::subgraphs(node).next().is_none()
}
