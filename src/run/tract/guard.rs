//! tract's panics, turned into errors without a word on the terminal.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook};
use std::sync::Once;

thread_local! {
    static QUIET: Cell<bool> = const { Cell::new(false) };
}

static HOOK: Once = Once::new();

/// Runs a call into tract; errors and panics alike become a message.
pub(super) fn guard<T>(call: impl FnOnce() -> tract_onnx::prelude::TractResult<T>) -> Result<T, String> {
    // The hook is a process's only one: it stays as it was for everyone outside such a call.
    HOOK.call_once(|| {
        let usual = take_hook();
        set_hook(Box::new(move |panic| {
            if !QUIET.with(Cell::get) {
                usual(panic);
            }
        }));
    });
    let before = QUIET.with(|quiet| quiet.replace(true));
    let result = catch_unwind(AssertUnwindSafe(call));
    QUIET.with(|quiet| quiet.set(before));
    match result {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(chain(&error)),
        Err(panic) => {
            let text = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
            Err(format!("tract panicked: {}", text.unwrap_or("no message")))
        }
    }
}

/// The innermost causes of an error in one line; tract prints whole operators into the outer ones.
fn chain(error: &tract_onnx::prelude::TractError) -> String {
    const LONG: usize = 160;
    let short = |text: String| match text.char_indices().nth(LONG) {
        Some((at, _)) => format!("{}…", text.get(..at).unwrap_or_default()),
        None => text,
    };
    let causes: Vec<String> = error.chain().map(|cause| short(cause.to_string().replace('\n', " "))).collect();
    causes.join(": ")
}
