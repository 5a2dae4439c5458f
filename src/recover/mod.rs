//! Better weights for what stays: least squares, layer after layer, with no training.
//!
//! Every product whose input has changed is fitted anew, in topological order: its input is taken from the pruned model
//! with all layers before it already mended, its aim from the original. Two layers with nothing but a function between
//! them are fitted once more together, and so are all that the cell of a recurrent layer reads. New weights are kept only where they do better on
//! runs that they were not fitted to. Invariant: the graph stays as it is, except for a bias where there was none.

mod aim;
mod cell;
mod frontier;
mod joint;
mod layers;
mod mend;
mod order;
mod patches;
mod problem;
mod repair;
mod request;
mod rows;
mod sample;
mod shelf;
mod solve;
mod support;
mod system;
mod task;

pub use repair::{fitted_layers, recover, recover_on};
pub use request::{Repair, RepairOptions, Teacher};
pub use solve::{Method, local};
pub use support::{Candidate, Selector, damped, solve_on};
