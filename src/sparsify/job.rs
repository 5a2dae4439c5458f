//! What all steps of one run see.

use super::measure::DenseOutputs;
use super::parts::SparsePart;
use super::pattern::SparsityPattern;
use super::request::{Data, SparsifyRequest};
use crate::analysis::{Analysis, Selection};
use crate::model::Model;
use crate::progress::Work;
use crate::recover::Teacher;
use crate::run::Runtime;

/// What the steps have in common.
pub(super) struct Job<'a> {
    pub model: &'a Model,
    pub analysis: &'a Analysis,
    pub parts: &'a [SparsePart],
    pub pattern: SparsityPattern,
    pub request: &'a SparsifyRequest,
    pub data: Data<'a>,
    /// What runs the models, and the original in it.
    pub engine: Option<(&'a dyn Runtime, DenseOutputs<'a>)>,
    /// Why nothing runs.
    pub reason: String,
    pub work: &'a Work<'a>,
    pub remarks: Vec<String>,
}

impl Job<'_> {
    /// The original as what layers are fitted to; `whole` is a cut of nothing.
    pub fn teacher<'b>(&'b self, whole: &'b Selection) -> Teacher<'b> {
        self.data.original.unwrap_or(Teacher {
            model: self.model,
            analysis: self.analysis,
            selection: whole,
        })
    }
}
