//! What pruning made and found.

use super::{ChangedEnd, Note, Pattern, UnrunBranch};
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

/// One point that was tried, or that error curves foresee.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Point {
    /// What the model costs there.
    pub cost: Cost,
    /// The largest relative L2 drift of any output there, on inputs that no weights were fitted to.
    pub drift: f64,
    /// Whether no model was made there: the drift is what error curves foresee, scaled to what was measured of the chosen cut.
    pub estimated: bool,
}

/// What can be had for how much drift.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Tradeoff {
    /// The points that were tried, and those that error curves foresee, widest first.
    pub points: Vec<Point>,
    /// The least that the groups which may be cut can come down to; `None` where no error curves were measured.
    pub least: Option<Cost>,
    /// The groups that the outputs depend on most, the first of them most; none where no error curves were measured.
    pub sensitive: Vec<SensitiveGroup>,
}

/// A group that the outputs depend on much.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct SensitiveGroup {
    /// Its id.
    pub id: String,
    /// How many units it has.
    pub units: usize,
    /// How many of them the drift is for: half, or all where it goes as a whole or not at all.
    pub removed: usize,
    /// The relative L2 drift to be expected where these units go and nothing else.
    pub drift: f64,
    /// A pattern that its id matches, whatever characters are in it.
    pub pattern: Pattern,
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
    /// What can be had for how much drift.
    pub tradeoff: Tradeoff,
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
