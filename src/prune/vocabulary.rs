//! Tokens that go: rows of the vocabulary are cut first, and what else is asked for is done to the model that is left.

use std::collections::BTreeSet;

use super::decide::Decision;
use super::{Note, Outcome, PruneError, Pruner, Request};
use crate::allocate::Choice;
use crate::analysis::{ClassId, KeptTokens, Kind};
use crate::evaluate::Checks;
use crate::model::Ends;
use crate::plan::Plan;
use crate::score::Scorer;
use crate::surgery;
use crate::verify::Verdict;
use crate::workspace::Workspace;

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
    fn of(outcome: &Outcome, tokens: KeptTokens) -> Self {
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

/// A request in two: the vocabulary, then the rest.
pub(super) struct VocabularyFirst {
    first: Request,
    rest: Option<Request>,
    tokens: KeptTokens,
}

impl VocabularyFirst {
    /// The parts of a request that takes tokens.
    pub fn of(request: &Request) -> Option<Self> {
        if let Some(plan) = &request.plan {
            let (first, rest) = plan.vocabulary_first()?;
            let tokens = first.kept_tokens()?;
            let rest = (!rest.groups.is_empty()).then(|| Request {
                plan: Some(rest),
                ..request.clone()
            });
            let first = alone(request, Some(first), None);
            return Some(VocabularyFirst {
                first,
                rest,
                tokens,
            });
        }
        let tokens = request.tokens.clone()?;
        let rest = request.asks_for_units().then(|| Request {
            tokens: None,
            ..request.clone()
        });
        Some(VocabularyFirst {
            first: alone(request, None, Some(tokens.clone())),
            rest,
            tokens,
        })
    }

    /// Cuts the vocabulary, then the rest of the model that is left, fed with the new ids. Errors: as of [`Pruner::run`];
    /// inputs with ids that go.
    pub fn run(self, pruner: &Pruner) -> Result<Outcome, PruneError> {
        let data = pruner.dataset.of_kept(&self.tokens)?;
        let mut first = Pruner {
            dataset: &data,
            ..*pruner
        }
        .run_at_once(&self.first)?;
        let is_wrong = |checks: &Checks| checks.exactness.verdict == Verdict::Inexact;
        let stops = first.checks.as_ref().is_some_and(is_wrong);
        let Some(mut rest) = self.rest.filter(|_| !stops) else {
            first.vocabulary = Some(VocabularyCut::of(&first, self.tokens));
            return Ok(first);
        };
        rest.before = Some(first.before);
        rest.plan = rest
            .plan
            .map(|plan| plan.without(&first.plan))
            .transpose()?;
        let mut model = first.model.clone();
        model.ends = Ends::default();
        let data = data.renumbered(&self.tokens)?;
        let second = Pruner {
            model: &model,
            dataset: &data,
            ..*pruner
        }
        .run_at_once(&rest)?;
        Ok(joined(first, second, self.tokens, &rest))
    }
}

/// The request for the vocabulary alone.
fn alone(request: &Request, plan: Option<Plan>, tokens: Option<KeptTokens>) -> Request {
    Request {
        score: Scorer::norm(),
        kinds: vec![Kind::Vocabulary],
        plan,
        tokens,
        keep_plan: request.keep_plan,
        pins: request.pins.clone(),
        verify: request.verify,
        ..Default::default()
    }
}

/// What both cuts made, told as one.
fn joined(first: Outcome, second: Outcome, tokens: KeptTokens, request: &Request) -> Outcome {
    let cut = VocabularyCut::of(&first, tokens);
    let mut outcome = second;
    outcome.plan = outcome.plan.behind(first.plan);
    surgery::annotate(&mut outcome.model, &request.notes(&outcome.plan));
    outcome.changed_ends.splice(0..0, first.changed_ends);
    outcome.notes.splice(0..0, first.notes);
    if let (Some(one), Some(both)) = (first.checks, &mut outcome.checks) {
        let (one, both) = (one.exactness, &mut both.exactness);
        both.max_relative_error = both
            .max_relative_error
            .into_iter()
            .chain(one.max_relative_error)
            .reduce(f64::max);
        if both.verdict == Verdict::Exact {
            both.verdict = one.verdict;
            both.reason = both.reason.take().or(one.reason);
        }
    }
    outcome.vocabulary = Some(VocabularyCut {
        first: Some((first.workspace, first.choice)),
        ..cut
    });
    outcome
}

/// The units that go where these tokens stay. Errors: an axis of the vocabulary that cannot lose rows, with the node.
pub(super) fn decide(workspace: &Workspace, tokens: &KeptTokens) -> Result<Decision, PruneError> {
    let analysis = &workspace.analysis;
    let counted = counted(workspace)?;
    let mut removed = vec![Vec::new(); analysis.groups.len()];
    let mut notes = Vec::new();
    for (at, group) in analysis.groups.iter().enumerate() {
        if group.kind != Kind::Vocabulary {
            continue;
        }
        let is_table = group.classes.iter().any(|class| counted.contains(class));
        if !is_table && (group.lossy.is_some() || is_width(workspace, at)) {
            continue;
        }
        let stays = |(_, row): &(ClassId, u32)| tokens.kept.binary_search(row).is_ok();
        let goes = |unit: &Vec<(ClassId, u32)>| !unit.iter().any(stays);
        if group.units.len() != tokens.rows {
            return Err(PruneError::Vocabulary(format!(
                "only {} of the {} rows of '{}' can go one by one",
                group.units.len(),
                tokens.rows,
                group.id
            )));
        }
        let gone = group
            .units
            .iter()
            .enumerate()
            .filter(|(_, unit)| goes(unit));
        removed[at] = gone.map(|(unit, _)| unit as u32).collect();
    }
    notes.extend(whole_outputs(workspace, tokens, &removed).map(Note::Other));
    Ok(Decision {
        choice: Choice { removed },
        reached: true,
        notes,
        ..Default::default()
    })
}

/// The classes that ids count. Errors: one that cannot lose elements, with what holds it.
fn counted(workspace: &Workspace) -> Result<BTreeSet<ClassId>, PruneError> {
    let Workspace {
        analysis, working, ..
    } = workspace;
    let mut found = BTreeSet::new();
    if analysis.tokens.is_empty() {
        return Err(PruneError::Vocabulary(
            "no input's ids pick rows".to_owned(),
        ));
    }
    for axis in &analysis.tokens {
        let space = analysis.spaces.label(axis.node, axis.label);
        for factor in analysis.classes.factors(space) {
            let class = analysis.classes.get(factor.class);
            let table = &working.index().value(axis.table).name;
            let lossy = class.lossy.as_ref().map(|reason| (reason, None));
            let frozen = class.frozen.as_ref().map(|reason| (reason, class.held_by));
            if let Some((reason, holder)) = frozen.or(lossy) {
                let holder = holder.map(|holder| holder.name(working).to_owned());
                let holder = holder.or_else(|| lossy_at(workspace, factor.class));
                let at = holder.map_or_else(String::new, |name| format!(" at '{name}'"));
                return Err(PruneError::Vocabulary(format!(
                    "the rows of '{table}' all have to stay: {reason}{at}"
                )));
            }
            found.insert(factor.class);
        }
    }
    Ok(found)
}

/// The node that computes something else where elements of a class go.
fn lossy_at(workspace: &Workspace, class: ClassId) -> Option<String> {
    use crate::relation::{Fate, LabelId};
    let analysis = &workspace.analysis;
    let mut nodes = workspace.working.index().nodes();
    let found = nodes.find(|(node, _)| {
        let labels = &analysis.relations[node.index()].labels;
        labels.iter().enumerate().any(|(at, label)| {
            let space = analysis.spaces.label(*node, LabelId(at as u32));
            let factors = analysis.classes.factors(space);
            matches!(label.fate, Fate::Lossy(_))
                && factors.iter().any(|factor| factor.class == class)
        })
    });
    found.map(|(node, _)| workspace.working.node_label(node).to_owned())
}

/// Whether a group is the width of a table, whose extent is that of the vocabulary by chance.
fn is_width(workspace: &Workspace, group: usize) -> bool {
    let analysis = &workspace.analysis;
    let weights = &analysis.groups[group].weights;
    analysis
        .tokens
        .iter()
        .any(|axis| weights.iter().any(|(value, _)| *value == axis.table))
}

/// What is to be said of outputs that could have an entry for each token, and keep all.
fn whole_outputs(
    workspace: &Workspace,
    tokens: &KeptTokens,
    removed: &[Vec<u32>],
) -> impl Iterator<Item = String> {
    let selection = workspace.select(removed);
    let analysis = &workspace.analysis;
    let ends = tokens.ends.outputs.iter();
    let whole = ends.filter_map(|(name, axis)| {
        let value = workspace.working.index().main_value(name)?;
        let kept = analysis.kept_axis(value, *axis, &selection);
        kept.is_none().then(|| {
            format!(
                "output '{name}' keeps its {} entries; if they stand for tokens, they do by the old ids",
                tokens.rows
            )
        })
    });
    whole.collect::<Vec<_>>().into_iter()
}
