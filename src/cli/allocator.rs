//! What the program does when it gets no more memory.

use std::alloc::{GlobalAlloc, Layout, System};
use std::io::Write;

/// The system's allocator, but for what follows when it has nothing left: one line and exit code 2, where Rust's own way is to
/// abort. Output files are made under other names until they are complete, so nothing that is there suffers.
#[derive(Debug)]
pub struct OrExit;

// SAFETY: every call is passed on to `System` as it came, and what it gives is handed back; where that is null, nothing returns.
unsafe impl GlobalAlloc for OrExit {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promises are those that `System` asks for.
        given(unsafe { System.alloc(layout) }, layout.size())
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as above.
        given(unsafe { System.alloc_zeroed(layout) }, layout.size())
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: as above.
        given(unsafe { System.realloc(pointer, layout, size) }, size)
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }
}

fn given(pointer: *mut u8, size: usize) -> *mut u8 {
    if pointer.is_null() {
        exhausted(size);
    }
    pointer
}

/// Ends the program without asking for memory.
#[cold]
fn exhausted(size: usize) -> ! {
    // Where even that cannot be said, the exit code tells.
    let _ = writeln!(
        std::io::stderr(),
        "error: out of memory: the system does not give {size} bytes more; close other programs, raise its limit (ulimit -v), or \
         let the tool take less, with --memory, --threads 1 or fewer --samples"
    );
    signal_hook::low_level::exit(2)
}
