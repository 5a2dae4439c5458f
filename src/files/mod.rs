//! Files of a run: how they are opened, and how they are written.
//!
//! Whatever the tool writes goes through here. All outputs of a run are claimed before its work ([`Outputs::claim`]: a
//! regular file or none, in a folder that can be written to, nothing that the run reads, no two of them the same), written
//! beside their places ([`Staged`]), synced, and renamed together at the end, the model last ([`Staged::commit`]). A model
//! with external data is switched as one: the data have a name of their contents, and those of the model before are removed
//! after the model is in place. So at any moment, also after a kill, there is the file of before or the new one, whole.
//!
//! Temporary files are locked as long as their process lives; those of dead ones go with the next run into their folder.
//! Invariant: knows paths and bytes, no models.

mod beside;
mod commit;
mod draft;
mod error;
mod kind;
mod outputs;
mod read;
mod sweep;

use std::fs::File;
use std::io;
use std::path::Path;

pub use commit::Staged;
pub use error::FileError;
pub use outputs::{Outputs, Place};
pub use read::{Stamp, bytes, metadata, open, read, text};

/// Writes one file, whole or not at all, under the rules of this room. Errors: as of [`Outputs::claim`], and those of `fill`.
pub fn write(path: &Path, fill: impl FnOnce(&mut File) -> io::Result<()>) -> Result<(), FileError> {
    let outputs = Outputs::default();
    let place = outputs.claim(path, "the output")?;
    let mut staged = Staged::new(&outputs);
    staged.write(&place, fill)?;
    staged.commit()
}
