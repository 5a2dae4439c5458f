//! The options that set single weights to zero beside a cut.

use clap::Args;

use super::values;
use crate::sparsify::SparsityPattern;

/// Zeros beside the cut.
#[derive(Clone, Debug, Args)]
pub(super) struct ZeroArgs {
    /// After the cut to a target of size or time, set this share of the weights that stay to zero, as the command sparsify does
    #[arg(long, value_name = "X", value_parser = values::sparsity, conflicts_with_all = ["sweep", "keep_tokens", "plan", "only"])]
    pub sparsity: Option<f64>,
    /// How the zeros of --sparsity lie: none (anywhere), N:M, blocks (1x4, 4x1, 16x1) or kernel; N:M needs no --sparsity
    #[arg(long, value_name = "PATTERN", conflicts_with_all = ["sweep", "keep_tokens", "plan", "only"])]
    pub pattern: Option<SparsityPattern>,
}
