//! Classes of factors: what must be cut alike, what is frozen by a cause, and which factor of each axis is its carrier.

use std::collections::BTreeMap;

use super::Granularity;
use super::pieces::same_places;
use super::relate::port_value;
use super::spaces::{Correspondence, SpaceId, Spaces};
use super::union_find::UnionFind;
use crate::facts::Dim;
use crate::model::{Index, Model, NodeId, Origin, ValueId};
use crate::relation::{Fate, Reason, Relation};

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
    /// By space, by piece.
    factors: Vec<Vec<Vec<Factor>>>,
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
        relations: &[Relation],
        granularity: Granularity,
        allowed: &Allowed,
        causes: &Causes,
    ) -> Self {
        let mut builder = Builder::new(spaces);
        builder.unite(spaces);
        let mut freezer = Freezer {
            frozen: BTreeMap::new(),
            lossy: BTreeMap::new(),
            union: &mut builder.union,
            first: &builder.first,
            extents: &builder.extents,
        };
        freezer.causes(model, spaces, relations, allowed);
        let (frozen, lossy) = (freezer.frozen, freezer.lossy);
        builder.finish(spaces, frozen, lossy, causes, granularity)
    }

    /// The factors of each piece of a space, outermost first.
    pub fn pieces(&self, space: SpaceId) -> &[Vec<Factor>] {
        &self.factors[space.index()]
    }

    /// One class.
    pub fn get(&self, class: ClassId) -> &Class {
        &self.classes[class.index()]
    }

    /// The factor of a piece along which indices are removed.
    pub fn carrier(&self, space: SpaceId, piece: usize) -> Option<Factor> {
        self.factors[space.index()]
            .get(piece)?
            .iter()
            .copied()
            .find(|factor| self.get(factor.class).free)
    }
}

/// Factors before they are united: numbered space by space, piece by piece, outermost first.
#[derive(Default)]
struct Builder {
    first: Vec<Vec<u32>>,
    extents: Vec<Vec<Vec<Dim>>>,
    strides: Vec<Vec<Vec<u64>>>,
    union: UnionFind,
    /// Factors tied to a space whose divisions are not known.
    dangling: Vec<(u32, Reason)>,
    /// Spaces all of whose factors are among them.
    dangled: Vec<bool>,
}

impl Builder {
    fn new(spaces: &Spaces) -> Self {
        let mut builder = Builder {
            dangled: vec![false; spaces.iter().count()],
            ..Default::default()
        };
        let mut count = 0u32;
        for (_, space) in spaces.iter() {
            let (mut firsts, mut extents, mut strides) = (Vec::new(), Vec::new(), Vec::new());
            for piece in space.pieces.iter() {
                let (piece_strides, piece_extents): (Vec<u64>, Vec<Dim>) =
                    piece.factors().into_iter().unzip();
                firsts.push(count);
                count += piece_extents.len() as u32;
                extents.push(piece_extents);
                strides.push(piece_strides);
            }
            builder.first.push(firsts);
            builder.extents.push(extents);
            builder.strides.push(strides);
        }
        builder.union = UnionFind::new(count as usize);
        for (id, space) in spaces.iter() {
            if let Some(reason) = &space.broken {
                builder.dangle(id, reason);
            }
        }
        builder
    }

    /// Holds all factors of a space; the first reason counts.
    fn dangle(&mut self, space: SpaceId, reason: &Reason) {
        if std::mem::replace(&mut self.dangled[space.index()], true) {
            return;
        }
        for (first, extents) in self.first[space.index()]
            .iter()
            .zip(&self.extents[space.index()])
        {
            self.dangling
                .extend((0..extents.len() as u32).map(|at| (first + at, reason.clone())));
        }
    }

    fn unite(&mut self, spaces: &Spaces) {
        for correspondence in &spaces.correspondences {
            if let Some(reason) = correspondence
                .spaces()
                .find_map(|space| spaces.get(space).broken.clone())
            {
                correspondence
                    .spaces()
                    .for_each(|space| self.dangle(space, &reason));
                continue;
            }
            match correspondence {
                Correspondence::Same {
                    a,
                    a_start,
                    b,
                    b_start,
                    length,
                } => {
                    let length = length.count().map(|length| length as u64);
                    for (at, piece) in spaces.get(*a).pieces.iter().enumerate() {
                        let inside = piece.start >= *a_start
                            && length.is_none_or(|length| piece.start < a_start + length);
                        if !inside {
                            continue;
                        }
                        let other = spaces.get(*b).pieces.at(piece.start - a_start + b_start);
                        let same = |other: &usize| {
                            same_places(piece.places(1), spaces.get(*b).pieces[*other].places(1))
                        };
                        match other.filter(same) {
                            Some(other) => self.unite_pieces((*a, at), &[((*b, other), 1)]),
                            None => [*a, *b]
                                .iter()
                                .for_each(|space| self.dangle(*space, &Reason::NoCommonFactors)),
                        }
                    }
                }
                Correspondence::Product {
                    axis,
                    start,
                    outer,
                    inner,
                } => {
                    let inside = spaces.get(*inner).extent.count().unwrap_or(1) as u64;
                    for (at, outer_piece, inner_piece) in
                        spaces.product_pieces(*axis, *start, *outer, *inner, inside)
                    {
                        let parts =
                            outer_piece
                                .zip(inner_piece)
                                .filter(|(outer_piece, inner_piece)| {
                                    let mut places =
                                        spaces.get(*outer).pieces[*outer_piece].places(inside);
                                    places
                                        .extend(spaces.get(*inner).pieces[*inner_piece].places(1));
                                    same_places(spaces.get(*axis).pieces[at].places(1), places)
                                });
                        match parts {
                            Some((outer_piece, inner_piece)) => {
                                let below = spaces.get(*inner).pieces[inner_piece]
                                    .size()
                                    .count()
                                    .unwrap_or(1)
                                    as u64;
                                self.unite_pieces(
                                    (*axis, at),
                                    &[((*outer, outer_piece), below), ((*inner, inner_piece), 1)],
                                );
                            }
                            None => [*axis, *outer, *inner]
                                .iter()
                                .for_each(|space| self.dangle(*space, &Reason::NoCommonFactors)),
                        }
                    }
                }
                Correspondence::Pick { .. } => {}
            }
        }
    }

    /// One piece against the pieces that its factors come from, outermost first, with what their strides are multiplied by.
    /// Factors that are the same on both sides are one; the others cannot be cut, for the other side does not see them.
    fn unite_pieces(&mut self, axis: (SpaceId, usize), parts: &[((SpaceId, usize), u64)]) {
        let flat = |builder: &Builder,
                    (space, piece): (SpaceId, usize),
                    scale: u64|
         -> Vec<(u32, u64, Dim)> {
            let first = builder.first[space.index()][piece];
            let (extents, strides) = (
                &builder.extents[space.index()][piece],
                &builder.strides[space.index()][piece],
            );
            extents
                .iter()
                .zip(strides)
                .enumerate()
                .map(|(at, (extent, stride))| (first + at as u32, stride * scale, extent.clone()))
                .collect()
        };
        let left = flat(self, axis, 1);
        let mut right: Vec<(u32, u64, Dim)> = parts
            .iter()
            .flat_map(|(part, scale)| flat(self, *part, *scale))
            .collect();
        for (factor, stride, extent) in left {
            match right
                .iter()
                .position(|other| other.1 == stride && !extent.differs(&other.2))
            {
                Some(at) => {
                    self.union.unite(factor, right.remove(at).0);
                }
                None => self.dangling.push((factor, Reason::NoCommonFactors)),
            }
        }
        self.dangling.extend(
            right
                .into_iter()
                .map(|(factor, ..)| (factor, Reason::NoCommonFactors)),
        );
    }

    fn finish(
        mut self,
        spaces: &Spaces,
        mut frozen: BTreeMap<u32, Cause>,
        lossy: BTreeMap<u32, Reason>,
        causes: &Causes,
        granularity: Granularity,
    ) -> Classes {
        for (factor, reason) in std::mem::take(&mut self.dangling) {
            let root = self.union.find(factor);
            frozen.entry(root).or_insert((reason, None));
        }
        let mut ids: BTreeMap<u32, ClassId> = BTreeMap::new();
        let mut classes: Vec<Class> = Vec::new();
        let mut levels: Vec<usize> = Vec::new();
        let mut places: Vec<Vec<(SpaceId, usize)>> = Vec::new();
        let mut factors: Vec<Vec<Vec<Factor>>> = Vec::with_capacity(self.first.len());
        for (space, _) in spaces.iter() {
            let mut of_space = Vec::new();
            for (piece, first) in self.first[space.index()].clone().into_iter().enumerate() {
                let count = self.extents[space.index()][piece].len();
                let mut of_piece = Vec::with_capacity(count);
                for at in 0..count {
                    let root = self.union.find(first + at as u32);
                    let extent = self.extents[space.index()][piece][at]
                        .count()
                        .and_then(|extent| u32::try_from(extent).ok());
                    let class = *ids.entry(root).or_insert_with(|| {
                        classes.push(Class {
                            extent: extent.unwrap_or(0),
                            free: false,
                            frozen: frozen.get(&root).map(|(reason, _)| reason.clone()),
                            held_by: frozen.get(&root).and_then(|(_, node)| *node),
                            lossy: lossy.get(&root).cloned(),
                        });
                        levels.push(0);
                        places.push(Vec::new());
                        ClassId(classes.len() as u32 - 1)
                    });
                    let entry = &mut classes[class.index()];
                    if extent.is_none_or(|extent| extent != entry.extent) {
                        entry.frozen.get_or_insert(Reason::Dynamic);
                    }
                    // The same factor twice in one piece: the kept set would be a square, which no carrier describes.
                    if of_piece.iter().any(|factor: &Factor| factor.class == class) {
                        entry.frozen.get_or_insert(Reason::NoCommonFactors);
                    }
                    let level = match granularity {
                        Granularity::Coarse => at,
                        Granularity::Fine => count - 1 - at,
                    };
                    levels[class.index()] = levels[class.index()].max(level);
                    places[class.index()].push((space, piece));
                    of_piece.push(Factor {
                        class,
                        stride: self.strides[space.index()][piece][at],
                    });
                }
                of_space.push(of_piece);
            }
            factors.push(of_space);
        }
        for (class, (reason, node)) in causes {
            let class = &mut classes[class.index()];
            if class.frozen.is_none() {
                (class.frozen, class.held_by) = (Some(reason.clone()), *node);
            }
        }
        let mut order: Vec<usize> = (0..classes.len()).collect();
        order.sort_by_key(|class| (levels[*class], *class));
        let mut slices = 0u64;
        for class in order {
            if classes[class].frozen.is_some() {
                continue;
            }
            if slices + u64::from(classes[class].extent) > MOST_SLICES {
                classes[class].frozen =
                    Some(Reason::operator("more slices than can be told apart"));
                continue;
            }
            let taken = places[class].iter().any(|(space, piece)| {
                factors[space.index()][*piece]
                    .iter()
                    .any(|factor| classes[factor.class.index()].free)
            });
            if taken {
                classes[class].frozen = Some(Reason::operator(
                    "another factor of its axis is the one that is cut",
                ));
            } else {
                classes[class].free = true;
                slices += u64::from(classes[class].extent);
            }
        }
        Classes { classes, factors }
    }
}

/// Collects the causes that freeze classes, or make them lossy.
struct Freezer<'a> {
    frozen: BTreeMap<u32, Cause>,
    lossy: BTreeMap<u32, Reason>,
    union: &'a mut UnionFind,
    first: &'a [Vec<u32>],
    extents: &'a [Vec<Vec<Dim>>],
}

impl Freezer<'_> {
    fn all(&mut self, space: SpaceId) -> Vec<u32> {
        let (firsts, extents) = (&self.first[space.index()], &self.extents[space.index()]);
        let factors: Vec<u32> = firsts
            .iter()
            .zip(extents)
            .flat_map(|(first, extents)| (0..extents.len() as u32).map(move |at| first + at))
            .collect();
        factors
            .into_iter()
            .map(|factor| self.union.find(factor))
            .collect()
    }

    fn freeze(&mut self, space: SpaceId, reason: &Reason, node: Option<NodeId>) {
        for root in self.all(space) {
            self.frozen
                .entry(root)
                .or_insert_with(|| (reason.clone(), node));
        }
    }

    fn causes(
        &mut self,
        model: &Model,
        spaces: &Spaces,
        relations: &[Relation],
        allowed: &Allowed,
    ) {
        // What callers see stays, whatever else holds it.
        let main = model.index().graph(Index::MAIN);
        for (values, reason) in [
            (&main.inputs, Reason::GraphInput),
            (&main.outputs, Reason::GraphOutput),
        ] {
            for value in values {
                self.freeze_value(
                    spaces,
                    *value,
                    (&reason, None),
                    allowed,
                    &model.index().value(*value).name,
                );
            }
        }
        for (node, _) in model.index().nodes() {
            let relation = &relations[node.index()];
            for (at, label) in relation.labels.iter().enumerate() {
                let space = spaces.label(node, crate::relation::LabelId(at as u32));
                match &label.fate {
                    Fate::Free => {}
                    Fate::Fixed(reason) => self.freeze(space, reason, Some(node)),
                    Fate::Lossy(reason) => {
                        for root in self.all(space) {
                            self.lossy.entry(root).or_insert_with(|| reason.clone());
                        }
                    }
                }
            }
            // A formal input or result that the rule says nothing of is a boundary it does not understand.
            for (branch, graph) in model.index().node(node).subgraphs.iter().enumerate() {
                let graph = model.index().graph(*graph);
                let formals = (0..graph.inputs.len())
                    .map(|at| crate::relation::Port::Formal(branch as u32, at as u32));
                let results = (0..graph.outputs.len())
                    .map(|at| crate::relation::Port::Result(branch as u32, at as u32));
                for port in formals
                    .chain(results)
                    .filter(|port| !relation.ports.contains_key(port))
                {
                    if let Some(value) = port_value(model, node, port) {
                        let reason = Reason::NotDescribed(port.to_string());
                        self.freeze_value(
                            spaces,
                            value,
                            (&reason, Some(node)),
                            &Allowed::new(),
                            "",
                        );
                    }
                }
            }
        }
        for (value, entry) in model.index().values() {
            if matches!(entry.origin, Origin::Sparse(_)) {
                let reason = Reason::operator("stored as a sparse tensor");
                self.freeze_value(spaces, value, (&reason, None), &Allowed::new(), "");
            }
        }
    }

    fn freeze_value(
        &mut self,
        spaces: &Spaces,
        value: ValueId,
        (reason, node): (&Reason, Option<NodeId>),
        allowed: &Allowed,
        name: &str,
    ) {
        for (axis, space) in spaces.axes(value).enumerate() {
            if !allowed.contains(&(name.to_owned(), axis)) {
                self.freeze(space, reason, node);
            }
        }
    }
}
