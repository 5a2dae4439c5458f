//! Why a text is no graph.

/// Why a text is no graph, or no function.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum TextError {
    /// The line at fault, and what is wrong with it.
    #[error("'{line}': {problem}")]
    Line {
        /// As it stands.
        line: String,
        /// What is wrong.
        problem: Box<TextError>,
    },
    /// Something that has to be there.
    #[error("no {0}")]
    Missing(&'static str),
    /// A bracket that has to be there.
    #[error("no '{0}'")]
    NoBracket(char),
    /// A type of tensor that is not known.
    #[error("no type '{0}'")]
    NoType(String),
    /// A text in place of a number.
    #[error("no number '{0}'")]
    NoNumber(String),
    /// A text in place of an attribute's value.
    #[error("no value '{0}'")]
    NoValue(String),
    /// A subgraph that is not written.
    #[error("no graph '{0}'")]
    NoGraph(String),
    /// A subgraph without an end.
    #[error("a graph has no end")]
    Endless,
    /// The end of no subgraph.
    #[error("'end' without 'graph'")]
    End,
    /// A constant of no fixed extents.
    #[error("constants have fixed dims")]
    Dims,
    /// Another number of numbers than of elements.
    #[error("{numbers} numbers for {elements} elements")]
    Count {
        /// As written.
        numbers: usize,
        /// As the extents ask for.
        elements: usize,
    },
    /// A line of no known form.
    #[error("neither a declaration nor 'y = Operator(x)'")]
    NoNode,
    /// More than a node in a line.
    #[error("something stands behind the node")]
    Behind,
    /// An attribute without a name or a value.
    #[error("attributes are name=value")]
    Attribute,
    /// A graph that does not hold together: names that clash or are not produced.
    #[error("{0}")]
    Graph(String),
}
