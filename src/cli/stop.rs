//! SIGINT and SIGTERM: the work stops at its next item, nothing is written, and the exit code says so. SIGBUS: the same, at
//! once, for a mapped file has become shorter than it was.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::files::{FileError, Outputs, Staged};

/// What one command writes, and whether it was asked to stop.
#[derive(Clone, Default)]
pub(super) struct Stop {
    /// The files of the command.
    pub outputs: Outputs,
    /// The signal that came; 0: none.
    signal: Arc<AtomicUsize>,
    /// Whether weights are trained, which takes longer to come to an end.
    training: Arc<AtomicBool>,
    /// A file from which the work can be gone on with.
    kept: Arc<Mutex<Option<PathBuf>>>,
}

impl Stop {
    /// Begins to listen.
    pub fn listen() -> Self {
        let stop = Stop::default();
        #[cfg(unix)]
        // Where signals cannot be had, they end the process as they always did.
        let _ = listener::start(&stop);
        stop
    }

    /// Whether a signal came.
    pub fn asked(&self) -> bool {
        self.signal.load(Ordering::SeqCst) != 0
    }

    /// Notes whether weights are trained from now on.
    pub fn is_training(&self, is: bool) {
        self.training.store(is, Ordering::SeqCst);
    }

    /// Notes a file from which the work can be gone on with.
    pub fn keeps(&self, file: &Path) {
        *self.kept.lock().unwrap_or_else(PoisonError::into_inner) = Some(file.to_owned());
    }

    /// Gives the outputs their names, unless a signal came.
    pub fn commit(&self, staged: Staged) -> Result<(), FileError> {
        if self.asked() {
            Err(FileError::Closed)
        } else {
            staged.commit()
        }
    }

    /// The exit code of a command that was stopped, and what to say; `None` if no signal came or all files were written.
    pub fn ending(&self) -> Option<(u8, String)> {
        let signal = self.signal.load(Ordering::SeqCst);
        if signal == 0 {
            return None;
        }
        while !self.outputs.close() {
            if self.outputs.written() {
                return None;
            }
            // The thread that listens is about to end the process.
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        Some((code(signal), self.said(signal)))
    }

    /// What is said of a run that was stopped.
    fn said(&self, signal: usize) -> String {
        let name = match signal {
            2 => "SIGINT".to_owned(),
            15 => "SIGTERM".to_owned(),
            other => format!("signal {other}"),
        };
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        match &*kept {
            Some(file) => format!(
                "interrupted by {name}; no model written; --resume goes on from {}",
                file.display()
            ),
            None => format!("interrupted by {name}; nothing written"),
        }
    }
}

fn code(signal: usize) -> u8 {
    u8::try_from(128 + signal).unwrap_or(u8::MAX)
}

#[cfg(unix)]
mod listener {
    use std::fs::File;
    use std::io::{IsTerminal, Read, Write};
    use std::mem::ManuallyDrop;
    use std::os::fd::FromRawFd;
    use std::os::unix::net::UnixStream;
    use std::sync::atomic::Ordering;
    use std::sync::mpsc;
    use std::time::Duration;

    use signal_hook::consts::{SIGBUS, SIGINT, SIGTERM};
    use signal_hook::{flag, low_level};

    use super::Stop;

    /// How long the work may take to come to its next item.
    const GRACE: Duration = Duration::from_secs(1);
    /// The same where that is a step of training, after which its state is kept.
    const STEP: Duration = Duration::from_secs(20);

    /// What is said when bytes of a mapped file are gone.
    const SHORTER: &[u8] =
        b"error: a file of the model was made shorter while it was read; nothing written\n";

    /// Notes signals, and ends the process where the work does not end by itself, or at a second signal.
    pub fn start(stop: &Stop) -> std::io::Result<()> {
        let (mut signals, sender) = UnixStream::pair()?;
        for signal in [SIGINT, SIGTERM] {
            flag::register_usize(signal, stop.signal.clone(), signal as usize)?;
            low_level::pipe::register(signal, sender.try_clone()?)?;
        }
        // Safety: a write to a descriptor and `_exit` are all that is done, and both may be done in a signal handler. The
        // thread cannot go on: it asked for bytes that are not there.
        unsafe {
            low_level::register(SIGBUS, || {
                let _ = ManuallyDrop::new(File::from_raw_fd(2)).write_all(SHORTER);
                low_level::exit(super::super::Exit::Usage as i32);
            })?;
        }
        let stop = stop.clone();
        std::thread::Builder::new()
            .name("signals".to_owned())
            .spawn(move || {
                let mut one = [0];
                if signals.read_exact(&mut one).is_err() {
                    return;
                }
                let is_training = stop.training.load(Ordering::SeqCst);
                // Whether time is over or a second signal came is all the same.
                let _ = signals.set_read_timeout(Some(if is_training { STEP } else { GRACE }));
                let _ = signals.read_exact(&mut one);
                if stop.outputs.close() {
                    let signal = stop.signal.load(Ordering::SeqCst);
                    tell(stop.said(signal));
                    low_level::exit(i32::from(super::code(signal)));
                }
            })?;
        Ok(())
    }

    /// Says it, unless nobody takes it: whoever waits for that must not keep the process from its end.
    fn tell(said: String) {
        let (done, told) = mpsc::channel();
        std::thread::spawn(move || {
            if std::io::stderr().is_terminal() {
                // The progress bar's line.
                let _ = write!(std::io::stderr(), "\r\x1b[K");
            }
            super::super::complain(&said);
            let _ = done.send(());
        });
        let _ = told.recv_timeout(Duration::from_millis(200));
    }
}
