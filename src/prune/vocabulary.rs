//! The units that go where some tokens stay: rows of tables and of projections.

use std::collections::BTreeSet;

use super::decide::Decision;
use super::{Note, PruneError};
use crate::allocate::Choice;
use crate::analysis::{ClassId, KeptTokens, Kind};
use crate::relation::{Fate, LabelId};
use crate::workspace::Workspace;

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
