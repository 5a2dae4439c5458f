//! The units that go where some tokens stay: rows of tables and of projections.

use std::collections::BTreeSet;

use super::decide::Decision;
use super::{Note, PruneError};
use crate::allocate::Choice;
use crate::analysis::{ClassId, Group, KeptTokens, Kind};
use crate::relation::LabelId;
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
        let together = |class: &ClassId| read_together(workspace, *class).is_some();
        if !is_table && (group.classes.iter().any(together) || is_width(workspace, at)) {
            continue;
        }
        if !is_row_by_row(workspace, group, tokens.rows) {
            return Err(PruneError::Vocabulary(format!(
                "the {} rows of '{}' cannot go one by one",
                tokens.rows, group.id
            )));
        }
        let stays = |(_, row): &(ClassId, u32)| tokens.kept.binary_search(row).is_ok();
        let goes = |unit: &Vec<(ClassId, u32)>| !unit.iter().any(stays);
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
            if let Some(reason) = &class.frozen {
                let holder = class.held_by.map(|holder| holder.name(working));
                let at = holder.map_or_else(String::new, |name| format!(" at '{name}'"));
                return Err(PruneError::Vocabulary(format!(
                    "the rows of '{table}' all have to stay: {reason}{at}"
                )));
            }
            if let Some(node) = read_together(workspace, factor.class) {
                return Err(PruneError::Vocabulary(format!(
                    "the rows of '{table}' all have to stay: '{node}' reads them together"
                )));
            }
            found.insert(factor.class);
        }
    }
    Ok(found)
}

/// The node that sums over the elements of a class, or computes something else where some of them go.
fn read_together(workspace: &Workspace, class: ClassId) -> Option<String> {
    let analysis = &workspace.analysis;
    let mut nodes = workspace.working.index().nodes();
    let found = nodes.find(|(node, _)| {
        let relation = &analysis.relations[node.index()];
        let summed = |label: LabelId| {
            relation
                .terms
                .iter()
                .any(|term| term.summed.contains(&label))
        };
        let reads = |label: LabelId| relation.label(label).fate.loss().is_some() || summed(label);
        let has_class = |label: LabelId| {
            let factors = analysis
                .classes
                .factors(analysis.spaces.label(*node, label));
            factors.iter().any(|factor| factor.class == class)
        };
        let mut labels = (0..relation.labels.len() as u32).map(LabelId);
        labels.any(|label| reads(label) && has_class(label))
    });
    found.map(|(node, _)| workspace.working.node_label(node).to_owned())
}

/// Whether each unit of a group is one token: the same row wherever it is held.
fn is_row_by_row(workspace: &Workspace, group: &Group, rows: usize) -> bool {
    let classes = &workspace.analysis.classes;
    let is_whole = |class: &ClassId| classes.get(*class).extent as usize == rows;
    let is_one = |unit: &Vec<(ClassId, u32)>| {
        let first = unit.first().map(|(_, row)| *row);
        unit.iter().all(|(_, row)| Some(*row) == first)
    };
    group.units.len() == rows
        && group.classes.iter().all(is_whole)
        && group.units.iter().all(is_one)
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
        let some_go = tokens.kept.len() < tokens.rows;
        (some_go && kept.is_none()).then(|| {
            format!(
                "output '{name}' keeps its {} entries; if they stand for tokens, they do by the old ids",
                tokens.rows
            )
        })
    });
    whole.collect::<Vec<_>>().into_iter()
}
