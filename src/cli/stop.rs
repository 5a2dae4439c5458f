//! SIGINT and SIGTERM: the work stops at its next item, nothing is written, and the exit code says so.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::files::{FileError, Outputs, Staged};

/// What one command writes, and whether it was asked to stop.
#[derive(Clone, Default)]
pub(super) struct Stop {
    /// The files of the command.
    pub outputs: Outputs,
    /// The signal that came; 0: none.
    signal: Arc<AtomicUsize>,
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

    /// Gives the outputs their names, unless a signal came.
    pub fn commit(&self, staged: Staged) -> Result<(), FileError> {
        if self.asked() { Err(FileError::Closed) } else { staged.commit() }
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
        Some((code(signal), said(signal)))
    }
}

fn code(signal: usize) -> u8 {
    u8::try_from(128 + signal).unwrap_or(u8::MAX)
}

fn said(signal: usize) -> String {
    let name = match signal {
        2 => "SIGINT".to_owned(),
        15 => "SIGTERM".to_owned(),
        other => format!("signal {other}"),
    };
    format!("interrupted by {name}; nothing written")
}

#[cfg(unix)]
mod listener {
    use std::io::{IsTerminal, Read, Write};
    use std::os::unix::net::UnixStream;
    use std::sync::atomic::Ordering;
    use std::time::Duration;

    use signal_hook::consts::{SIGINT, SIGTERM};
    use signal_hook::{flag, low_level};

    use super::Stop;

    /// How long the work may take to come to its next item.
    const GRACE: Duration = Duration::from_secs(1);

    /// Notes signals, and ends the process where the work does not end by itself, or at a second signal.
    pub fn start(stop: &Stop) -> std::io::Result<()> {
        let (mut signals, sender) = UnixStream::pair()?;
        for signal in [SIGINT, SIGTERM] {
            flag::register_usize(signal, stop.signal.clone(), signal as usize)?;
            low_level::pipe::register(signal, sender.try_clone()?)?;
        }
        let stop = stop.clone();
        std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
            let mut one = [0];
            if signals.read_exact(&mut one).is_err() {
                return;
            }
            // Whether time is over or a second signal came is all the same.
            let _ = signals.set_read_timeout(Some(GRACE));
            let _ = signals.read_exact(&mut one);
            if stop.outputs.close() {
                let signal = stop.signal.load(Ordering::SeqCst);
                if std::io::stderr().is_terminal() {
                    // The progress bar's line.
                    let _ = write!(std::io::stderr(), "\r\x1b[K");
                }
                super::super::complain(&super::said(signal));
                low_level::exit(i32::from(super::code(signal)));
            }
        })?;
        Ok(())
    }
}
