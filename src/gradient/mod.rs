//! Functions of arrays with their vector–Jacobian products: what a network is made of while its weights are trained.
//!
//! Everything is single precision, and every sum is made in an order that does not depend on the number of cores. Which
//! operator is which function is said in [`crate::ops`].

mod array;
mod broadcast;
mod convolution;
mod depthwise;
mod function;
mod map;
mod moves;
mod norm;
mod pool;
mod product;
mod recurrent;
mod reduce;
#[cfg(test)]
mod tests;
mod window;

pub use array::Array;
pub use broadcast::{Binary, Choose, Sum, Times};
pub use convolution::Convolution;
pub use function::{Function, Misfit, Operands, Point};
pub use map::{Map, erf, normal_density, normal_distribution, sigmoid};
pub use moves::{Concat, Ends, Expand, Gather, Pad, Part, Permute, Relabel, Reshape, Slice};
pub use norm::{LayerNorm, StoredNorm};
pub use pool::{Pool, Pooled};
pub use product::{Gemm, MatMul};
pub use recurrent::{Cell, Recurrent};
pub use reduce::{Reduce, Softmax};
pub use window::Padding;
