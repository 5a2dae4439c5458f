//! Structural pruning of ONNX models.
#![warn(missing_docs)]

pub mod allocate;
pub mod analysis;
pub mod calibrate;
pub mod clean;
pub mod cli;
pub mod cost;
pub mod evaluate;
pub mod facts;
pub mod files;
pub mod inputs;
pub mod latency;
pub mod linear;
pub mod model;
pub mod ops;
pub mod plan;
pub mod progress;
pub mod proto;
pub mod prune;
pub mod recover;
pub mod relation;
pub mod report;
pub mod rng;
pub mod run;
pub mod score;
pub mod surgery;
pub mod verify;
pub mod workspace;
