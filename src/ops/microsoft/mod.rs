//! Operators of ONNX Runtime's own domain that have no twin in the standard.
//!
//! Invariant: as in [`super`]: a rule sees its own node only.

mod attention;
mod frozen;
mod group_query;
mod moe;
mod moe_quantized;
mod multi_head;
mod position;
mod ragged;
mod router;

pub(super) use attention::RULES as ATTENTION;
pub(super) use frozen::RULES as FROZEN;
pub(super) use group_query::RULES as GROUP_QUERY;
pub(super) use moe::RULES as MOE;
pub(super) use moe_quantized::RULES as QUANTIZED_MOE;
pub(super) use multi_head::RULES as MULTI_HEAD;
pub(super) use position::RULES as POSITION;
pub(super) use ragged::RULES as RAGGED;
