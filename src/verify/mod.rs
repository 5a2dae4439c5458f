//! Proof that the surgery is right ([`exactness`]), and measurement of how far the outputs moved ([`Drift`]).
//!
//! Invariant: mends nothing.

mod compare;
mod drift;
mod exactness;
mod labels;
mod mask;

pub use compare::{kept, largest_error, relative_error};
pub use drift::{Drift, OutputDrift, worst};
pub use exactness::{Exactness, HALF_TOLERANCE, TOLERANCE, Verdict, exactness};
pub use labels::Top1;
pub use mask::masked;
