//! The option that lets inputs and outputs of the graph shrink.

use clap::Args;

use super::values;
use crate::prune::Allowance;

/// What may shrink although callers see it.
#[derive(Clone, Debug, Args)]
pub(super) struct AllowIo {
    /// Graph inputs and outputs that may lose slices, all their axes (a glob over names, past_key_values.*) or one (NAME:AXIS);
    /// repeatable. Whoever calls the pruned model has to give and take the smaller shapes
    #[arg(long = "allow-io", value_name = "NAME[:AXIS]", value_parser = values::allowance)]
    pub ends: Vec<Allowance>,
}
