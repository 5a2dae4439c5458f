//! The command line: words into requests, results onto the terminal and into files, outcomes into exit codes.
//!
//! Invariant: decides nothing about models; `anyhow` ends here.

mod args;
mod bench;
mod calibrate;
mod clean;
mod convert;
mod data;
mod engine;
mod gate;
mod hints;
mod inspect;
mod output;
mod prune;
mod stop;
mod values;
mod verify;
mod watch;

use std::io::Write;
use std::process::ExitCode;

use clap::{CommandFactory, Parser};

use args::{Cli, Command};
pub use engine::onnxruntime;
use stop::Stop;

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

/// Runs the command line.
pub fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args_os().map(|argument| argument.to_string_lossy().into_owned()).collect();
    let cli = match Cli::try_parse() {
        Ok(cli) if hints::first_word(&arguments).is_none() => cli,
        Err(error) if !error.use_stderr() => error.exit(),
        result => {
            let said = hints::first_word(&arguments).or_else(|| hints::unknown_option(result.as_ref().err()?, &arguments));
            match (said, result) {
                (None, Err(error)) => error.exit(),
                (said, _) => complain(&said.unwrap_or_default()),
            }
            return ExitCode::from(Exit::Usage as u8);
        }
    };
    let stop = Stop::listen();
    let result = match &cli.command {
        None => prune::run(&cli.prune, &stop),
        Some(Command::Inspect(args)) => inspect::run(args, &stop),
        Some(Command::Verify(args)) => verify::run(args, &stop),
        Some(Command::Clean(args)) => clean::run(args, &stop),
        Some(Command::Calibrate(args)) => calibrate::run(args, &stop),
        Some(Command::Bench(args)) => bench::run(args, &stop),
        Some(Command::Completions { shell }) => completions(*shell),
        Some(Command::Sparsify(_)) => Err(anyhow::anyhow!("sparsify is not available in this version")),
    };
    // Whatever the work came to: a stop that was asked for is the reason.
    if !matches!(result, Ok(Exit::Done))
        && let Some((code, said)) = stop.ending()
    {
        complain(&said);
        return ExitCode::from(code);
    }
    let exit = result.unwrap_or_else(|error| {
        complain(&format!("{error:#}"));
        Exit::Usage
    });
    ExitCode::from(exit as u8)
}

/// One line on stderr.
fn complain(problem: &str) {
    let _ = writeln!(std::io::stderr(), "error: {}", watch::one_line(problem));
}

fn completions(shell: clap_complete::Shell) -> anyhow::Result<Exit> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "onnx-prune", &mut script);
    output::print(&String::from_utf8_lossy(&script))?;
    Ok(Exit::Done)
}

/// What a job gave, or the exit code where a model that it needs does not run, which is said.
fn ran<T>(result: Result<T, crate::job::Error>, watch: &watch::Watch) -> anyhow::Result<Result<T, Exit>> {
    match result {
        Ok(found) => Ok(Ok(found)),
        Err(error) => {
            watch.finish();
            match error {
                crate::job::Error::Unverifiable(reason) => {
                    complain(&reason);
                    Ok(Err(Exit::Unverifiable))
                }
                broken @ crate::job::Error::Broken(_) => {
                    complain(&format!("{broken}. That is a fault of onnx-prune, so nothing is written; please report it"));
                    Ok(Err(Exit::Missed))
                }
                other => Err(other.into()),
            }
        }
    }
}
