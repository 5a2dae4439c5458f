//! Progress on stderr, warnings, and the time that each phase took.

use std::io::{IsTerminal, Write};
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use indexmap::IndexMap;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tracing_subscriber::EnvFilter;

use super::args::Common;
use super::stop::Stop;
use crate::progress::{Memory, Phase, Progress, Work};

/// Watches the work of one command.
pub(super) struct Watch {
    /// What a step may take.
    pub memory: Memory,
    quiet: bool,
    bar: Option<ProgressBar>,
    times: Mutex<PhaseTimes>,
    warnings: Mutex<Vec<String>>,
    stop: Stop,
}

/// Where there is no bar, a line says every so often how far the work is.
const SAID: Duration = Duration::from_secs(10);

#[derive(Default)]
struct PhaseTimes {
    current: Option<(Phase, Instant)>,
    /// Steps of the phase, done and in all, and when a line last said so.
    steps: (u64, u64),
    said: Option<Instant>,
    seconds: IndexMap<String, f64>,
}

impl PhaseTimes {
    fn close(&mut self) {
        if let Some((phase, start)) = self.current.take() {
            let (done, total) = self.steps;
            tracing::debug!("{phase}: ended at {done} of {total}");
            *self.seconds.entry(phase.to_string()).or_default() += start.elapsed().as_secs_f64();
        }
    }

    /// The line that says how far the phase is, and how long the rest of it takes at the pace so far.
    fn line(&self) -> Option<String> {
        let (done, total) = self.steps;
        let (phase, start) = self.current.filter(|_| total > 0)?;
        let left = total.saturating_sub(done);
        let rest = start.elapsed().as_secs_f64() / done.max(1) as f64 * left as f64;
        let left = if left > 0 {
            format!(", about {} left", span(rest))
        } else {
            String::new()
        };
        Some(format!("{phase}: {done} of {total}{left}"))
    }

    /// The line that ends a phase of which a line was due.
    fn last(&self) -> Option<String> {
        let (phase, start) = self.current.filter(|(_, start)| start.elapsed() >= SAID)?;
        Some(format!(
            "{phase}: done in {}",
            span(start.elapsed().as_secs_f64())
        ))
    }
}

/// Seconds as people say them.
fn span(seconds: f64) -> String {
    match seconds.round() as u64 {
        seconds @ 0..=119 => format!("{seconds} s"),
        seconds => format!("{} min", (seconds + 30) / 60),
    }
}

impl Watch {
    /// Begins to watch: sets up the log, the threads, and on a terminal the progress bar.
    pub fn new(common: &Common, stop: &Stop) -> Self {
        let shown = !common.quiet && common.verbose == 0 && std::io::stderr().is_terminal();
        let bar = shown.then(|| {
            let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
            bar.enable_steady_tick(Duration::from_millis(100));
            bar
        });
        let level = match (common.quiet, common.verbose) {
            (true, _) => "error",
            (_, 0) => "onnx_prune=warn",
            (_, 1) => "onnx_prune=info",
            (_, _) => "onnx_prune=debug",
        };
        let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(level));
        let log = tracing_subscriber::fmt()
            .with_env_filter(filter)
            .without_time()
            .with_target(false)
            .with_ansi(std::io::stderr().is_terminal());
        let lines = bar.clone();
        // A log that is there already (in tests) stays.
        let _ = log.with_writer(move || Lines(lines.clone())).try_init();
        // Likewise the threads.
        let _ = rayon::ThreadPoolBuilder::new()
            .num_threads(common.threads)
            .build_global();
        Watch {
            memory: super::memory::allowed(common.memory),
            quiet: common.quiet,
            bar,
            times: Mutex::default(),
            warnings: Mutex::default(),
            stop: stop.clone(),
        }
    }

    /// Work that is watched here.
    pub fn work(&self) -> Work<'_> {
        Work {
            progress: self,
            memory: self.memory,
        }
    }

    /// Tells the user something on stderr, and keeps it for the report.
    pub fn warn(&self, text: &str) {
        let text = one_line(text);
        if !self.quiet {
            self.print(&format!("warning: {text}"));
        }
        let mut warnings = self.warnings.lock().unwrap_or_else(PoisonError::into_inner);
        warnings.push(text);
    }

    /// What was warned of so far.
    pub fn warnings(&self) -> Vec<String> {
        let warnings = self.warnings.lock().unwrap_or_else(PoisonError::into_inner);
        warnings.clone()
    }

    /// Tells the user what became of a file.
    pub fn say(&self, text: &str) {
        if !self.quiet {
            self.print(text);
        }
    }

    fn print(&self, line: &str) {
        let _ = writeln!(Lines(self.bar.clone()), "{line}");
    }

    /// Ends the last phase and gives the seconds of each.
    pub fn finish(&self) -> IndexMap<String, f64> {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
        let mut times = self.times.lock().unwrap_or_else(PoisonError::into_inner);
        self.end(&mut times);
        times.seconds.clone()
    }

    /// Ends the phase, with a line where it took long and no bar showed it.
    fn end(&self, times: &mut PhaseTimes) {
        if let Some(line) = times.last().filter(|_| self.bar.is_none() && !self.quiet) {
            self.print(&line);
        }
        times.close();
    }
}

impl Progress for Watch {
    fn begin(&self, phase: Phase, total: u64) {
        tracing::info!("{phase}");
        let mut times = self.times.lock().unwrap_or_else(PoisonError::into_inner);
        self.end(&mut times);
        times.current = Some((phase, Instant::now()));
        times.steps = (0, total);
        times.said = times.current.map(|(_, start)| start);
        self.stop.is_training(phase == Phase::Train);
        let Some(bar) = &self.bar else { return };
        let template = if total > 0 {
            "{msg:20} [{bar:30}] {pos}/{len}, {eta} left"
        } else {
            "{spinner} {msg}"
        };
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style.progress_chars("=> "));
        }
        bar.set_length(total);
        bar.set_position(0);
        bar.set_message(phase.to_string());
    }

    fn advance(&self, steps: u64) {
        let mut times = self.times.lock().unwrap_or_else(PoisonError::into_inner);
        times.steps.0 += steps;
        let due = times.said.is_some_and(|said| said.elapsed() >= SAID);
        match &self.bar {
            Some(bar) => bar.inc(steps),
            None if due && !self.quiet => {
                times.said = Some(Instant::now());
                // Training says itself how far it is.
                let told = times
                    .current
                    .is_some_and(|(phase, _)| phase != Phase::Train);
                if let Some(line) = times.line().filter(|_| told) {
                    self.print(&line);
                }
            }
            None => {}
        }
    }

    fn remark(&self, text: &str) {
        self.say(text);
    }

    fn kept(&self, file: &Path) {
        self.stop.keeps(file);
    }

    fn stop(&self) -> bool {
        self.stop.asked()
    }
}

/// Lines on stderr that do not run into the bar. Where nobody reads them any more, they go nowhere.
struct Lines(Option<ProgressBar>);

impl Write for Lines {
    fn write(&mut self, text: &[u8]) -> std::io::Result<usize> {
        let _ = match &self.0 {
            Some(bar) if !bar.is_finished() => bar.suspend(|| std::io::stderr().write_all(text)),
            _ => std::io::stderr().write_all(text),
        };
        Ok(text.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Names come from files: nothing in them may break a line or steer the terminal.
pub(super) fn one_line(text: &str) -> String {
    text.split(|character: char| character.is_control())
        .filter(|part| !part.is_empty())
        .collect::<Vec<_>>()
        .join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_say_how_far_a_phase_is_and_how_long_it_takes() {
        let start = Instant::now() - Duration::from_secs(60);
        let mut times = PhaseTimes {
            current: Some((Phase::Calibrate, start)),
            steps: (10, 40),
            ..PhaseTimes::default()
        };
        assert_eq!(
            times.line().as_deref(),
            Some("calibrate: 10 of 40, about 3 min left")
        );
        times.steps.0 = 40;
        assert_eq!(times.line().as_deref(), Some("calibrate: 40 of 40"));
        assert_eq!(times.last().as_deref(), Some("calibrate: done in 60 s"));
        times.current = Some((Phase::Load, Instant::now()));
        assert_eq!(times.last(), None);
    }
}
