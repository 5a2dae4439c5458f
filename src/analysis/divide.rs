//! Divisions of index spaces, carried along their correspondences to a fixpoint.

use std::collections::VecDeque;

use super::pieces::{Interleave, Pieces};
use super::spaces::{Correspondence, SpaceId, Spaces};
use crate::facts::Dim;
use crate::relation::Reason;

impl Spaces {
    /// Carries divisions along all correspondences until nothing changes.
    pub(super) fn propagate_to_fixpoint(&mut self) {
        let correspondences = std::mem::take(&mut self.correspondences);
        let mut touching: Vec<Vec<u32>> = vec![Vec::new(); self.spaces.len()];
        for (at, correspondence) in correspondences.iter().enumerate() {
            correspondence
                .spaces()
                .for_each(|space| touching[space.index()].push(at as u32));
        }
        let mut queue: VecDeque<u32> = (0..correspondences.len() as u32).collect();
        let mut queued = vec![true; correspondences.len()];
        while let Some(at) = queue.pop_front() {
            queued[at as usize] = false;
            let mut changed = Vec::new();
            self.propagate(&correspondences[at as usize], &mut changed);
            for next in changed.iter().flat_map(|space| &touching[space.index()]) {
                if !std::mem::replace(&mut queued[*next as usize], true) {
                    queue.push_back(*next);
                }
            }
        }
        self.correspondences = correspondences;
    }

    fn propagate(&mut self, correspondence: &Correspondence, changed: &mut Vec<SpaceId>) {
        if correspondence
            .spaces()
            .any(|space| self.get(space).broken.is_some())
        {
            return;
        }
        match correspondence {
            Correspondence::Same {
                a,
                a_start,
                b,
                b_start,
                length,
            } => self.propagate_same((*a, *a_start), (*b, *b_start), length, changed),
            Correspondence::Product {
                axis,
                start,
                outer,
                inner,
            } => self.propagate_product(*axis, *start, *outer, *inner, changed),
            Correspondence::Pick { .. } => {}
        }
    }

    /// Carries divisions between two stretches of equal length, each a space and where the stretch begins there.
    fn propagate_same(
        &mut self,
        (a, a_start): (SpaceId, u64),
        (b, b_start): (SpaceId, u64),
        length: &Dim,
        changed: &mut Vec<SpaceId>,
    ) {
        // Most axes correspond as a whole, and are divided by nobody.
        let whole = a_start == b_start && self.get(a).extent == *length;
        if whole && self.get(a).pieces.is_same(&self.get(b).pieces) {
            return;
        }
        let Some(length) = length.count().map(|length| length as u64) else {
            // Extents known only at run time: one piece each, whose divisions agree.
            self.share_cuts((a, 0), (b, 0), changed);
            return;
        };
        for (space, start) in [(a, a_start), (b, b_start)] {
            self.split(space, start, changed);
            self.split(space, start + length, changed);
        }
        for (from, from_start, to, to_start) in [(a, a_start, b, b_start), (b, b_start, a, a_start)]
        {
            for band in self.bands(from, from_start, length) {
                let start = band.start + to_start;
                self.refine_with(to, &Interleave { start, ..band }, changed);
            }
        }
        let pieces = self.get(a).pieces.iter();
        let starts: Vec<u64> = pieces.map(|piece| piece.start).collect();
        for start in starts
            .into_iter()
            .filter(|start| (a_start..a_start + length).contains(start))
        {
            self.share_cuts((a, start), (b, start - a_start + b_start), changed);
        }
    }

    /// The bands within a stretch, counted from its start.
    pub(super) fn bands(&self, space: SpaceId, start: u64, length: u64) -> Vec<Interleave> {
        let bands = self.get(space).pieces.bands().into_iter();
        let inside = bands.filter(|band| band.start >= start && band.start < start + length);
        inside
            .map(|band| Interleave {
                start: band.start - start,
                ..band
            })
            .collect()
    }

    /// Gives two pieces, each named by its space and where it begins, the divisions of each other.
    fn share_cuts(
        &mut self,
        (a, a_start): (SpaceId, u64),
        (b, b_start): (SpaceId, u64),
        changed: &mut Vec<SpaceId>,
    ) {
        let (Some(a_piece), Some(b_piece)) = (
            self.get(a).pieces.at(a_start),
            self.get(b).pieces.at(b_start),
        ) else {
            return;
        };
        let (a_cuts, b_cuts) = (
            self.get(a).pieces[a_piece].cuts(),
            self.get(b).pieces[b_piece].cuts(),
        );
        if a_cuts == b_cuts {
            return;
        }
        a_cuts
            .into_iter()
            .for_each(|cut| self.cut(b, b_piece, cut, changed));
        b_cuts
            .into_iter()
            .for_each(|cut| self.cut(a, a_piece, cut, changed));
    }

    pub(super) fn split(&mut self, id: SpaceId, at: u64, changed: &mut Vec<SpaceId>) {
        self.change(id, changed, |pieces| pieces.split(at));
    }

    pub(super) fn refine_with(
        &mut self,
        id: SpaceId,
        band: &Interleave,
        changed: &mut Vec<SpaceId>,
    ) {
        self.change(id, changed, |pieces| pieces.refine_with(band));
    }

    pub(super) fn cut(
        &mut self,
        id: SpaceId,
        piece: usize,
        stride: u64,
        changed: &mut Vec<SpaceId>,
    ) {
        self.change(id, changed, |pieces| pieces.cut(piece, stride));
    }

    fn change(
        &mut self,
        id: SpaceId,
        changed: &mut Vec<SpaceId>,
        edit: impl FnOnce(&mut Pieces) -> Result<bool, Reason>,
    ) {
        let space = &mut self.spaces[id.index()];
        if space.broken.is_some() {
            return;
        }
        match edit(&mut space.pieces) {
            Ok(false) => {}
            Ok(true) => changed.push(id),
            Err(reason) => self.break_space(id, reason, changed),
        }
    }

    pub(super) fn break_space(&mut self, id: SpaceId, reason: Reason, changed: &mut Vec<SpaceId>) {
        let space = &mut self.spaces[id.index()];
        if space.broken.is_none() {
            space.broken = Some(Box::new(reason));
            changed.push(id);
        }
    }
}
