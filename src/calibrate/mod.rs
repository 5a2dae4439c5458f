//! What inputs tell of a model: activations folded into mergeable sums, and whether the inputs look like those that the model
//! was trained on.
//!
//! Invariant: nothing here is chosen or changed; the same runs give the same numbers, whatever the number of threads.

mod augment;
mod changed;
mod dataset;
mod gather;
mod gauges;
mod ids;
mod made_up;
mod masks;
mod moments;
mod padding;
mod saved;
mod sequences;
mod shapes;
mod specs;

pub use augment::viewed;
pub use changed::Viewed;
pub use dataset::{Apart, Dataset};
pub use gather::{ChosenRuns, POSITIONS, SPARED, gather, held_out, picks, stack};
pub use gauges::doubts;
pub use made_up::MadeUp;
pub use masks::MaskDerivatives;
pub use moments::{Covariance, Moments, Statistics};
pub use padding::trimmed;
pub use sequences::{Counting, SequenceAxes};
pub use specs::{ModelInputs, cached, classes, declared_inputs, unranked_input};
