//! What is known of a value before anything runs: element type, shape, and the contents of the small
//! tensors that shapes are computed with.
//!
//! Invariant: plain data and arithmetic; no graph is walked here.

mod contents;
mod dim;
mod fact;

pub use contents::{Contents, Element, contents_of};
pub use dim::Dim;
pub use fact::Fact;
