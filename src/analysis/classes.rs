//! Classes of factors: what must be cut alike, what is frozen by a cause, and which factor of each axis is its carrier.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use super::Granularity;
use super::freeze::Freezer;
use super::spaces::{SpaceId, Spaces};
use super::unite::FactorUnion;
use crate::model::{Model, NodeId};
use crate::relation::{Reason, Relation};

/// Slices that all free classes together may have; what is beyond holds no weights that fit in memory either.
const MOST_SLICES: u64 = 1 << 26;

/// Number of a class of factors.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClassId(pub u32);

impl ClassId {
    /// For indexing a `Vec` by id.
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// One factor of a piece.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Factor {
    /// The class that it belongs to.
    pub class: ClassId,
    /// How many indices of the piece one step of it spans, in the count of [`Block::index`](super::spaces::Block::index).
    pub stride: u64,
}

/// A class: factors, all of one extent, whose indices go together.
#[derive(Clone, Debug)]
pub struct Class {
    /// How many elements it has; 0 when that is known only at run time.
    pub extent: u32,
    /// Whether its elements may be removed.
    pub free: bool,
    /// Why they may not, or why another factor of the same axes is removed instead.
    pub frozen: Option<Reason>,
    /// The node that fixed them, where one did.
    pub held_by: Option<NodeId>,
    /// Why removing them changes what an operator computes for the rest.
    pub lossy: Option<Reason>,
}

/// The classes of a model, and the factors of every piece of every space (outermost first).
#[derive(Clone, Debug, Default)]
pub struct Classes {
    /// All classes.
    pub classes: Vec<Class>,
    numbers: Numbering,
    /// By number.
    factors: Vec<Factor>,
}

/// Numbers of all factors: space by space, piece by piece, outermost first.
#[derive(Clone, Debug, Default)]
pub(super) struct Numbering {
    /// The number of pieces before the end of each space.
    pieces: Vec<u32>,
    /// The number of factors before the end of each piece.
    factors: Vec<u32>,
}

impl Numbering {
    pub(super) fn end_piece(&mut self, factors: usize) {
        self.factors.push(factors as u32);
    }

    pub(super) fn end_space(&mut self) {
        self.pieces.push(self.factors.len() as u32);
    }

    /// What stands before a place in a list of ends.
    fn before(ends: &[u32], at: usize) -> usize {
        at.checked_sub(1).map_or(0, |before| ends[before] as usize)
    }

    fn pieces(&self, space: SpaceId) -> Range<usize> {
        Self::before(&self.pieces, space.index())..self.pieces[space.index()] as usize
    }

    /// The factors of a space.
    pub(super) fn of_space(&self, space: SpaceId) -> Range<usize> {
        let pieces = self.pieces(space);
        Self::before(&self.factors, pieces.start)..Self::before(&self.factors, pieces.end)
    }

    /// The factors of a piece; none where the space has not so many pieces.
    pub(super) fn of_piece(&self, space: SpaceId, piece: usize) -> Range<usize> {
        let pieces = self.pieces(space);
        let at = (pieces.start + piece).min(pieces.end);
        let end = (at + 1).min(pieces.end);
        Self::before(&self.factors, at)..Self::before(&self.factors, end)
    }
}

/// Axes that the user allows to shrink although callers see them, as (value name, axis).
pub type Allowed = std::collections::BTreeSet<(String, usize)>;

/// Classes frozen for a reason found while trying cuts.
pub(super) type Causes = BTreeMap<ClassId, Cause>;

/// Why a class is frozen, and the node that freezes it, where it is one.
pub(super) type Cause = (Reason, Option<NodeId>);

impl Classes {
    /// Builds the classes and chooses carriers.
    pub(super) fn build(
        model: &Model,
        spaces: &Spaces,
        relations: &[Arc<Relation>],
        granularity: Granularity,
        allowed: &Allowed,
        causes: &Causes,
    ) -> Self {
        let mut builder = FactorUnion::new(spaces);
        builder.unite(spaces);
        let mut freezer = Freezer {
            frozen: BTreeMap::new(),
            lossy: BTreeMap::new(),
            union: &mut builder.union,
            numbers: &builder.numbers,
        };
        freezer.causes(model, spaces, relations, allowed);
        let (frozen, lossy) = (freezer.frozen, freezer.lossy);
        finish(builder, frozen, lossy, causes, granularity)
    }

    /// The factors of a space, piece by piece, outermost first.
    pub fn factors(&self, space: SpaceId) -> &[Factor] {
        &self.factors[self.numbers.of_space(space)]
    }

    /// One class.
    pub fn get(&self, class: ClassId) -> &Class {
        &self.classes[class.index()]
    }

    /// The factor of a piece along which indices are removed.
    pub fn carrier(&self, space: SpaceId, piece: usize) -> Option<Factor> {
        self.factors[self.numbers.of_piece(space, piece)]
            .iter()
            .copied()
            .find(|factor| self.get(factor.class).free)
    }
}

/// Classes of the sets of factors that were united, with what freezes each, and the carrier of every piece.
fn finish(
    mut builder: FactorUnion,
    mut frozen: BTreeMap<u32, Cause>,
    lossy: BTreeMap<u32, Reason>,
    causes: &Causes,
    granularity: Granularity,
) -> Classes {
    for (factor, reason) in std::mem::take(&mut builder.dangling) {
        let root = builder.union.find(factor);
        frozen.entry(root).or_insert((reason, None));
    }
    const NONE: u32 = u32::MAX;
    let mut ids: Vec<u32> = vec![NONE; builder.extents.len()];
    let mut classes: Vec<Class> = Vec::new();
    let mut levels: Vec<usize> = Vec::new();
    let mut factors: Vec<Factor> = Vec::with_capacity(builder.extents.len());
    let mut start = 0;
    for end in &builder.numbers.factors {
        let end = *end as usize;
        for at in start..end {
            let root = builder.union.find(at as u32);
            let extent = builder.extents[at].count();
            let extent = extent.and_then(|extent| u32::try_from(extent).ok());
            if ids[root as usize] == NONE {
                ids[root as usize] = classes.len() as u32;
                classes.push(Class {
                    extent: extent.unwrap_or(0),
                    free: false,
                    frozen: frozen.get(&root).map(|(reason, _)| reason.clone()),
                    held_by: frozen.get(&root).and_then(|(_, node)| *node),
                    lossy: lossy.get(&root).cloned(),
                });
                levels.push(0);
            }
            let class = ClassId(ids[root as usize]);
            let entry = &mut classes[class.index()];
            if extent.is_none_or(|extent| extent != entry.extent) {
                entry.frozen.get_or_insert(Reason::Dynamic);
            }
            // The same factor twice in one piece: the kept set would be a square, which no carrier describes.
            if factors[start..at]
                .iter()
                .any(|factor| factor.class == class)
            {
                entry.frozen.get_or_insert(Reason::NoCommonFactors);
            }
            let level = match granularity {
                Granularity::Coarse => at - start,
                Granularity::Fine => end - 1 - at,
            };
            levels[class.index()] = levels[class.index()].max(level);
            let stride = builder.strides[at];
            factors.push(Factor { class, stride });
        }
        start = end;
    }
    for (class, (reason, node)) in causes {
        let class = &mut classes[class.index()];
        if class.frozen.is_none() {
            (class.frozen, class.held_by) = (Some(reason.clone()), *node);
        }
    }
    choose_carriers(&mut classes, &levels, &builder.numbers, &factors);
    Classes {
        classes,
        numbers: builder.numbers,
        factors,
    }
}

/// The pieces that each class has a factor in, one class after the other, and where those of each begin.
fn pieces_by_class(
    classes: usize,
    numbers: &Numbering,
    factors: &[Factor],
) -> (Vec<usize>, Vec<u32>) {
    let mut begins = vec![0; classes + 1];
    for factor in factors {
        begins[factor.class.index() + 1] += 1;
    }
    for class in 0..classes {
        begins[class + 1] += begins[class];
    }
    let mut next = begins.clone();
    let mut pieces = vec![0; factors.len()];
    let mut start = 0;
    for (piece, end) in numbers.factors.iter().enumerate() {
        for factor in &factors[start..*end as usize] {
            let at = &mut next[factor.class.index()];
            pieces[*at] = piece as u32;
            *at += 1;
        }
        start = *end as usize;
    }
    (begins, pieces)
}

/// Frees one class in each piece at most, by ascending level.
fn choose_carriers(
    classes: &mut [Class],
    levels: &[usize],
    numbers: &Numbering,
    factors: &[Factor],
) {
    let (begins, pieces) = pieces_by_class(classes.len(), numbers, factors);
    let mut taken = vec![false; numbers.factors.len()];
    let mut order: Vec<usize> = (0..classes.len()).collect();
    order.sort_by_key(|class| (levels[*class], *class));
    let mut slices = 0u64;
    for class in order {
        let places = &pieces[begins[class]..begins[class + 1]];
        let class = &mut classes[class];
        if class.frozen.is_some() {
            continue;
        }
        if slices + u64::from(class.extent) > MOST_SLICES {
            class.frozen = Some(Reason::operator("more slices than can be told apart"));
        } else if places.iter().any(|piece| taken[*piece as usize]) {
            class.frozen = Some(Reason::operator(
                "another factor of its axis is the one that is cut",
            ));
        } else {
            class.free = true;
            slices += u64::from(class.extent);
            places
                .iter()
                .for_each(|piece| taken[*piece as usize] = true);
        }
    }
}
