//! The program.

fn main() -> std::process::ExitCode {
    onnx_prune::cli::main()
}
