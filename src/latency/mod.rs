//! How long a model runs: whole models side by side, single operators at their widths, and what follows from these for widths
//! that were not measured.
//!
//! Invariant: times are measured in the runtime at hand; nothing is assumed of a machine.

mod align;
mod isolate;
mod measure;
mod model;
mod parts;
mod table;
mod target;

pub use measure::{Spread, latency, spread};
pub use model::LatencyModel;
pub use table::{Measured, Table};
pub use target::{LatencyForecast, NEAR, Settled, Settling};
