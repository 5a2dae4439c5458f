//! Copies of shared constants for their readers: where these are shared by chance, or where a cut saves more than they cost.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use super::{Workspace, WorkspaceError, analysed};
use crate::allocate::least_cuts;
use crate::analysis::Options;
use crate::constants::{Origins, Sharing, shared, unshare};
use crate::model::Model;
use crate::ops::meaning;

/// Analyses a model with copies for the readers of shared constants where these are shared by chance, or where copies pay.
pub(super) fn apart(
    model: Cow<Model>,
    origins: &Origins,
    options: &Options,
) -> Result<Workspace, WorkspaceError> {
    let sharing = shared(&model);
    let named = |wanted: &dyn Fn(Sharing) -> bool| -> BTreeSet<String> {
        sharing
            .iter()
            .filter(|(_, sharing)| wanted(**sharing))
            .map(|(name, _)| name.clone())
            .collect()
    };
    let by_chance = named(&|sharing| sharing == Sharing::Accident);
    let matrices = named(&|sharing| sharing != Sharing::Accident);
    if matrices.is_empty() {
        return with_copies(model.into_owned(), origins, &by_chance, options);
    }
    let copied = |apart: &BTreeSet<String>| {
        let apart = by_chance.union(apart).cloned().collect();
        with_copies(model.as_ref().clone(), origins, &apart, options)
    };
    let tied = copied(&BTreeSet::new())?;
    let reached = reached(&tied);
    let stuck: BTreeSet<String> = matrices
        .iter()
        .filter(|name| !reached.contains(*name))
        .cloned()
        .collect();
    let small = named(&|sharing| sharing == Sharing::Small);
    let asked: BTreeSet<String> = stuck.union(&small).cloned().collect();
    if asked.is_empty() {
        return Ok(tied);
    }
    let all = copied(&asked)?;
    let paying = paying(&all, &asked, &stuck);
    if paying == asked {
        return Ok(all);
    }
    if paying.is_empty() {
        return Ok(tied);
    }
    copied(&paying)
}

/// Analyses a model in which each reader of these constants has its own.
fn with_copies(
    model: Model,
    origins: &Origins,
    apart: &BTreeSet<String>,
    options: &Options,
) -> Result<Workspace, WorkspaceError> {
    let (working, copies) = unshare(model, apart, &|node| meaning(node).reads_extents)?;
    let mut origins = origins.clone();
    origins.copies.extend(copies);
    let analysis = analysed(&working, options);
    Ok(Workspace::plain(working, analysis, &origins, &options.pins))
}

/// The constants that some group reaches, by the name that they had before they were copied.
fn reached(workspace: &Workspace) -> BTreeSet<String> {
    let weights = workspace
        .analysis
        .groups
        .iter()
        .flat_map(|group| &group.weights);
    weights
        .map(|(value, _)| workspace.source(*value).to_owned())
        .collect()
}

/// Those of some shared matrices for which copies pay: of one that cannot be cut otherwise, where some group's cut saves
/// more than it costs; of others, where every group's does that has lost half of its units.
fn paying(
    workspace: &Workspace,
    asked: &BTreeSet<String>,
    stuck: &BTreeSet<String>,
) -> BTreeSet<String> {
    let analysis = &workspace.analysis;
    let mut pays: BTreeMap<&str, (bool, bool)> = asked
        .iter()
        .map(|name| (name.as_str(), (false, true)))
        .collect();
    let holds = |group: &usize| {
        analysis.groups[*group]
            .weights
            .iter()
            .any(|(value, _)| asked.contains(workspace.source(*value)))
    };
    let holding: Vec<usize> = (0..analysis.groups.len()).filter(holds).collect();
    for (group, least) in holding
        .iter()
        .zip(least_cuts(workspace.subject(), &holding))
    {
        let group = &analysis.groups[*group];
        let once = least.is_some();
        let soon = least.is_some_and(|least| least * 2 <= group.units.len());
        for (value, _) in &group.weights {
            if let Some((some, every)) = pays.get_mut(workspace.source(*value)) {
                (*some, *every) = (*some || once, *every && soon);
            }
        }
    }
    let kept = pays
        .into_iter()
        .filter(|(name, (some, every))| if stuck.contains(*name) { *some } else { *every });
    kept.map(|(name, _)| name.to_owned()).collect()
}

impl Workspace {
    fn source(&self, value: crate::model::ValueId) -> &str {
        self.origins.source(&self.working.index().value(value).name)
    }
}
