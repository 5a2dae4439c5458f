//! What is wrong with the message of a tensor.

use std::path::PathBuf;

/// What is wrong with the message of a tensor, or with the file that holds its bytes.
#[derive(Debug, thiserror::Error)]
pub(super) enum TensorProblem {
    #[error("unknown element type {0}")]
    ElementType(i32),
    #[error("negative extent {0}")]
    NegativeExtent(i64),
    #[error("its dims multiply to more than memory can address")]
    TooLarge,
    #[error("has {stored} texts where its dims ask for {asked}")]
    Texts { stored: usize, asked: usize },
    #[error("claims {0} bytes")]
    Claims(usize),
    #[error("has {stored} bytes where its type and dims ask for {asked}")]
    Bytes { stored: usize, asked: usize },
    #[error("external data: '{text}' is no {key}")]
    ExternalNumber { text: String, key: &'static str },
    #[error("external data without a location")]
    NoLocation,
    #[error(
        "external data file '{location}' has {bytes} bytes, bytes {from} to {to} are asked for"
    )]
    ExternalEnd {
        location: String,
        bytes: usize,
        from: u64,
        to: u64,
    },
    #[error("external data file '{0}' lies outside the model's folder, which is not allowed")]
    Outside(String),
    #[error("external data file '{}': {source}", path.display())]
    ExternalFile {
        path: PathBuf,
        source: std::io::Error,
    },
}
