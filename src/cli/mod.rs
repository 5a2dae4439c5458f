//! The command line: arguments, terminal, exit codes. The only place that prints, reads the environment or catches Ctrl-C.

mod bar;

pub use bar::Bar;
