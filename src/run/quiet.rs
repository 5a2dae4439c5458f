//! Panics of other people's code, turned into errors without a word on the terminal.

use std::any::Any;
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook};
use std::sync::Once;

thread_local! {
    static QUIET: Cell<bool> = const { Cell::new(false) };
}

static HOOK: Once = Once::new();

/// A panic of other people's code, by what it carries.
#[derive(Debug, thiserror::Error)]
#[error("{}", message(&**.0))]
pub(super) struct ForeignPanic(Box<dyn Any + Send>);

/// The text that a panic carries.
fn message(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("no message")
}

/// Runs a call into a runtime; a panic becomes an error.
pub(super) fn quiet<T>(call: impl FnOnce() -> T) -> Result<T, ForeignPanic> {
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
    result.map_err(ForeignPanic)
}
