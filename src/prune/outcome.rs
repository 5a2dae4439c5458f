//! What pruning made and found.

use super::{ChangedEnd, Note, UnrunBranch};
use crate::allocate::Choice;
use crate::analysis::KeptTokens;
use crate::cost::Cost;
use crate::evaluate::Checks;
use crate::latency::LatencyForecast;
use crate::model::Model;
use crate::plan::Plan;
use crate::recover::Repair;
use crate::run::Runtime;
use crate::train::TrainingRecord;
use crate::workspace::Workspace;

/// What ran the models.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
#[non_exhaustive]
pub struct Engine {
    pub name: String,
    pub version: String,
}

impl Engine {
    pub(super) fn of(runtime: &dyn Runtime) -> Self {
        Engine {
            name: runtime.name().to_owned(),
            version: runtime.version().to_owned(),
        }
    }
}

/// One point that the search tried.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Point {
    /// What the model costs there.
    pub cost: Cost,
    /// The largest relative L2 drift of any output there.
    pub drift: f64,
}

/// What pruning made and found.
#[derive(Debug)]
#[non_exhaustive]
pub struct Outcome {
    /// What ran the models; `None` where nothing was run.
    pub engine: Option<Engine>,
    /// The pruned model.
    pub model: Model,
    /// What was removed, as data.
    pub plan: Plan,
    /// Units by group of the analysis that went.
    #[doc(hidden)]
    pub choice: Choice,
    /// The original made ready for pruning, small shared constants given to each reader apart.
    #[doc(hidden)]
    pub workspace: Workspace,
    /// The groups that could be cut under the request, as numbers into the analysis.
    #[doc(hidden)]
    pub candidates: Vec<usize>,
    /// Groups that could be cut too, but no input took their branches.
    #[doc(hidden)]
    pub never_ran: Vec<usize>,
    /// Costs of the original.
    pub before: Cost,
    /// Costs of the pruned model.
    pub after: Cost,
    /// What was foreseen of the latency, where one was aimed at.
    pub forecast: Option<LatencyForecast>,
    /// Exactness, drift and latency; `None` when they were not asked for.
    pub checks: Option<Checks>,
    /// What recovery did to each layer.
    #[doc(hidden)]
    pub repairs: Vec<Repair>,
    /// How the weights were trained, if they were.
    pub training: Option<TrainingRecord>,
    /// Branches of conditions that no input took.
    #[doc(hidden)]
    pub unrun: Vec<UnrunBranch>,
    /// What became of the vocabulary, where tokens went.
    #[doc(hidden)]
    pub vocabulary: Option<VocabularyCut>,
    /// Inputs and outputs whose shape changed.
    #[doc(hidden)]
    pub changed_ends: Vec<ChangedEnd>,
    /// The points that the search tried, widest first.
    pub tradeoff: Vec<Point>,
    /// Whether all targets were met.
    pub reached: bool,
    /// What the user should know, one sentence each.
    pub notes: Vec<Note>,
}

/// What became of a vocabulary.
#[derive(Debug)]
#[non_exhaustive]
pub struct VocabularyCut {
    /// Inputs and outputs that speak of tokens, how many there were, and the ids that stay: the new ids are their places.
    pub tokens: KeptTokens,
    /// Parameters that went with the others.
    pub params: f64,
    /// Bytes that went with them.
    pub bytes: f64,
    /// The original made ready for this cut, where more was cut after it.
    #[doc(hidden)]
    pub first: Option<(Workspace, Choice)>,
}

impl VocabularyCut {
    pub(super) fn of(outcome: &Outcome, tokens: KeptTokens) -> Self {
        let (before, after) = (outcome.before, outcome.after);
        VocabularyCut {
            tokens,
            params: before.params - after.params,
            bytes: before.bytes - after.bytes,
            first: None,
        }
    }

    /// Outputs that lost the entries of tokens that went.
    pub fn outputs(&self, outcome: &Outcome) -> Vec<String> {
        let named = |name: &String| {
            let mut ends = self.tokens.ends.outputs.iter();
            ends.any(|(end, _)| end == name)
        };
        let changed = outcome.changed_ends.iter().map(|end| &end.name);
        changed.filter(|name| named(name)).cloned().collect()
    }
}
