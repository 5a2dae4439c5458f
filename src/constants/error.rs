//! Why the functions of a model cannot become its nodes.

/// Why the functions of a model cannot become its nodes.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum InlineError {
    /// A call that leads to itself.
    #[error("function '{0}' of the model calls itself")]
    CallsItself(String),
    /// The same, found only when calls had become nodes.
    #[error("a function of the model calls itself")]
    Endless,
    /// More nodes than can be handled.
    #[error(
        "the calls of the model's own functions would become {nodes} nodes; {most} can be handled"
    )]
    TooMany {
        /// What there would be.
        nodes: u64,
        /// What can be handled.
        most: u64,
    },
    /// Other operator versions than the model's.
    #[error("function '{function}' is written for operator set {version}, the model for another")]
    OtherVersion {
        /// The function.
        function: String,
        /// What it is written for.
        version: i64,
    },
}
