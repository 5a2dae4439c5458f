//! The vocabulary of a language model: which inputs and outputs speak of tokens, which tokens are to stay, and what else has
//! to know of it: the map of ids, and `tokenizer.json`.
//!
//! Ids of tokens that stay keep their order and are counted anew from 0. Invariant: no runtime and no weights; a tokenizer is
//! edited as JSON, and what is not about ids stays as it is.

mod find;
mod keep;
mod map;
mod merges;
mod tokenizer;

pub use find::find;
pub use keep::TokenList;
pub use map::map;
pub use tokenizer::Tokenizer;

/// A vocabulary that cannot be cut as asked for.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
#[non_exhaustive]
pub enum VocabularyError {
    #[error(
        "no input of the model holds ids of tokens: there is no table whose rows whole numbers pick"
    )]
    None,
    #[error(
        "input '{input}' holds ids of tokens, and '{at}' does more with them than to pick rows, so they cannot be counted anew"
    )]
    Computes { input: String, at: String },
    #[error(
        "inputs {inputs} pick from different tables of {rows} rows each, and the model does not tell which of them hold tokens"
    )]
    Several { inputs: String, rows: usize },
    #[error("the tables that input '{input}' picks from differ in their rows: {rows}")]
    Differ { input: String, rows: String },
    #[error("{path}: {problem}")]
    File { path: String, problem: String },
    #[error("the tokenizer: {0}")]
    Tokenizer(String),
    #[error("id {id}, {what}, is not one of the {rows} rows of the vocabulary")]
    Outside { id: i64, what: String, rows: usize },
    #[error("no tokens are left to keep")]
    Empty,
}
