//! Running models: one door for every runtime, and what has to be done to a model before one can be trusted with it.
//!
//! Invariant: knows nothing of pruning. A runtime never answers silently what it cannot compute rightly: it says
//! [`Unverifiable`], with the operator's name, and no panic of its own leaves this room.

mod budget;
mod choose;
#[cfg(test)]
pub(crate) mod corpus;
#[cfg(test)]
mod equivalence;
mod lower;
mod ort;
mod quiet;
mod session;
mod shapes;
mod shared;
#[cfg(test)]
mod tests;
mod tract;

pub use budget::{misfit, work as work_of_a_run};
pub use choose::{Chosen, Engines, Find, choose, choose_for};
pub use lower::{Infer, InferredFacts, without_sequences};
pub use ort::{LibraryError, OrtRuntime, libraries};
pub use session::{Fallback, RunError, Runtime, Session, Tensors, Unverifiable, run_all};
pub use shapes::{InputDims, dims, for_shapes};
pub use tract::TractRuntime;
