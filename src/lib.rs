//! Structural pruning of ONNX models.
#![warn(missing_docs)]

pub mod facts;
pub mod model;
pub mod ops;
pub mod proto;
pub mod relation;
pub mod run;
