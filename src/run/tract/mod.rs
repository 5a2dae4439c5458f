//! The runtime tract: models handed to it in a way that shares weights, its panics caught, its results checked.

mod analyse;
mod facts;
mod guard;
mod optimize;
mod patch;
mod plan;
mod runtime;
mod session;
mod skeleton;
mod support;
mod tensor;
mod weights;

pub use runtime::TractRuntime;
