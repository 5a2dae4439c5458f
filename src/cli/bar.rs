//! Progress as a line on the terminal.

use std::io::IsTerminal;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::progress::{Phase, Progress};

/// A line on stderr that shows the phase and how far it is. Where stderr is no terminal it draws nothing; notes are
/// printed there all the same.
pub struct Bar {
    line: Mutex<ProgressBar>,
    draws: bool,
    quiet: bool,
    stop: &'static AtomicBool,
}

impl Bar {
    /// `stop` is set when the user wants the work to end; `quiet` silences notes, too.
    pub fn new(quiet: bool, stop: &'static AtomicBool) -> Self {
        let draws = !quiet && std::io::stderr().is_terminal();
        Bar { line: Mutex::new(ProgressBar::hidden()), draws, quiet, stop }
    }

    fn with_line<T>(&self, act: impl FnOnce(&mut ProgressBar) -> T) -> T {
        // A panic elsewhere leaves the line as good as it was.
        let mut line = self.line.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        act(&mut line)
    }

    /// Takes the line away, before results are printed.
    pub fn finish(&self) {
        self.with_line(|line| line.finish_and_clear());
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.finish();
    }
}

impl Progress for Bar {
    fn begin(&self, phase: Phase, total: u64) {
        if !self.draws {
            return;
        }
        let template = if total > 0 { "{prefix:>10} {bar:32} {pos}/{len} {eta}" } else { "{prefix:>10} {spinner} {elapsed}" };
        let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
        let length = if total > 0 { Some(total) } else { None };
        let new = ProgressBar::with_draw_target(length, ProgressDrawTarget::stderr()).with_style(style).with_prefix(phase.name());
        new.enable_steady_tick(Duration::from_millis(200));
        self.with_line(|line| {
            line.finish_and_clear();
            *line = new;
        });
    }

    fn advance(&self, steps: u64) {
        self.with_line(|line| line.inc(steps));
    }

    fn note(&self, note: &str) {
        if self.quiet {
            return;
        }
        self.with_line(|line| line.suspend(|| eprintln!("note: {note}")));
    }

    fn stop(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}
