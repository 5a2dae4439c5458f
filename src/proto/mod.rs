//! Generated protobuf messages and the element types of tensors.
//!
//! Invariant: nothing here knows what an operator or a weight means.

mod dtype;

/// The messages of `proto/onnx-ml.proto`, as prost generates them.
#[allow(clippy::all, missing_docs, rustdoc::all)]
mod generated {
    include!(concat!(env!("OUT_DIR"), "/onnx.rs"));
}

pub use dtype::{Dtype, is_weight};
pub use generated::*;
