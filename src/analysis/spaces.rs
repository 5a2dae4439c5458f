//! Index spaces (axes of values, labels of nodes) and where their readers divide them.
//!
//! A space is a sum of pieces (what Concat, Split and Slice see), each a product of factors (what Reshape and grouped
//! convolutions see). The marks travel along layouts until nothing changes, so that every space knows all divisions
//! that any reader of its indices makes; only then can one factor be cut without breaking another's reading.

use std::collections::VecDeque;

use super::infer::{Facts, view};
use crate::facts::Dim;
use crate::model::{Model, NodeId, ValueId};
use crate::relation::{LabelId, Port, Reason, Relation, Segment};

/// Number of a space.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SpaceId(pub u32);

impl SpaceId {
    /// For indexing a `Vec` by id.
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// More pieces than this in one space are a sign of positions, not of channels.
const MOST_PIECES: usize = 256;

/// A stretch of a space between two boundaries.
#[derive(Clone, Debug, PartialEq)]
pub struct Piece {
    /// Where it begins.
    pub start: u64,
    /// Its length.
    pub extent: Dim,
    /// Strides at which readers divide it, ascending, each dividing the next; strictly between 1 and the length.
    pub cuts: Vec<u64>,
}

/// One index space.
#[derive(Clone, Debug, PartialEq)]
pub struct Space {
    /// How many indices it has.
    pub extent: Dim,
    /// Its pieces in order.
    pub pieces: Vec<Piece>,
    /// Why its divisions could not be worked out; its indices then all stay.
    pub broken: Option<Reason>,
}

/// Two spaces, or stretches of them, whose indices correspond.
#[derive(Clone, Debug)]
pub enum Correspondence {
    /// `a[a_start + i]` is `b[b_start + i]`.
    Same { a: SpaceId, a_start: u64, b: SpaceId, b_start: u64, length: Dim },
    /// `axis[start + i·inner + j]` is the combination of `outer[i]` and `inner[j]`.
    Product { axis: SpaceId, start: u64, outer: SpaceId, inner: SpaceId },
    /// `axis[start + i]` is `label[indices[i]]`, in no simple order.
    Pick { axis: SpaceId, start: u64, label: SpaceId, indices: std::sync::Arc<[u32]> },
}

/// All spaces of a model and how they correspond.
#[derive(Clone, Debug, Default)]
pub struct Spaces {
    spaces: Vec<Space>,
    /// First axis of each value; `None` where its rank is unknown.
    axes: Vec<Option<u32>>,
    ranks: Vec<u32>,
    /// First label of each node.
    labels: Vec<u32>,
    /// How they correspond.
    pub correspondences: Vec<Correspondence>,
}

impl Spaces {
    /// Collects the spaces of a model and carries all divisions to a fixpoint.
    pub fn build(model: &Model, facts: &Facts, relations: &[Relation]) -> Self {
        let mut spaces = Spaces::default();
        for (value, _) in model.index().values() {
            let first = facts.of(value).shape.as_ref().map(|shape| {
                let first = spaces.spaces.len() as u32;
                shape.iter().for_each(|dim| spaces.add(dim));
                first
            });
            spaces.axes.push(first);
            spaces.ranks.push(facts.of(value).rank().unwrap_or(0) as u32);
        }
        for relation in relations {
            spaces.labels.push(spaces.spaces.len() as u32);
            relation.labels.iter().for_each(|label| spaces.add(&label.extent));
        }
        for (node, _) in model.index().nodes() {
            for (port, layout) in &relations[node.index()].ports {
                let Some(value) = port_value(model, node, *port) else { continue };
                for (axis, layout) in layout.axes.iter().enumerate() {
                    if let Some(axis) = spaces.axis(value, axis) {
                        spaces.connect(axis, node, &layout.0, &relations[node.index()]);
                    }
                }
            }
        }
        spaces.settle();
        spaces
    }

    /// The space of an axis; `None` where the value's rank is unknown.
    pub fn axis(&self, value: ValueId, axis: usize) -> Option<SpaceId> {
        self.axes[value.index()].map(|first| SpaceId(first + axis as u32))
    }

    /// The axes of a value; none where its rank is unknown.
    pub fn axes(&self, value: ValueId) -> impl Iterator<Item = SpaceId> + use<> {
        let first = self.axes[value.index()].unwrap_or(0);
        (first..first + self.ranks[value.index()]).map(SpaceId)
    }

    /// The space of a label.
    pub fn label(&self, node: NodeId, label: LabelId) -> SpaceId {
        SpaceId(self.labels[node.index()] + u32::from(label.0))
    }

    /// One space.
    pub fn get(&self, id: SpaceId) -> &Space {
        &self.spaces[id.index()]
    }

    /// All spaces.
    pub fn iter(&self) -> impl Iterator<Item = (SpaceId, &Space)> {
        self.spaces.iter().enumerate().map(|(id, space)| (SpaceId(id as u32), space))
    }

    fn add(&mut self, extent: &Dim) {
        let piece = Piece { start: 0, extent: extent.clone(), cuts: Vec::new() };
        self.spaces.push(Space { extent: extent.clone(), pieces: vec![piece], broken: None });
    }

    fn connect(&mut self, axis: SpaceId, node: NodeId, segments: &[Segment], relation: &Relation) {
        let symbolic = |segment: &Segment| segment.extent(&relation.labels).num().is_none();
        if segments.len() > 1 && (segments.iter().any(symbolic) || self.get(axis).extent.num().is_none()) {
            // Where a segment of unknown length begins or ends nothing can be said of the others' indices.
            self.spaces[axis.index()].broken = Some(Reason::Dynamic);
            for label in segments.iter().flat_map(Segment::labels) {
                let label = self.label(node, *label);
                self.spaces[label.index()].broken = Some(Reason::Dynamic);
                self.correspondences.push(Correspondence::Same { a: axis, a_start: 0, b: label, b_start: 0, length: Dim::Num(0) });
            }
            return;
        }
        let mut start = 0u64;
        for segment in segments {
            let length = segment.extent(&relation.labels);
            match segment {
                Segment::Product(labels) => {
                    let mut labels: Vec<SpaceId> = labels.iter().map(|label| self.label(node, *label)).collect();
                    // A factor of one says nothing, but a segment of one is a boundary.
                    if labels.len() > 1 || segments.len() == 1 {
                        labels.retain(|label| !self.get(*label).extent.is_one());
                    }
                    self.connect_product(axis, start, &labels, &length);
                }
                Segment::Pick(label, indices) => {
                    let label = self.label(node, *label);
                    let run = indices.windows(2).all(|pair| pair[1] == pair[0] + 1);
                    self.correspondences.push(match indices.first() {
                        Some(first) if run => {
                            Correspondence::Same { a: axis, a_start: start, b: label, b_start: u64::from(*first), length: length.clone() }
                        }
                        _ => Correspondence::Pick { axis, start, label, indices: indices.clone() },
                    });
                }
            }
            start += length.count().unwrap_or(0) as u64;
        }
    }

    fn connect_product(&mut self, axis: SpaceId, start: u64, labels: &[SpaceId], length: &Dim) {
        match labels {
            [] => {}
            [label] => {
                self.correspondences.push(Correspondence::Same { a: axis, a_start: start, b: *label, b_start: 0, length: length.clone() })
            }
            [outer, rest @ ..] => {
                let inner = match rest {
                    [inner] => *inner,
                    _ => {
                        // A space of its own for the product of the rest, so that products are of two.
                        let extent = Dim::product(rest.iter().map(|label| &self.spaces[label.index()].extent));
                        let id = SpaceId(self.spaces.len() as u32);
                        self.add(&extent);
                        self.connect_product(id, 0, rest, &extent);
                        id
                    }
                };
                self.correspondences.push(Correspondence::Product { axis, start, outer: *outer, inner });
            }
        }
    }

    /// Carries divisions along all correspondences until nothing changes.
    fn settle(&mut self) {
        let correspondences = std::mem::take(&mut self.correspondences);
        let mut touching: Vec<Vec<u32>> = vec![Vec::new(); self.spaces.len()];
        for (at, correspondence) in correspondences.iter().enumerate() {
            correspondence.spaces().for_each(|space| touching[space.index()].push(at as u32));
        }
        let mut queue: VecDeque<u32> = (0..correspondences.len() as u32).collect();
        let mut queued = vec![true; correspondences.len()];
        while let Some(at) = queue.pop_front() {
            queued[at as usize] = false;
            let mut changed = Vec::new();
            self.carry(&correspondences[at as usize], &mut changed);
            for next in changed.iter().flat_map(|space| &touching[space.index()]) {
                if !std::mem::replace(&mut queued[*next as usize], true) {
                    queue.push_back(*next);
                }
            }
        }
        self.correspondences = correspondences;
    }

    fn carry(&mut self, correspondence: &Correspondence, changed: &mut Vec<SpaceId>) {
        if correspondence.spaces().any(|space| self.get(space).broken.is_some()) {
            return;
        }
        match correspondence {
            Correspondence::Same { a, a_start, b, b_start, length } => {
                let Some(length) = length.count().map(|length| length as u64) else {
                    // Extents known only at run time: one piece each, whose divisions agree.
                    self.share_cuts(*a, 0, *b, 0, changed);
                    return;
                };
                for (space, start) in [(*a, *a_start), (*b, *b_start)] {
                    self.mark(space, start, changed);
                    self.mark(space, start + length, changed);
                }
                let inside = |space: &Space, start: u64| -> Vec<u64> {
                    space
                        .pieces
                        .iter()
                        .map(|piece| piece.start)
                        .filter(|at| *at > start && *at < start + length)
                        .map(|at| at - start)
                        .collect()
                };
                for at in inside(self.get(*a), *a_start) {
                    self.mark(*b, b_start + at, changed);
                }
                for at in inside(self.get(*b), *b_start) {
                    self.mark(*a, a_start + at, changed);
                }
                let starts: Vec<u64> = std::iter::once(0).chain(inside(self.get(*a), *a_start)).collect();
                for at in starts {
                    self.share_cuts(*a, a_start + at, *b, b_start + at, changed);
                }
            }
            Correspondence::Product { axis, start, outer, inner } => self.carry_product(*axis, *start, *outer, *inner, changed),
            Correspondence::Pick { .. } => {}
        }
    }

    fn carry_product(&mut self, axis: SpaceId, start: u64, outer: SpaceId, inner: SpaceId, changed: &mut Vec<SpaceId>) {
        let Some(inside) = self.get(inner).extent.count().map(|extent| extent as u64) else {
            // A factor of unknown extent that is not the outermost leaves no strides to reason with.
            for space in [axis, outer, inner] {
                self.break_space(space, Reason::Dynamic, changed);
            }
            return;
        };
        let repeats = self.get(outer).extent.count().map(|extent| extent as u64);
        if let Some(repeats) = repeats {
            let end = start + repeats * inside;
            self.mark(axis, start, changed);
            self.mark(axis, end, changed);
            let offsets: Vec<u64> =
                self.get(axis).pieces.iter().map(|piece| piece.start).filter(|at| *at > start && *at < end).map(|at| at - start).collect();
            for offset in offsets {
                if offset % inside == 0 {
                    self.mark(outer, offset / inside, changed);
                } else {
                    self.mark(inner, offset % inside, changed);
                }
            }
            let marks: Vec<u64> = self.get(inner).pieces.iter().skip(1).map(|piece| piece.start).collect();
            if !marks.is_empty() {
                if repeats * (marks.len() as u64 + 1) > MOST_PIECES as u64 {
                    for space in [axis, outer, inner] {
                        self.break_space(space, Reason::NoCommonFactors, changed);
                    }
                    return;
                }
                for repeat in 0..repeats {
                    self.mark(outer, repeat, changed);
                    self.mark(axis, start + repeat * inside, changed);
                    for mark in &marks {
                        self.mark(axis, start + repeat * inside + mark, changed);
                    }
                }
            }
            let marks: Vec<u64> = self.get(outer).pieces.iter().skip(1).map(|piece| piece.start).collect();
            for mark in marks {
                self.mark(axis, start + mark * inside, changed);
            }
        } else if self.get(inner).pieces.len() > 1 || self.get(outer).pieces.len() > 1 {
            for space in [axis, outer, inner] {
                self.break_space(space, Reason::Dynamic, changed);
            }
            return;
        }
        if [axis, outer, inner].iter().any(|space| self.get(*space).broken.is_some()) {
            return;
        }
        // Now every piece of the axis is (a piece of the outer) × (the whole inner), or one piece of the inner.
        for (axis_piece, outer_piece, inner_piece) in self.product_pieces(axis, start, outer, inner, inside) {
            let axis_cuts = self.spaces[axis.index()].pieces[axis_piece].cuts.clone();
            let inner_cuts = self.spaces[inner.index()].pieces[inner_piece].cuts.clone();
            let outer_cuts = match outer_piece {
                Some(piece) => self.spaces[outer.index()].pieces[piece].cuts.clone(),
                None => Vec::new(),
            };
            for cut in inner_cuts {
                self.cut(axis, axis_piece, cut, changed);
            }
            if outer_piece.is_some() {
                self.cut(axis, axis_piece, inside, changed);
            }
            for cut in outer_cuts {
                self.cut(axis, axis_piece, cut * inside, changed);
            }
            for cut in axis_cuts {
                match outer_piece {
                    Some(piece) if cut > inside && cut % inside == 0 => self.cut(outer, piece, cut / inside, changed),
                    Some(_) if cut == inside => {}
                    Some(_) if cut > inside => self.break_space(axis, Reason::NoCommonFactors, changed),
                    _ => self.cut(inner, inner_piece, cut, changed),
                }
            }
        }
    }

    /// How the pieces of a product's axis lie: (axis piece, outer piece if it spans several indices of it, inner piece).
    pub(super) fn product_pieces(
        &self,
        axis: SpaceId,
        start: u64,
        outer: SpaceId,
        inner: SpaceId,
        inside: u64,
    ) -> Vec<(usize, Option<usize>, usize)> {
        let mut found = Vec::new();
        let Some(repeats) = self.get(outer).extent.count().map(|extent| extent as u64) else {
            return vec![(0, Some(0), 0)];
        };
        for (at, piece) in self.get(axis).pieces.iter().enumerate() {
            let Some(length) = piece.extent.count().map(|length| length as u64) else { continue };
            if piece.start < start || piece.start + length > start + repeats * inside {
                continue;
            }
            let offset = piece.start - start;
            let inner_piece = self.get(inner).piece_at(offset % inside);
            let outer_piece = if length > inside { self.get(outer).piece_at(offset / inside) } else { None };
            if let Some(inner_piece) = inner_piece {
                found.push((at, outer_piece, inner_piece));
            }
        }
        found
    }

    fn share_cuts(&mut self, a: SpaceId, a_start: u64, b: SpaceId, b_start: u64, changed: &mut Vec<SpaceId>) {
        let (Some(a_piece), Some(b_piece)) = (self.get(a).piece_at(a_start), self.get(b).piece_at(b_start)) else { return };
        if self.spaces[a.index()].pieces[a_piece].cuts == self.spaces[b.index()].pieces[b_piece].cuts {
            return;
        }
        for cut in self.spaces[a.index()].pieces[a_piece].cuts.clone() {
            self.cut(b, b_piece, cut, changed);
        }
        if let Some(piece) = self.spaces[b.index()].pieces.get(b_piece) {
            for cut in piece.cuts.clone() {
                self.cut(a, a_piece, cut, changed);
            }
        }
    }

    /// Makes a boundary at an index.
    fn mark(&mut self, id: SpaceId, at: u64, changed: &mut Vec<SpaceId>) {
        let space = &mut self.spaces[id.index()];
        let total = space.extent.count().map_or(0, |extent| extent as u64);
        if at == 0 || at >= total || space.broken.is_some() || space.pieces.iter().any(|piece| piece.start == at) {
            return;
        }
        let Some(piece) = space.pieces.iter().rposition(|piece| piece.start < at) else { return };
        let old = space.pieces[piece].clone();
        let length = old.extent.count().unwrap_or(0) as u64;
        let (left, right) = (at - old.start, old.start + length - at);
        // A division that straddles the boundary cannot be kept.
        let fits = old.cuts.iter().all(|cut| left % cut == 0);
        if !fits || space.pieces.len() >= MOST_PIECES {
            self.break_space(id, Reason::NoCommonFactors, changed);
            return;
        }
        let part = |start: u64, length: u64| Piece {
            start,
            extent: Dim::Num(length as i64),
            cuts: old.cuts.iter().copied().filter(|cut| *cut < length).collect(),
        };
        space.pieces.splice(piece..=piece, [part(old.start, left), part(at, right)]);
        changed.push(id);
    }

    /// Divides a piece at a stride.
    fn cut(&mut self, id: SpaceId, piece: usize, stride: u64, changed: &mut Vec<SpaceId>) {
        let space = &mut self.spaces[id.index()];
        let Some(piece) = space.pieces.get_mut(piece).filter(|_| space.broken.is_none()) else { return };
        if stride <= 1 || piece.cuts.contains(&stride) || piece.extent == Dim::Num(stride as i64) {
            return;
        }
        let chain = piece.cuts.iter().all(|cut| stride.is_multiple_of(*cut) || cut.is_multiple_of(stride));
        let divides = match piece.extent.num() {
            Some(length) => length as u64 > stride && (length as u64).is_multiple_of(stride),
            None => piece.extent.exact_div(&Dim::Num(stride as i64)).is_some(),
        };
        if !chain || !divides {
            self.break_space(id, if divides { Reason::NoCommonFactors } else { Reason::Dynamic }, changed);
            return;
        }
        let at = piece.cuts.partition_point(|cut| *cut < stride);
        piece.cuts.insert(at, stride);
        changed.push(id);
    }

    fn break_space(&mut self, id: SpaceId, reason: Reason, changed: &mut Vec<SpaceId>) {
        let space = &mut self.spaces[id.index()];
        if space.broken.is_none() {
            space.broken = Some(reason);
            changed.push(id);
        }
    }
}

impl Space {
    /// The piece that begins at an index.
    pub(super) fn piece_at(&self, start: u64) -> Option<usize> {
        self.pieces.iter().position(|piece| piece.start == start)
    }
}

impl Correspondence {
    /// The spaces that take part.
    pub fn spaces(&self) -> impl Iterator<Item = SpaceId> {
        let (first, second, third) = match self {
            Correspondence::Same { a, b, .. } => (*a, *b, None),
            Correspondence::Product { axis, outer, inner, .. } => (*axis, *outer, Some(*inner)),
            Correspondence::Pick { axis, label, .. } => (*axis, *label, None),
        };
        [Some(first), Some(second), third].into_iter().flatten()
    }
}

/// The value behind a port of a node.
pub fn port_value(model: &Model, node: NodeId, port: Port) -> Option<ValueId> {
    let entry = model.index().node(node);
    match port {
        Port::In(at) => entry.inputs.get(at as usize).copied().flatten(),
        Port::Out(at) => entry.outputs.get(at as usize).copied().flatten(),
        Port::Formal(branch, at) => {
            entry.subgraphs.get(branch as usize).and_then(|graph| model.index().graph(*graph).inputs.get(at as usize).copied())
        }
        Port::Result(branch, at) => {
            entry.subgraphs.get(branch as usize).and_then(|graph| model.index().graph(*graph).outputs.get(at as usize).copied())
        }
    }
}

/// The relation of every node, by its rule.
pub fn relate(model: &Model, facts: &Facts) -> Vec<Relation> {
    let relate = |node: NodeId| {
        let view = view(model, facts, node, true);
        match crate::ops::lookup(view.node.domain(), view.node.op_type()) {
            None => view.frozen(Reason::NoRule(view.key())),
            Some(operator) => match facts.problems.get(&node) {
                Some(problem) => view.frozen(Reason::NotInferred(problem.clone())),
                None => operator.relate(&view),
            },
        }
    };
    model.index().nodes().map(|(node, _)| relate(node)).collect()
}
