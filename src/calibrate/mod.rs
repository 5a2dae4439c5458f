//! What inputs tell of a model: activations folded into mergeable sums, and whether the inputs look like those that the model
//! was trained on.
//!
//! Invariant: nothing here is chosen or changed; the same runs give the same numbers, whatever the number of threads.

mod dataset;
mod gather;
mod gauges;
mod ids;
mod made_up;
mod masks;
mod moments;
mod saved;
mod shapes;
mod specs;

pub use dataset::{Apart, Dataset};
pub use gather::{ChosenRuns, POSITIONS, SPARED, gather, held_out, picks, stack};
pub use gauges::doubts;
pub use made_up::MadeUp;
pub use masks::MaskDerivatives;
pub use moments::{Covariance, Moments, Statistics};
pub use specs::{ModelInputs, cached, classes, declared_inputs, unranked_input};
