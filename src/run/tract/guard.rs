//! tract's errors and panics as messages.

use crate::run::quiet::{ForeignPanic, quiet};

/// Why a call into tract came to nothing.
#[derive(Debug, thiserror::Error)]
pub(super) enum TractFailure {
    /// Its innermost causes, in one line.
    #[error("{0}")]
    Refused(String),
    #[error("tract panicked: {0}")]
    Panicked(#[from] ForeignPanic),
}

/// Runs a call into tract. Errors: what it says, and its panics alike.
pub(super) fn guard<T>(
    call: impl FnOnce() -> tract_onnx::prelude::TractResult<T>,
) -> Result<T, TractFailure> {
    quiet(call)?.map_err(|error| TractFailure::Refused(chain(&error)))
}

/// The innermost causes of an error in one line; tract prints whole operators into the outer ones.
fn chain(error: &tract_onnx::prelude::TractError) -> String {
    const LONG: usize = 160;
    let short = |text: String| match text.char_indices().nth(LONG) {
        Some((at, _)) => format!("{}…", text.get(..at).unwrap_or_default()),
        None => text,
    };
    let causes: Vec<String> = error
        .chain()
        .map(|cause| short(cause.to_string().replace('\n', " ")))
        .collect();
    causes.join(": ")
}
