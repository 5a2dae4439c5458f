//! Proof that the surgery is right (`exactness`), and measurement of how far the outputs moved ([`Drift`]).
//!
//! Invariant: mends nothing.

mod agreement;
mod alive;
mod compare;
mod copy;
mod cut;
mod drift;
mod embedding;
mod exactness;
mod labels;
mod mask;
mod taps;
#[cfg(test)]
mod tests;
mod trial;
mod zero;

pub use agreement::Agreement;
pub use compare::{kept, largest_error, relative_error};
pub use cut::{CutModels, HALF_TOLERANCE, TOLERANCE};
pub use drift::{Drift, OutputDrift, worst};
pub use embedding::Embeddings;
pub use exactness::{Exactness, Verdict, exactness};
pub use labels::Top1;
pub use mask::masked;
