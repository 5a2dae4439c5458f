//! tract's errors and panics as messages.

use crate::run::quiet::quiet;

/// Runs a call into tract; errors and panics alike become a message.
pub(super) fn guard<T>(
    call: impl FnOnce() -> tract_onnx::prelude::TractResult<T>,
) -> Result<T, String> {
    match quiet(call) {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(chain(&error)),
        Err(panic) => Err(format!("tract panicked: {panic}")),
    }
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
