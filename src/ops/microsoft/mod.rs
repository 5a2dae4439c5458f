//! Operators of ONNX Runtime's own domain that have no twin in the standard.
//!
//! Invariant: as in [`super`]: a rule sees its own node only.

mod attention;
mod frozen;
mod moe;
mod multi_head;

pub(super) use attention::RULES as ATTENTION;
pub(super) use frozen::RULES as FROZEN;
pub(super) use moe::RULES as MOE;
pub(super) use multi_head::RULES as MULTI_HEAD;
