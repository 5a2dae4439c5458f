//! Why indices cannot be removed, or only at a loss.

use std::borrow::Cow;
use std::fmt;

/// Why indices cannot be removed, or only at a loss.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reason {
    /// The operator has no rule here.
    NoRule(String),
    /// Its shapes could not be worked out.
    NotInferred(String),
    /// An input of the model, which callers feed.
    GraphInput,
    /// An output of the model, which callers read.
    GraphOutput,
    /// An extent that is known only when the model runs.
    Dynamic,
    /// Several readers divide the axis in ways that do not fit each other.
    NoCommonFactors,
    /// A shape or attribute that would have to change cannot be rewritten.
    Demand(String),
    /// The rule did not describe the tensor.
    NotDescribed(String),
    /// What the operator does with the axis, in a few words.
    Operator(Cow<'static, str>),
    /// What the axis is to the operator, in a few words, which no network does without: positions of a window, gates.
    Structure(Cow<'static, str>),
    /// No node reads it.
    Unused,
    /// It could go, but other groups were asked for by name.
    NotNamed,
    /// It could go, but the user excluded it.
    Excluded,
    /// It could go, but units of its kind were not asked for.
    OtherKind(&'static str),
}

impl Reason {
    /// What an operator does with the axis, in a few words.
    pub const fn operator(text: &'static str) -> Self {
        Reason::Operator(Cow::Borrowed(text))
    }

    /// What the axis is to an operator, in a few words.
    pub const fn structure(text: &'static str) -> Self {
        Reason::Structure(Cow::Borrowed(text))
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reason::NoRule(operator) => write!(f, "no rule for {operator}"),
            Reason::NotInferred(why) => write!(f, "shape not known: {why}"),
            Reason::GraphInput => f.write_str("input of the model"),
            Reason::GraphOutput => f.write_str("output of the model"),
            Reason::Dynamic => f.write_str("extent known only at run time"),
            Reason::NoCommonFactors => {
                f.write_str("readers divide the axis in ways that do not fit each other")
            }
            Reason::Demand(what) => write!(f, "cannot rewrite {what}"),
            Reason::NotDescribed(what) => write!(f, "not described by the rule: {what}"),
            Reason::Operator(text) | Reason::Structure(text) => f.write_str(text),
            Reason::Unused => f.write_str("unused: no node reads it"),
            Reason::NotNamed => f.write_str("left out: other groups are named"),
            Reason::Excluded => f.write_str("excluded"),
            Reason::OtherKind(kind) => {
                write!(f, "left out: units of kind {kind} are not asked for")
            }
        }
    }
}
