//! ONNX Runtime, from a shared library that is loaded when it is first needed.
//!
//! Invariant: nothing of the library is touched before one of the files that the caller names has been loaded, and a library
//! that cannot be used is an error with its reason. ONNX Runtime computes here as the graph says: only rewrites that keep
//! every operator's meaning are made, one thread a run, so that an original, its masked and its pruned form are treated alike.

mod error;
mod library;
mod pool;
mod refuse;
mod runtime;
#[cfg(test)]
mod tests;
mod value;

pub use error::LibraryError;
pub use library::libraries;
pub use runtime::OrtRuntime;
