//! Rules: what they see of the node that they replace, and what they answer.

use std::collections::BTreeMap;

use super::builder::GraphBuilder;
use super::inferred::InferredFacts;
use crate::model::TensorRef;
use crate::model::edit::NodeExt;
use crate::proto::{Dtype, NodeProto};
use crate::run::Unverifiable;

/// Result of a rule, or of a pass over all rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// The node was replaced.
    Replaced,
    /// There is nothing to do.
    Unchanged,
    /// A shape, a type or a content that the rule needs is not known (yet).
    NeedsFacts,
}

impl Change {
    /// Joins results: what was replaced outweighs what waits for facts.
    pub(super) fn and(self, other: Change) -> Change {
        match (self, other) {
            (Change::Replaced, _) | (_, Change::Unchanged) => self,
            _ => other,
        }
    }
}

/// Writes into the site's builder the nodes that replace one. It must answer `Unchanged` for nodes that it makes itself.
pub(super) type Rewrite = fn(&NodeProto, &mut Site) -> Result<Change, Unverifiable>;

/// How the nodes of one operator are lowered.
pub(super) struct LoweringRule {
    pub(super) domain: &'static str,
    pub(super) op: &'static str,
    pub(super) how: How,
}

/// The two forms of a rule.
#[derive(Clone, Copy)]
pub(super) enum How {
    /// Code, where the nodes that are made depend on the node's shapes or attributes.
    Code(Rewrite),
    /// A function in text, which takes the node's inputs, outputs and attributes.
    Text(&'static str),
}

impl LoweringRule {
    /// A rule in code.
    pub(super) const fn code(domain: &'static str, op: &'static str, rewrite: Rewrite) -> Self {
        LoweringRule {
            domain,
            op,
            how: How::Code(rewrite),
        }
    }

    /// A rule in text, see [`crate::model::text::function`].
    pub(super) const fn text(domain: &'static str, op: &'static str, text: &'static str) -> Self {
        LoweringRule {
            domain,
            op,
            how: How::Text(text),
        }
    }
}

/// The place of a node: a builder for what replaces it, and the facts about its inputs.
pub(super) struct Site<'a> {
    pub(super) builder: GraphBuilder<'a>,
    pub(super) inferred: &'a InferredFacts,
    pub(super) constants: &'a BTreeMap<String, TensorRef>,
}

impl Site<'_> {
    /// Whether facts were inferred: what is missing then will not be known before the model runs.
    pub(super) fn asked(&self) -> bool {
        !self.inferred.dtypes.is_empty()
    }

    /// A constant's elements.
    pub(super) fn tensor(&self, name: Option<&str>) -> Option<TensorRef> {
        let name = name?;
        self.constants
            .get(name)
            .or_else(|| self.inferred.contents.get(name))
            .cloned()
    }

    /// Extents of a value.
    pub(super) fn shape(&self, name: Option<&str>) -> Option<Vec<i64>> {
        let name = name?;
        match self.constants.get(name) {
            Some(constant) => Some(constant.dims.iter().map(|dim| *dim as i64).collect()),
            None => self.inferred.shapes.get(name).cloned(),
        }
    }

    /// Element type of a value.
    pub(super) fn dtype(&self, name: Option<&str>) -> Option<Dtype> {
        let name = name?;
        self.constants
            .get(name)
            .map(|constant| constant.dtype)
            .or_else(|| self.inferred.dtypes.get(name).copied())
    }
}

/// The refusal of a node, with its name.
pub(super) fn refusal(node: &NodeProto, what: &str) -> Unverifiable {
    Unverifiable::new(format!("{}: {what}", node.label()))
}

/// The same operator under the standard's name.
pub(super) fn standard(node: &NodeProto, site: &mut Site) -> Result<Change, Unverifiable> {
    site.builder.nodes.push(NodeProto {
        domain: None,
        ..node.clone()
    });
    Ok(Change::Replaced)
}
