//! Products of activations with constant weights, read as matrix products.
//!
//! A term whose weight is constant is, whatever the operator, a stack of matrix products `Y[g] = X[g] · W[g]ᵀ`: labels of
//! the activation and the output are *positions*, labels of all three *groups*, labels of the weight and the output
//! *rows*, summed ones *columns*. Scores, statistics and recovery see nothing else of a layer.
//!
//! Invariant: nothing here chooses, changes or runs anything by itself.

mod bias;
mod operand;
mod packed;
mod quantization;
mod read;
#[cfg(test)]
mod tests;
mod units;
mod view;
mod walk;

pub use bias::Bias;
pub use operand::{Operand, encode};
pub use read::views;
pub use units::units_of_columns;
pub use view::Linear;
