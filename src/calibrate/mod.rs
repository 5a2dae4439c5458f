//! Inputs to run a model on: from files of arrays, folders of images, ONNX test sets, or made up from declared shapes.
//!
//! Whatever there is much of stays where it lies, and is read, decoded, scaled and converted batch by batch when a batch is
//! asked for: memory does not grow with the number of samples. Two kinds of arrays are held in memory: compressed ones of
//! up to 64 MiB (larger ones are inflated to a temporary file), and those in column-major order.
//! Invariant: knows a model's inputs by [`InputSpec`] alone, no graph.

mod apart;
mod array;
mod batches;
mod columns;
mod digest;
mod error;
mod fed;
mod gather;
mod images;
mod inputs;
mod leaves;
mod moments;
mod npy_header;
mod npz;
mod preprocess;
mod ready;
mod saved;
mod spec;
mod symbols;
mod synthetic;
mod testsets;

pub use apart::{Part, apart};
pub use batches::{Batches, GatherError, in_order, size};
pub use digest::digest;
pub use error::DataError;
pub use fed::{Fed, FedInput};
pub use gather::{POSITIONS, gather, held_out, picks, stack};
pub use inputs::{Inputs, Options, load, ranks, sources};
pub use moments::{Covariance, Moments, Statistics};
pub use npz::{read_npy, read_npz, write_npy, write_npz};
pub use preprocess::Preprocess;
pub use ready::Ready;
pub use spec::{InputKind, InputSpec};
pub use synthetic::{counting_shapes, synthetic, synthetic_within};

/// The tensors of one run, by input name.
pub type Tensors = indexmap::IndexMap<String, crate::model::TensorRef>;
