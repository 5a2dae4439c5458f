//! The command line: words into requests, results onto the terminal and into files, outcomes into exit codes.
//!
//! Invariant: decides nothing about models; `anyhow` ends here.

mod advice;
mod allocator;
mod allow_io;
mod args;
mod bench;
mod calibrate;
mod clean;
mod convert;
mod data;
mod defaults;
mod ending;
mod engine;
mod family;
mod gate;
mod goals;
mod hints;
mod inspect;
mod keep;
mod labels;
mod memory;
mod option_error;
mod output;
mod places;
mod planned;
mod prune;
mod sparsify;
mod stop;
mod sweep;
mod tradeoff;
mod train_args;
mod training;
mod values;
mod verify;
mod views;
mod vocabulary;
mod watch;
mod zero_args;
mod zeros;

use std::ffi::OsString;
use std::io::Write;
use std::process::ExitCode;

use clap::{CommandFactory, Parser};

pub use allocator::OrExit;
use args::{Cli, Command};
pub use engine::onnxruntime;
use stop::Stop;

use crate::prune::PruneError;

/// How a command ended, as scripts see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Exit {
    /// Done, thresholds met.
    Done = 0,
    /// Thresholds or target not met.
    Missed = 1,
    /// Bad usage or bad input.
    Usage = 2,
    /// The runtime lacks something, and that was not allowed.
    Unverifiable = 3,
}

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    ExitCode::from(listened(std::env::args_os().collect(), &Stop::listen()))
}

/// Runs a command line, the program's name first, and gives its exit code. Prints as the program does; signals stay as they are.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> u8 {
    listened(arguments.into_iter().collect(), &Stop::default())
}

/// The words as a command; the exit code where they are none, which is said, or where they only ask for help.
fn parsed(words: Vec<OsString>) -> Result<Cli, u8> {
    let arguments: Vec<String> = words
        .iter()
        .map(|argument| argument.to_string_lossy().into_owned())
        .collect();
    let result = Cli::try_parse_from(words);
    let hint = hints::first_word(&arguments)
        .or_else(|| hints::unknown_option(result.as_ref().err()?, &arguments))
        .or_else(|| hints::second_word(result.as_ref().err()?, &arguments));
    match (hint, result) {
        (None, Ok(cli)) => Ok(cli),
        (Some(hint), result) if !result.as_ref().is_err_and(|error| !error.use_stderr()) => {
            complain(&hint);
            Err(Exit::Usage as u8)
        }
        (_, Err(error)) => {
            let _ = error.print();
            Err(u8::try_from(error.exit_code()).unwrap_or(Exit::Usage as u8))
        }
        (Some(_), Ok(cli)) => Ok(cli),
    }
}

fn listened(words: Vec<OsString>, stop: &Stop) -> u8 {
    let cli = match parsed(words) {
        Ok(cli) => cli,
        Err(code) => return code,
    };
    let result = match &cli.command {
        None => match &cli.prune.family.sweep {
            Some(points) => sweep::run(&cli.prune, points, stop),
            None => prune::run(&cli.prune, stop),
        },
        Some(Command::Inspect(args)) => inspect::run(args, stop),
        Some(Command::Verify(args)) => verify::run(args, stop),
        Some(Command::Clean(args)) => clean::run(args, stop),
        Some(Command::Calibrate(args)) => calibrate::run(args, stop),
        Some(Command::Bench(args)) => bench::run(args, stop),
        Some(Command::Completions { shell }) => completions(*shell),
        Some(Command::Sparsify(args)) => sparsify::run(args, stop),
    };
    // Whatever the work came to: a stop that was asked for is the reason.
    if !matches!(result, Ok(Exit::Done))
        && let Some((code, said)) = stop.ending()
    {
        complain(&said);
        return code;
    }
    let exit = result.unwrap_or_else(|error| {
        complain(&format!("{error:#}"));
        Exit::Usage
    });
    exit as u8
}

/// One line on stderr.
fn complain(problem: &str) {
    let problem = advice::phrased(&watch::one_line(problem));
    let _ = writeln!(std::io::stderr(), "error: {problem}");
}

fn completions(shell: clap_complete::Shell) -> anyhow::Result<Exit> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "onnx-prune", &mut script);
    output::print(&String::from_utf8_lossy(&script))?;
    Ok(Exit::Done)
}

/// What work gave, or the exit code where a model that it needs does not run, which is said, with `hint`.
fn ran<T>(
    result: Result<T, PruneError>,
    hint: &str,
    watch: &watch::Watch,
) -> anyhow::Result<Result<T, Exit>> {
    let error = match result {
        Ok(found) => return Ok(Ok(found)),
        Err(error) => error,
    };
    watch.finish();
    match error {
        PruneError::Unverifiable(_)
        | PruneError::SearchNeedsRun(_)
        | PruneError::CurvesNeedRun(_) => {
            complain(&format!("{:#}{hint}", advice::error(error)));
            Ok(Err(Exit::Unverifiable))
        }
        PruneError::Broken(_) => {
            complain(&format!(
                "{error}. That is a fault of onnx-prune, so nothing is written; please report it"
            ));
            Ok(Err(Exit::Missed))
        }
        other => Err(advice::error(other)),
    }
}
