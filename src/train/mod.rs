//! Retraining: gradients of a model's weights, and weights that make a pruned model give what the original gave.
//!
//! Deliberately absent: tensor kernels (they are in [`crate::gradient`]), and any operator's name (which function a node is
//! says [`crate::ops::gradient`]).

mod adamw;
mod aims;
mod checkpoint;
mod classes;
mod course;
mod distill;
mod error;
mod lessons;
mod limits;
mod loss;
mod masks;
mod mean;
mod measure;
mod network;
mod place;
mod positions;
mod rate;
mod record;
mod samples;
mod shares;
mod student;
#[cfg(test)]
mod tests;
mod trainable;

pub use distill::distill;
pub use error::TrainError;
pub use masks::mask_derivatives;
pub use measure::OutputLoss;
pub use place::Checkpoint;
pub use record::{Lesson, TRAINED, Trained, Training, TrainingData, TrainingRecord};
