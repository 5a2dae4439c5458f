//! Single weights set to zero: which, how many of each layer, and better numbers for those that stay.
//!
//! The graph stays as it is. Layers are treated in topological order: second moments of a layer's inputs are those of the
//! model whose layers before it are sparse already, its aims the original's outputs. A mask is chosen, then the weights that
//! stay are fitted on it. What passes over the data do not reach goes by the original's own inputs.
//!
//! Invariant: knows no operators; layers are what [`crate::linear`] makes of their relations.

mod chooser;
mod error;
mod job;
mod local;
mod make;
mod mask;
mod measure;
mod obs;
mod parts;
mod pattern;
mod request;
mod run;
mod score;
mod shares;
mod sparsegpt;
mod storage;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;

pub use error::Error;
pub use mask::{Mask, MaskError, SparsePlan};
pub use measure::MeasuredLoss;
pub use parts::{LeftDense, SparsePart};
pub use pattern::{MaskShape, SparsityPattern, Units};
pub use request::{Data, SparseLayer, SparsifyOutcome, SparsifyRequest};
pub use run::sparsify;
pub use score::SparseScore;
pub use storage::{deflated, store_sparse};
