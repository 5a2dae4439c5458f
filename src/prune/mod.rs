//! The pipeline: from a model and a request to a pruned model, its plan, and the proof.
//!
//! The only room that knows the order of the stages; each stage is a function of another room over plain data.

mod caution;
mod courses;
mod curves;
mod dead;
mod decide;
mod engine;
mod error;
mod finish;
mod fit;
mod group_error;
mod io;
mod mended_drifts;
mod mending;
mod notes;
mod outcome;
mod paths;
mod patterns;
mod points;
mod recalibrate;
mod request;
mod rotation;
mod round_state;
mod rounds;
mod search;
mod stages;
mod statistics;
mod sweep;
mod tokens_first;
mod tradeoff;
mod unchanged;
mod unmatched;
mod unrun;
mod vocabulary;

pub use decide::{DEFAULT_DRIFT, MADE_UP_DRIFT};
pub use engine::Pruner;
pub use error::PruneError;
pub use io::{Allowance, ChangedEnd, allowed};
pub use notes::{FAR, Note};
pub use outcome::{Engine, Outcome, Point, SensitiveGroup, Tradeoff, VocabularyCut};
pub use patterns::{Pattern, PatternError};
pub use points::{SweepPoint, pareto_front};
pub use request::Request;
pub use statistics::calibrate;
pub use unrun::UnrunBranch;
