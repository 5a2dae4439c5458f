//! The option that says which tokens stay.

use std::convert::Infallible;
use std::path::PathBuf;

use clap::Args;

/// Which tokens stay.
#[derive(Clone, Debug, Args)]
pub(super) struct KeepArgs {
    /// Rows of the vocabulary that stay: a file with an id a line, or a token a line where tokenizer.json lies beside the model;
    /// auto keeps the ids that occur in --data. What the tokenizer cannot do without stays too. Without --target nothing else
    /// goes. The new ids are written to OUT.tokens.json, and a tokenizer for them beside it
    #[arg(long, value_name = "FILE|auto", value_parser = keep, conflicts_with = "plan")]
    pub keep_tokens: Option<TokenChoice>,
}

/// Which tokens stay, as the command line has it.
#[derive(Clone, Debug)]
pub(super) enum TokenChoice {
    /// Those that occur in the inputs.
    Occurring,
    /// Those that a file lists.
    Listed(PathBuf),
}

fn keep(text: &str) -> Result<TokenChoice, Infallible> {
    Ok(match text {
        "auto" => TokenChoice::Occurring,
        path => TokenChoice::Listed(path.into()),
    })
}
