//! The program.

use onnx_prune::cli;

#[global_allocator]
static ALLOCATOR: cli::OrExit = cli::OrExit;

fn main() -> std::process::ExitCode {
    cli::main()
}
