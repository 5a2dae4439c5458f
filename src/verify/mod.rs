//! Proof that the surgery is right, and measurement of how far the outputs moved.

mod mask;

pub use mask::masked;
