//! Inputs to run a model on: from files of arrays, folders of images, ONNX test sets, or made up from declared shapes.
//!
//! Arrays stay as they lie in the file (mapped where they are not compressed) and are cut into batches, scaled and
//! converted only when a batch is asked for. Invariant: knows a model's inputs by [`InputSpec`] alone, no graph.

mod columns;
mod error;
mod gather;
mod images;
mod inputs;
mod leaves;
mod moments;
mod npz;
mod preprocess;
mod saved;
mod spec;
mod symbols;
mod synthetic;
mod testsets;

pub use error::DataError;
pub use gather::{Batches, GatherError, POSITIONS, gather, held_out, picks, run_in_order, stack};
pub use inputs::{Inputs, Options, load};
pub use moments::{Moments, Statistics};
pub use npz::{read_npy, read_npz, write_npy, write_npz};
pub use preprocess::Preprocess;
pub use spec::{InputKind, InputSpec};
pub use synthetic::synthetic;

/// The tensors of one run, by input name.
pub type Tensors = indexmap::IndexMap<String, crate::model::TensorRef>;
