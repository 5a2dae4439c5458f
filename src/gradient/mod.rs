//! Functions of arrays with their vector–Jacobian products: what a network is made of while its weights are trained.
//!
//! Everything is single precision, and every sum is made in an order that does not depend on the number of cores. Which
//! operator is which function is said in `ops/gradient`.

mod array;
mod attention;
mod broadcast;
mod contraction;
mod convolution;
mod depthwise;
mod extents;
mod function;
mod gates;
mod group_norm;
mod map;
mod moves;
mod norm;
mod parts;
mod pool;
mod product;
mod rearrange;
mod recurrent;
mod reduce;
mod resize;
#[cfg(test)]
mod tests;
mod transposed;
mod window;

pub use array::FloatArray;
pub use attention::HeadAttention;
pub use broadcast::{Addition, Binary, Choose, Multiplication};
pub use contraction::AxisContraction;
pub use convolution::Convolution;
pub use function::{Arguments, Evaluated, Function, Misfit};
pub use group_norm::GroupedNorm;
pub use map::{Map, erf, normal_density, normal_distribution, sigmoid};
pub use moves::{Expansion, Permute, Relabel, Reshaping};
pub use norm::{LayerNorm, StoredNorm};
pub use parts::{AxisPart, Concatenation, Lookup, PadFunction, PaddedEnds, Slicing};
pub use pool::{Pooled, Pooling};
pub use product::{Gemm, MatMul};
pub use rearrange::{AxisBlocks, Rearrangement, Tiling};
pub use recurrent::{CellKind, RecurrentLayer};
pub use reduce::{AxisReduction, Reduced, SoftmaxFunction};
pub use resize::{AxisWeights, Interpolation};
pub use transposed::TransposedConvolution;
pub use window::WindowPadding;
