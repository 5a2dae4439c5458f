//! What can be removed together: facts, relations, index spaces, classes of factors, groups of units.
//!
//! Everything is derived from the operators' relations; nothing here knows a pattern of nodes. Analysis never fails on a
//! strange graph: it freezes, with a [`Reason`](crate::relation::Reason). Invariant: no scores, no weights' values.

mod apply;
mod assemble;
mod bounds;
mod branch;
mod classes;
mod demand;
mod divide;
mod freeze;
mod frozen;
mod groups;
mod implied;
mod infer;
mod known;
mod matches;
mod names;
mod numbering;
mod packed_rows;
mod patch;
mod pieces;
mod product;
mod ranks;
mod relate;
mod repack;
mod rewrite;
mod roles;
mod runs;
mod scale;
mod shrink;
mod spaces;
mod taint;
mod ties;
mod tokens;
mod union_find;
mod unite;

use std::collections::BTreeSet;
use std::sync::Arc;

use freeze::Exempt;

pub use bounds::bounds;
pub use branch::ends as branch_ends;
pub use classes::{Class, ClassId, Classes, Factor};
pub use freeze::{Allowed, Holder};
pub use frozen::{Frozen, frozen, frozen_beside};
pub use groups::{Group, Kind, Selection};
pub use implied::implied;
pub(crate) use infer::view;
pub use infer::{Facts, InputShapes, Pins, declared, infer};
pub use known::known;
pub use matches::PieceAt;
pub use pieces::{Block, Pieces, StrideChain};
pub use ranks::{ranked, unranked};
pub use relate::{port_value, relate};
pub use rewrite::{Failure, rewrite};
pub use roles::constants;
pub use runs::Runs;
pub use spaces::{Correspondence, Space, SpaceId, Spaces};
pub use tokens::{KeptTokens, TokenAxis, TokenEnds, picked};

use crate::facts::Dim;
use crate::model::{Index, Model, NodeId, ValueId};
use crate::progress::Memory;
use crate::relation::{LabelId, Relation};

/// Which factor of an axis that has several is removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Granularity {
    /// The outermost: whole heads, whole convolution groups, channels of a flattened map.
    #[default]
    Coarse,
    /// The innermost: dimensions of heads, one channel of every convolution group.
    Fine,
}

/// What analysis may assume.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Which factor of an axis is removed.
    pub granularity: Granularity,
    /// Axes of graph inputs and outputs that may shrink all the same.
    pub allowed: Allowed,
    /// Inputs and outputs that speak of tokens by their ids, whose rows may go.
    pub tokens: TokenEnds,
    /// Input shapes at which operations are counted, and ranks that are not declared; symbols keep their names.
    pub pins: Pins,
    /// Whether units that no constant holds form groups too, as the laws of single operators need.
    pub weightless: bool,
    /// What a constant may take while it is folded.
    pub memory: Memory,
    /// Whether groups whose basis may be changed count as directions.
    pub directions: bool,
}

/// What is known of a model for pruning.
#[derive(Clone, Debug)]
pub struct Analysis {
    /// Types, shapes, small contents.
    pub facts: Facts,
    /// The relation of each node.
    pub relations: Vec<Arc<Relation>>,
    /// Axes and labels, and how they correspond.
    pub spaces: Spaces,
    /// What is cut alike.
    pub classes: Classes,
    /// What may be removed.
    pub groups: Vec<Group>,
    /// What the ids of tokens count, where their rows may go.
    pub tokens: Vec<TokenAxis>,
}

impl Analysis {
    /// The indices of an axis that stay; `None` when all do.
    pub fn kept_axis(
        &self,
        value: ValueId,
        axis: usize,
        selection: &Selection,
    ) -> Option<Vec<u32>> {
        let space = self.spaces.axis(value, axis)?;
        selection.indices(&self.spaces, &self.classes, space)
    }

    /// What is left of the extent of an axis; `None` when all of it stays.
    pub fn new_extent(&self, value: ValueId, axis: usize, selection: &Selection) -> Option<Dim> {
        let space = self.spaces.axis(value, axis)?;
        selection.extent(&self.spaces, &self.classes, space)
    }

    /// For each input whose ids are counted anew: its name, how many ids there were, and those that stay.
    pub fn kept_ids(&self, model: &Model, selection: &Selection) -> Vec<(String, usize, Vec<u32>)> {
        let mut found: Vec<(String, usize, Vec<u32>)> = Vec::new();
        for axis in &self.tokens {
            let space = self.spaces.label(axis.node, axis.label);
            let whole = self.spaces.get(space).extent.count();
            let kept = selection.indices(&self.spaces, &self.classes, space);
            let name = &model.index().value(axis.input).name;
            if let (Some(whole), Some(kept)) = (whole, kept)
                && !found.iter().any(|(other, ..)| other == name)
            {
                found.push((name.clone(), whole, kept));
            }
        }
        found
    }

    /// For each label of a node the indices that stay; `None` when all do.
    pub fn kept_labels(&self, node: NodeId, selection: &Selection) -> Vec<Option<Arc<[u32]>>> {
        let labels = self.relations[node.index()].labels.len() as u32;
        (0..labels)
            .map(|label| {
                selection
                    .indices(
                        &self.spaces,
                        &self.classes,
                        self.spaces.label(node, LabelId(label)),
                    )
                    .map(Arc::from)
            })
            .collect()
    }

    /// The selection that removes these units, by group.
    pub fn select<'a>(&self, removed: impl IntoIterator<Item = (usize, &'a [u32])>) -> Selection {
        Selection::new(&self.groups, &self.classes, removed)
    }
}

/// Analyses a model. Cuts are tried on shapes alone; what cannot be rewritten is frozen, with its reason.
pub fn analyse(model: &Model, options: &Options) -> Analysis {
    let facts = infer(model, &Pins::new());
    let relations = relate(model, &facts);
    let spaces = Spaces::build(model, &facts, &relations);
    let tokens = tokens::find(model, &facts, &relations, &options.tokens);
    let picked = tokens.iter().map(|axis| (axis.node, axis.label)).collect();
    let exempt = Exempt::new(options, picked);
    let mut causes = classes::Causes::new();
    let built = |spaces: &Spaces, relations: &[Arc<Relation>], causes: &classes::Causes| {
        let granularity = options.granularity;
        Classes::build(model, spaces, relations, granularity, &exempt, causes)
    };
    let classes = built(&spaces, &relations, &causes);
    let mut analysis = Analysis {
        facts,
        relations,
        spaces,
        classes,
        groups: Vec::new(),
        tokens,
    };
    loop {
        analysis.groups = grouped(model, &analysis, options);
        let all: Vec<usize> = (0..analysis.groups.len()).collect();
        let Err(failures) = trial_cut(model, &analysis, &all) else {
            break;
        };
        let before = causes.len();
        failures
            .into_iter()
            .for_each(|failure| record_causes(model, &analysis, failure, &mut causes));
        if causes.len() == before {
            // No cut axis is at fault by itself: then the groups that fail alone are.
            blame_groups(model, &analysis, &all, &mut causes);
        }
        if causes.len() == before {
            // Nothing to blame: then nothing may be cut.
            analysis.groups.clear();
            break;
        }
        analysis.classes = built(&analysis.spaces, &analysis.relations, &causes);
    }
    analysis
}

/// The groups of what is free.
fn grouped(model: &Model, analysis: &Analysis, options: &Options) -> Vec<Group> {
    let Analysis {
        spaces, classes, ..
    } = analysis;
    let mut groups = groups::build(
        model,
        spaces,
        classes,
        &analysis.relations,
        options.weightless,
    );
    let tokens = token_classes(model, analysis, &options.tokens);
    for group in &mut groups {
        if group.classes.iter().any(|class| tokens.contains(class)) {
            group.kind = Kind::Vocabulary;
        }
    }
    groups
}

/// The classes of what tokens are counted by: of the axes picked from, and of outputs.
fn token_classes(model: &Model, analysis: &Analysis, ends: &TokenEnds) -> BTreeSet<ClassId> {
    let (spaces, classes) = (&analysis.spaces, &analysis.classes);
    let outputs = &model.index().graph(Index::MAIN).outputs;
    let of_outputs = outputs.iter().flat_map(|value| {
        let name = &model.index().value(*value).name;
        let axes = ends.outputs.iter().filter(move |(end, _)| end == name);
        axes.filter_map(|(_, axis)| spaces.axis(*value, *axis))
    });
    let tables = analysis.tokens.iter();
    let of_tables = tables.map(|axis| spaces.label(axis.node, axis.label));
    of_tables
        .chain(of_outputs)
        .flat_map(|space| classes.factors(space))
        .map(|factor| factor.class)
        .collect()
}

/// Notes the classes of the groups that cannot be cut even alone.
fn blame_groups(
    model: &Model,
    analysis: &Analysis,
    groups: &[usize],
    causes: &mut classes::Causes,
) {
    for group in groups {
        let Err(failures) = trial_cut(model, analysis, &[*group]) else {
            continue;
        };
        let Some(failure) = failures.into_iter().next() else {
            continue;
        };
        for class in analysis
            .groups
            .get(*group)
            .into_iter()
            .flat_map(|group| &group.classes)
        {
            causes
                .entry(*class)
                .or_insert_with(|| (failure.reason.clone(), Some(Holder::Node(failure.node))));
        }
    }
}

/// Notes the classes that must stay whole because of a failure.
fn record_causes(
    model: &Model,
    analysis: &Analysis,
    failure: Failure,
    causes: &mut classes::Causes,
) {
    tracing::debug!(spaces = ?failure.spaces, node = model.node_label(failure.node), reason = %failure.reason, "a trial cut can not be carried through");
    for space in failure.spaces {
        for piece in 0..analysis.spaces.get(space).pieces.len() {
            if let Some(factor) = analysis.classes.carrier(space, piece) {
                causes
                    .entry(factor.class)
                    .or_insert_with(|| (failure.reason.clone(), Some(Holder::Node(failure.node))));
            }
        }
    }
}

/// Units to try a cut with. Of several groups different numbers go, so that an extent that follows another group than it should
/// shows; of one alone a single unit.
fn trial(analysis: &Analysis, groups: &[usize]) -> Vec<(usize, Vec<u32>)> {
    const MOST: usize = 13;
    let count = |place: usize, units: usize| {
        if groups.len() > 1 {
            1 + place * 5 % units.saturating_sub(1).clamp(1, MOST)
        } else {
            1
        }
    };
    let units = |(place, group): (usize, &usize)| {
        let Group { units, least, .. } = &analysis.groups[*group];
        let count = count(place, units.len()).min(units.len().saturating_sub(*least));
        (*group, (0..count as u32).collect())
    };
    groups.iter().enumerate().map(units).collect()
}

/// Tries a cut of some units of each of some groups on the shapes.
fn trial_cut(model: &Model, analysis: &Analysis, groups: &[usize]) -> Result<(), Vec<Failure>> {
    if groups.is_empty() {
        return Ok(());
    }
    let units = trial(analysis, groups);
    let selection = analysis.select(
        units
            .iter()
            .map(|(group, units)| (*group, units.as_slice())),
    );
    let mut trial = shrink::shrink(model, analysis, &selection);
    rewrite(&mut trial, model, analysis, &selection)
}
