//! Classes of factors: what must be cut alike, what is frozen by a cause, and which factor of each axis is its carrier.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Granularity;
use super::freeze::{Cause, Exempt, Freezer, Holder, Loss};
use super::numbering::Numbering;
use super::spaces::{SpaceId, Spaces};
use super::unite::FactorUnion;
use crate::model::Model;
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
    /// How many indices of the piece one step of it spans, in the count of `Block::index`.
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
    /// What fixed them, where that is known.
    pub held_by: Option<Holder>,
    /// Why removing them changes what an operator computes for the rest.
    pub lossy: Option<Reason>,
    /// How many of them an operator chooses at a time, if one chooses among them when it runs: so many stay.
    pub routed: Option<u32>,
}

impl Class {
    /// How many of its elements stay at least.
    pub fn least(&self) -> u32 {
        self.routed.unwrap_or(1).max(1)
    }
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

/// Classes frozen for a reason found while trying cuts.
pub(super) type Causes = BTreeMap<ClassId, Cause>;

impl Classes {
    /// Builds the classes and chooses carriers.
    pub(super) fn build(
        model: &Model,
        spaces: &Spaces,
        relations: &[Arc<Relation>],
        granularity: Granularity,
        exempt: &Exempt,
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
        freezer.causes(model, spaces, relations, exempt);
        let (frozen, lossy) = (freezer.frozen, freezer.lossy);
        finish(builder, frozen, lossy, causes, granularity)
    }

    /// The factors of a space, piece by piece, outermost first.
    pub fn factors(&self, space: SpaceId) -> &[Factor] {
        &self.factors[self.numbers.of_space(space)]
    }

    /// The factors of one piece, outermost first; none where the space has not so many pieces.
    pub fn of_piece(&self, space: SpaceId, piece: usize) -> &[Factor] {
        &self.factors[self.numbers.of_piece(space, piece)]
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
    lossy: BTreeMap<u32, Loss>,
    causes: &Causes,
    granularity: Granularity,
) -> Classes {
    for (factor, reason) in std::mem::take(&mut builder.dangling) {
        let root = builder.union.find(factor);
        frozen.entry(root).or_insert((reason, None));
    }
    let mut found = NumberedClasses::new(builder.extents.len());
    let mut start = 0;
    for end in &builder.numbers.factors {
        let end = *end as usize;
        for at in start..end {
            let root = builder.union.find(at as u32);
            let extent = builder.extents[at].count();
            let extent = extent.and_then(|extent| u32::try_from(extent).ok());
            let class = found.class_of(root, extent, frozen.get(&root), lossy.get(&root));
            let level = match granularity {
                Granularity::Coarse => at - start,
                Granularity::Fine => end - 1 - at,
            };
            let stride = builder.strides[at];
            found.add(Factor { class, stride }, start, extent, level);
        }
        start = end;
    }
    let NumberedClasses {
        mut classes,
        levels,
        factors,
        ..
    } = found;
    for (class, (reason, holder)) in causes {
        let class = &mut classes[class.index()];
        if class.frozen.is_none() {
            (class.frozen, class.held_by) = (Some(reason.clone()), *holder);
        }
    }
    choose_carriers(&mut classes, &levels, &builder.numbers, &factors);
    Classes {
        classes,
        numbers: builder.numbers,
        factors,
    }
}

/// Classes in the order in which their first factors come.
struct NumberedClasses {
    /// By the root of a set of factors.
    ids: Vec<Option<ClassId>>,
    classes: Vec<Class>,
    /// By class: how many factors of a piece come before its own at most, counted from the side that granularity prefers.
    levels: Vec<usize>,
    factors: Vec<Factor>,
}

impl NumberedClasses {
    fn new(factors: usize) -> Self {
        NumberedClasses {
            ids: vec![None; factors],
            classes: Vec::new(),
            levels: Vec::new(),
            factors: Vec::with_capacity(factors),
        }
    }

    /// The class of a set of factors, a new one where the set is met for the first time.
    fn class_of(
        &mut self,
        root: u32,
        extent: Option<u32>,
        frozen: Option<&Cause>,
        lossy: Option<&Loss>,
    ) -> ClassId {
        if let Some(class) = self.ids[root as usize] {
            return class;
        }
        let class = ClassId(self.classes.len() as u32);
        self.ids[root as usize] = Some(class);
        self.classes.push(Class {
            extent: extent.unwrap_or(0),
            free: false,
            frozen: frozen.map(|(reason, _)| reason.clone()),
            held_by: frozen.and_then(|(_, holder)| *holder),
            lossy: lossy.map(|loss| loss.reason.clone()),
            routed: lossy.and_then(|loss| loss.routed),
        });
        self.levels.push(0);
        class
    }

    /// Adds the next factor, of a piece whose factors begin at `start`.
    fn add(&mut self, factor: Factor, start: usize, extent: Option<u32>, level: usize) {
        let entry = &mut self.classes[factor.class.index()];
        if extent.is_none_or(|extent| extent != entry.extent) {
            entry.frozen.get_or_insert(Reason::Dynamic);
        }
        // The same factor twice in one piece: the kept set would be a square, which no carrier describes.
        if self.factors[start..]
            .iter()
            .any(|other| other.class == factor.class)
        {
            entry.frozen.get_or_insert(Reason::NoCommonFactors);
        }
        let most = &mut self.levels[factor.class.index()];
        *most = (*most).max(level);
        self.factors.push(factor);
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
