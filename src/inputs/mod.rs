//! Inputs to run a model on: from files of arrays, folders of images, ONNX test sets, or made up from declared shapes.
//!
//! Whatever there is much of stays where it lies, and is read, decoded, scaled and converted batch by batch when a batch is
//! asked for: memory does not grow with the number of samples. Held in memory are arrays of up to 64 MiB that are compressed or
//! in column-major order; larger ones are inflated, and put into rows, in a temporary file.
//! Invariant: knows a model's inputs by [`InputSpec`] alone, no graph.

mod apart;
mod array;
mod batches;
mod cached;
mod column_major;
mod columns;
mod dead_leaves;
mod digest;
mod error;
mod fed;
mod images;
mod load;
mod npy_header;
mod npz;
mod pictures;
mod preprocess;
mod recipe;
mod spec;
mod styles;
mod symbols;
mod synthetic;
mod testsets;
mod trimmed;
mod views;

pub use apart::{Part, apart};
pub use batches::{
    Batches, GatherError, Sequence, SequenceInputs, examples, examples_of_both, in_order,
    run_in_order, size,
};
pub use cached::{CachedBatches, KEPT};
pub use digest::digest;
pub use error::{CALIBRATE, DataError, GIVE_INPUTS, GIVE_SHAPE, SCALING};
pub use fed::{Fed, FedInput};
pub use load::{Inputs, LoadOptions, load, shapes, sources};
pub use npz::{read_npy, read_npz, write_archive, write_npy, write_npz};
pub use preprocess::Preprocess;
pub use spec::{InputKind, InputSpec, dims_text};
pub use styles::Style;
pub use symbols::{Extents, SEQUENCE};
pub use synthetic::{hollow, synthetic, synthetic_styled, synthetic_within};
pub use trimmed::{TrimmedBatches, trim, widths};
pub use views::{Augment, AugmentError, ViewedBatches, Views};

pub use crate::run::Tensors;
