//! Mutated models through the command line, in a process of their own: no panic, no abort, no hang, whatever the file holds.
//!
//! `ONNX_PRUNE_FUZZ=N` sets the number of models (each is loaded, inspected, cleaned and cut at random, one in eight is also
//! run, and where a plan was made, that is mutated and applied); `ONNX_PRUNE_FUZZ_FROM` the first one's number, which is its seed. A failure names its number: with that as the first
//! and one model, it is found again.

mod graphs;
mod mutate;
mod target;

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use target::{Progress, Range};

/// Models that every run of the tests tries.
const SHORT: u64 = 300;
/// The longest that one command may take on a small model; more on a machine that does other work beside this.
const HANG: Duration = Duration::from_secs(20);
/// What is said of a model at which that is over.
const NO_END: &str = "no end after";
/// Address space of a worker, in KiB: what asks for more dies of it, and is found.
const SPACE: u64 = 8 << 20;
/// Environment variable by which a worker is told its range and its folder.
const WORKER: &str = "ONNX_PRUNE_FUZZ_WORKER";

fn number(name: &str, usual: u64) -> u64 {
    std::env::var(name).map_or(usual, |text| {
        text.parse()
            .unwrap_or_else(|_| panic!("{name}: '{text}' is no number"))
    })
}

#[test]
fn mutated_models_bring_nothing_down() {
    if let Ok(worker) = std::env::var(WORKER) {
        return target::work(&worker);
    }
    let (first, count) = (
        number("ONNX_PRUNE_FUZZ_FROM", 0),
        number("ONNX_PRUNE_FUZZ", SHORT),
    );
    let workers = std::thread::available_parallelism()
        .map_or(1, usize::from)
        .min(2) as u64;
    let folder = tempfile::tempdir().unwrap();
    let part = count.div_ceil(workers);
    let ranges = (0..workers).map(|at| Range {
        next: first + at * part,
        end: (first + (at + 1) * part).min(first + count),
    });
    let reports: Vec<Report> = std::thread::scope(|scope| {
        let folder = folder.path();
        let threads: Vec<_> = ranges
            .enumerate()
            .map(|(at, range)| {
                let own = folder.join(at.to_string());
                scope.spawn(move || watch(range, &own))
            })
            .collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .collect()
    });
    let executions: u64 = reports.iter().map(|report| report.executions).sum();
    let failures: Vec<String> = reports
        .into_iter()
        .flat_map(|report| report.failures)
        .collect();
    eprintln!(
        "{count} mutated models, {executions} executions, {} failures",
        failures.len()
    );
    assert!(
        executions >= 3 * count.saturating_sub(failures.len() as u64),
        "only {executions} executions"
    );
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[derive(Default)]
struct Report {
    executions: u64,
    failures: Vec<String>,
}

/// Runs a range in workers: one that dies or hangs is followed by another that goes on behind the model that did it.
fn watch(mut range: Range, folder: &Path) -> Report {
    std::fs::create_dir_all(folder).unwrap();
    let mut report = Report::default();
    while range.next < range.end {
        let mut child = spawn(&range, folder);
        let (progress, end) = supervise(&mut child, folder);
        report.executions += progress.executions;
        match end {
            None => break,
            Some(what) => {
                let what = match what.starts_with(NO_END) {
                    true => again(progress.model, folder, &mut report),
                    false => Some(what),
                };
                let found =
                    |what| format!("model {} ({}): {what}", progress.model, progress.step());
                report.failures.extend(what.map(found));
                range.next = progress.model + 1;
            }
        }
    }
    report.failures.extend(target::complaints(folder));
    report
}

/// Tries a model once more: on a machine that is busy with other things, one that takes its time looks like one without end.
fn again(model: u64, folder: &Path, report: &mut Report) -> Option<String> {
    let alone = Range {
        next: model,
        end: model + 1,
    };
    let (progress, end) = supervise(&mut spawn(&alone, folder), folder);
    report.executions += progress.executions;
    end
}

fn spawn(range: &Range, folder: &Path) -> Child {
    let own: PathBuf = std::env::current_exe().unwrap();
    let test = "fuzz::mutated_models_bring_nothing_down";
    let limited = format!(
        "ulimit -v {SPACE} 2>/dev/null; exec \"$0\" {test} --exact --nocapture --test-threads 1"
    );
    let mut command = if cfg!(unix) {
        Command::new("sh")
    } else {
        Command::new(&own)
    };
    if cfg!(unix) {
        command.arg("-c").arg(limited).arg(&own);
    } else {
        command.args([test, "--exact", "--nocapture", "--test-threads", "1"]);
    }
    target::reset(folder, range);
    let log = std::fs::File::create(folder.join("log")).unwrap();
    command
        .env(WORKER, folder)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .unwrap()
}

/// Waits for a worker; tells how it failed, if it did.
fn supervise(child: &mut Child, folder: &Path) -> (Progress, Option<String>) {
    let (mut seen, mut since) = (Progress::read(folder), Instant::now());
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            let log = std::fs::read_to_string(folder.join("log")).unwrap_or_default();
            let last = log
                .lines()
                .rev()
                .find(|line| !line.trim().is_empty())
                .unwrap_or_default()
                .to_owned();
            return (
                Progress::read(folder),
                (!status.success()).then(|| format!("{status}; {last}")),
            );
        }
        let now = Progress::read(folder);
        if now != seen {
            (seen, since) = (now, Instant::now());
        } else if since.elapsed() > HANG {
            child.kill().unwrap();
            child.wait().unwrap();
            return (seen, Some(format!("{NO_END} {} s", HANG.as_secs())));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}
