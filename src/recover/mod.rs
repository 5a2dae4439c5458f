//! Better weights for what stays: closed form, layer after layer, no gradients.
//!
//! Every product whose input has changed is fitted anew, in topological order: its input is taken from the pruned model
//! with all layers before it already mended, its aim from the original. New weights are kept only where they do better on
//! runs that they were not fitted to. Invariant: the graph stays as it is, except for a bias where there was none.

mod aim;
mod cell;
mod frontier;
mod joint;
mod layers;
mod mend;
mod order;
mod patches;
mod repair;
mod rows;
mod shelf;
mod solve;
mod task;

pub use repair::{Options, Repair, Teacher, recover};
pub use solve::{Method, local};
