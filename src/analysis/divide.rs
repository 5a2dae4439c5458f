//! Divisions of index spaces, carried along their correspondences to a fixpoint.

use std::collections::VecDeque;

use super::spaces::{Correspondence, Piece, Space, SpaceId, Spaces};
use crate::facts::Dim;
use crate::relation::Reason;

/// More pieces than this in one space are a sign of positions, not of channels.
const MOST_PIECES: usize = 256;

impl Spaces {
    /// Carries divisions along all correspondences until nothing changes.
    pub(super) fn settle(&mut self) {
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
