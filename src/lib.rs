//! Structural pruning of ONNX models.
#![warn(missing_docs)]

pub mod allocate;
pub mod analysis;
pub mod calibrate;
pub mod clean;
pub mod cli;
pub mod facts;
pub mod files;
pub mod job;
pub mod linear;
pub mod model;
pub mod ops;
pub mod plan;
pub mod progress;
pub mod proto;
pub mod recover;
pub mod relation;
pub mod report;
pub mod rng;
pub mod run;
pub mod score;
pub mod sparsify;
pub mod surgery;
pub mod verify;
