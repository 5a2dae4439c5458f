//! What a model costs, as a function of what is kept of it: operations, parameters, bytes, time.
//!
//! Invariant: no weights' values, no runtimes; times come in as data.

mod count;
mod file;
mod grid;
mod incremental;
mod model;
mod share;
mod stored;

pub use count::{ShapeTrial, trial};
pub use file::{averages_branches, bytes, cost, params, uncounted};
pub use grid::{Grid, Timed};
pub use incremental::IncrementalCost;
pub use model::{Cost, CostModel, NOTES};
pub use share::{KeptShare, width};

use crate::analysis::Analysis;
use crate::model::{Model, NodeId};

/// A node of which nobody knows how many operations it takes.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Uncounted {
    /// The node's name, or its first output's.
    pub node: String,
    /// `domain:Type`.
    pub operator: String,
}

impl Uncounted {
    fn of(model: &Model, node: NodeId) -> Self {
        let proto = model.node(node);
        let domain = match proto.domain() {
            "" => "ai.onnx",
            domain => domain,
        };
        Uncounted {
            node: model.node_label(node).to_owned(),
            operator: format!("{domain}:{}", proto.op_type()),
        }
    }
}

/// An analysed model, and what it costs.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    /// What is known of it.
    pub analysis: &'a Analysis,
    /// What it costs, by what is kept.
    pub cost: &'a CostModel,
}
