//! The command line: words into requests, results onto the terminal and into files, outcomes into exit codes.
//!
//! Invariant: decides nothing about models; `anyhow` ends here.

mod args;
mod bench;
mod calibrate;
mod clean;
mod convert;
mod data;
mod gate;
mod inspect;
mod output;
mod prune;
mod values;
mod verify;
mod watch;

use std::ffi::OsString;
use std::io::Write;
use std::process::ExitCode;

use clap::{CommandFactory, Parser};

use args::{Cli, Command};

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
    ExitCode::from(run(std::env::args_os()))
}

/// Runs a command line, the program's name first, and gives its exit code. Prints as the program does.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> u8 {
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(error) => {
            let _ = error.print();
            return error.exit_code() as u8;
        }
    };
    let result = match &cli.command {
        None => prune::run(&cli.prune),
        Some(Command::Inspect(args)) => inspect::run(args),
        Some(Command::Verify(args)) => verify::run(args),
        Some(Command::Clean(args)) => clean::run(args),
        Some(Command::Calibrate(args)) => calibrate::run(args),
        Some(Command::Bench(args)) => bench::run(args),
        Some(Command::Completions { shell }) => completions(*shell),
        Some(Command::Sparsify(_)) => Err(anyhow::anyhow!("sparsify is not available in this version")),
    };
    let exit = result.unwrap_or_else(|error| {
        complain(&format!("{error:#}"));
        Exit::Usage
    });
    exit as u8
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

/// What a job gave; `None` where it needs the model to run and it does not, which is said.
fn ran<T>(result: Result<T, crate::job::Error>, watch: &watch::Watch) -> anyhow::Result<Option<T>> {
    match result {
        Ok(found) => Ok(Some(found)),
        Err(error) => {
            watch.finish();
            match error {
                crate::job::Error::Unverifiable(reason) => {
                    complain(&reason);
                    Ok(None)
                }
                other => Err(other.into()),
            }
        }
    }
}
