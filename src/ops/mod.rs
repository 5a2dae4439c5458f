//! What each operator means: its shapes ([`Operator::infer`]), how the indices of its tensors correspond
//! ([`Operator::relate`]), and which of its attributes and shape operands hold extents ([`Operator::rewrite`]).
//!
//! One family of operators a file; each lists its rules, and [`registry`] finds them.
//! Invariant: a rule sees its own node only: no other nodes, no weights' values, no choices.

mod along;
mod arithmetic;
mod attention;
mod axes;
mod back;
mod broadcast;
#[cfg(test)]
pub(crate) mod case;
#[cfg(test)]
mod cases;
mod constant;
mod contraction;
mod control;
mod conv;
mod conv_causal;
mod conv_deform;
mod edit;
mod einsum;
mod elements;
mod elementwise;
mod expand;
mod fit;
mod frozen;
mod gather;
pub mod gradient;
mod heads;
mod held;
mod image;
mod join;
#[cfg(test)]
mod laws;
mod linear_attention;
mod logic;
mod loss;
pub mod make;
mod matmul;
mod matmul_blocks;
mod matmul_packed;
mod matrix;
mod meaning;
mod microsoft;
mod ml;
mod norm;
mod norm_fused;
mod norm_last;
mod operand;
mod packed;
mod pad;
mod permute;
mod pool;
mod quant;
mod quant_linear;
mod recurrent;
mod reduce;
mod refine;
pub mod registry;
mod reshape;
mod resize;
mod rotary;
mod rule;
mod scatter;
mod sequence;
mod shape;
mod signal;
mod slice;
mod softmax;
mod text;
mod training;
mod view;
mod window;

pub use back::back;
pub use edit::{Cut, Demand, NodeEdit, RewriteError, Setting};
pub use gather::ONE_READ;
pub use held::{held_tensor, holds_tensor};
pub use meaning::{
    Along, BiasInput, ChannelAxis, Control, Decides, Flow, LinearMap, Meaning, OfConstant,
    PackedInputs, Pick, Positions, Recurrence, StoredStatistics, WeightRows,
};
pub use pool::POSITIONS;
pub use registry::{flow, lookup, meaning};
pub use rule::Rule;
pub use view::{Branch, NodeView};

use crate::facts::Fact;
use crate::relation::Relation;

/// Shapes that do not fit, or attributes that make no sense.
#[derive(Clone, Debug, thiserror::Error, PartialEq)]
#[error("{0}")]
pub struct InferError(pub String);

/// What one operator means for pruning.
pub trait Operator: Sync {
    /// Types, shapes, and small contents of the outputs, one per output that the node names (a `None` output may get any
    /// fact). Symbolic extents are carried along; what is not known is `Fact::default()` or a [`NodeView::unknown`] extent.
    fn infer(&self, node: &NodeView) -> Result<Vec<Fact>, InferError>;

    /// How the indices of the node's tensors correspond. Total: what it does not understand is `Fixed`.
    /// Called only when all outputs' facts are known to the view.
    fn relate(&self, node: &NodeView) -> Relation;

    /// Sets attributes that hold an extent, and states what shape operands must hold after a cut.
    fn rewrite(
        &self,
        _node: &NodeView,
        _cut: &Cut,
        _edit: &mut NodeEdit,
    ) -> Result<(), RewriteError> {
        Ok(())
    }

    /// The inputs that are read as shapes, indices of axes or the like, so that their contents may change with a cut.
    fn shape_inputs(&self, _node: &NodeView) -> Vec<u32> {
        Vec::new()
    }

    /// The input that holds nothing but the extents of the first output, so that it can be made to hold others: 0 copies the
    /// extent of the first input in the same place, and one −1 stands for what is left.
    fn shape_operand(&self, _node: &NodeView) -> Option<u32> {
        None
    }

    /// Whether each entry of the outputs is a function of the inputs' entries at its own place (in the order that the relation
    /// says), so that an input of extent 1 along an axis gives what does not differ along it either.
    fn is_entrywise(&self) -> bool {
        false
    }

    /// Why nothing may go in any node of this operator, if that is so.
    fn frozen_reason(&self) -> Option<&'static str> {
        None
    }

    /// Facts of a subgraph's formal inputs, from the facts of the node's inputs (control flow only).
    fn formal_facts(&self, _node: &NodeView, _branch: u32) -> Vec<Fact> {
        Vec::new()
    }
}
