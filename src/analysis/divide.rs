//! Divisions of index spaces, carried along their correspondences to a fixpoint.

use std::collections::VecDeque;

use super::pieces::{Interleave, Pieces};
use super::spaces::{Correspondence, SpaceId, Spaces};
use crate::relation::Reason;

/// The pieces that correspond in a product: of the axis, the outer and the inner factor.
pub(super) type Triple = (usize, Option<usize>, Option<usize>);

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
            } => {
                // Most axes correspond as a whole, and are divided by nobody.
                let whole = a_start == b_start && self.get(*a).extent == *length;
                if whole && self.get(*a).pieces.is_same(&self.get(*b).pieces) {
                    return;
                }
                let Some(length) = length.count().map(|length| length as u64) else {
                    // Extents known only at run time: one piece each, whose divisions agree.
                    self.share_cuts(*a, 0, *b, 0, changed);
                    return;
                };
                for (space, start) in [(*a, *a_start), (*b, *b_start)] {
                    self.split(space, start, changed);
                    self.split(space, start + length, changed);
                }
                for (from, from_start, to, to_start) in
                    [(*a, *a_start, *b, *b_start), (*b, *b_start, *a, *a_start)]
                {
                    for band in self.bands(from, from_start, length) {
                        self.refine_with(
                            to,
                            &Interleave {
                                start: band.start + to_start,
                                ..band
                            },
                            changed,
                        );
                    }
                }
                let starts: Vec<u64> = self
                    .get(*a)
                    .pieces
                    .iter()
                    .map(|piece| piece.start)
                    .collect();
                for start in starts
                    .into_iter()
                    .filter(|start| (*a_start..a_start + length).contains(start))
                {
                    self.share_cuts(*a, start, *b, start - a_start + b_start, changed);
                }
            }
            Correspondence::Product {
                axis,
                start,
                outer,
                inner,
            } => self.propagate_product(*axis, *start, *outer, *inner, changed),
            Correspondence::Pick { .. } => {}
        }
    }

    /// The bands within a stretch, counted from its start.
    fn bands(&self, space: SpaceId, start: u64, length: u64) -> Vec<Interleave> {
        let bands = self.get(space).pieces.bands().into_iter();
        let inside = bands.filter(|band| band.start >= start && band.start < start + length);
        inside
            .map(|band| Interleave {
                start: band.start - start,
                ..band
            })
            .collect()
    }

    fn propagate_product(
        &mut self,
        axis: SpaceId,
        start: u64,
        outer: SpaceId,
        inner: SpaceId,
        changed: &mut Vec<SpaceId>,
    ) {
        let Some(inside) = self
            .get(inner)
            .extent
            .count()
            .map(|extent| extent as u64)
            .filter(|inside| *inside > 0)
        else {
            // A factor of unknown extent that is not the outermost leaves no strides to reason with.
            for space in [axis, outer, inner] {
                self.break_space(space, Reason::Dynamic, changed);
            }
            return;
        };
        match self.get(outer).extent.count().map(|extent| extent as u64) {
            Some(count) => {
                self.split(axis, start, changed);
                self.split(axis, start + count * inside, changed);
                for band in self.bands(axis, start, count * inside) {
                    self.divide_factors(&band, (axis, start), outer, (inner, inside), changed);
                }
                for band in self.bands(outer, 0, count) {
                    self.divide_axis(&band, (axis, start), outer, (inner, inside), changed);
                }
            }
            None if self.get(inner).pieces.len() > 1 || self.get(outer).pieces.len() > 1 => {
                for space in [axis, outer, inner] {
                    self.break_space(space, Reason::Dynamic, changed);
                }
            }
            None => {}
        }
        for (at, outer_piece, inner_piece) in self.product_pieces(axis, start, outer, inner, inside)
        {
            if [axis, outer, inner]
                .iter()
                .any(|space| self.get(*space).broken.is_some())
            {
                return;
            }
            let (Some(outer_piece), Some(inner_piece)) = (outer_piece, inner_piece) else {
                continue;
            };
            let cuts = |spaces: &Spaces, space: SpaceId, piece: usize| {
                spaces.get(space).pieces[piece].cuts()
            };
            let Some(below) = self.get(inner).pieces[inner_piece]
                .size()
                .count()
                .map(|size| size as u64)
            else {
                continue;
            };
            for cut in cuts(self, inner, inner_piece) {
                self.cut(axis, at, cut, changed);
            }
            self.cut(axis, at, below, changed);
            for cut in cuts(self, outer, outer_piece) {
                self.cut(axis, at, cut * below, changed);
            }
            for cut in cuts(self, axis, at) {
                if cut < below {
                    self.cut(inner, inner_piece, cut, changed);
                } else if cut.is_multiple_of(below) {
                    self.cut(outer, outer_piece, cut / below, changed);
                }
            }
        }
    }

    /// The boundaries of one band of a product, made on its factors.
    fn divide_factors(
        &mut self,
        band: &Interleave,
        (axis, start): (SpaceId, u64),
        outer: SpaceId,
        (inner, inside): (SpaceId, u64),
        changed: &mut Vec<SpaceId>,
    ) {
        let Interleave {
            start: from,
            repeats,
            period,
            offsets,
        } = band;
        let total = repeats * period;
        if from % inside + total <= inside && (*repeats > 1 || from % inside > 0 || total < inside)
        {
            self.refine_with(
                inner,
                &Interleave {
                    start: from % inside,
                    ..band.clone()
                },
                changed,
            );
        } else if *repeats == 1 {
            match from % inside {
                0 => self.split(outer, from / inside, changed),
                within => self.split(inner, within, changed),
            }
        } else if period.is_multiple_of(inside) && from.is_multiple_of(inside) {
            let mut places: Vec<u64> = offsets.iter().map(|offset| offset / inside).collect();
            places.dedup();
            self.refine_with(
                outer,
                &Interleave {
                    start: from / inside,
                    repeats: *repeats,
                    period: period / inside,
                    offsets: places,
                },
                changed,
            );
            for offset in offsets
                .iter()
                .filter(|offset| !offset.is_multiple_of(inside))
            {
                self.split(inner, offset % inside, changed);
            }
        } else if inside.is_multiple_of(*period)
            && from.is_multiple_of(inside)
            && total.is_multiple_of(inside)
        {
            self.refine_with(
                inner,
                &Interleave {
                    start: 0,
                    repeats: inside / period,
                    period: *period,
                    offsets: offsets.clone(),
                },
                changed,
            );
        } else {
            for repeat in 0..*repeats {
                self.split(axis, start + from + repeat * period, changed);
            }
        }
    }

    /// The boundaries of one band of the outer factor, and with them all of the inner one, made on the product.
    fn divide_axis(
        &mut self,
        band: &Interleave,
        (axis, start): (SpaceId, u64),
        outer: SpaceId,
        (inner, inside): (SpaceId, u64),
        changed: &mut Vec<SpaceId>,
    ) {
        let first = start + band.start * inside;
        let scaled: Vec<u64> = band.offsets.iter().map(|offset| offset * inside).collect();
        let within = self.bands(inner, 0, inside);
        match &within[..] {
            [one] if one.repeats == 1 => self.refine_with(
                axis,
                &Interleave {
                    start: first,
                    repeats: band.repeats,
                    period: band.period * inside,
                    offsets: scaled,
                },
                changed,
            ),
            [one] if band.offsets.len() == 1 => {
                let repeats = band.repeats * band.period * one.repeats;
                self.refine_with(
                    axis,
                    &Interleave {
                        start: first,
                        repeats,
                        ..one.clone()
                    },
                    changed,
                );
            }
            _ if band.repeats * band.period == 1 => {
                for one in within {
                    self.refine_with(
                        axis,
                        &Interleave {
                            start: first + one.start,
                            ..one
                        },
                        changed,
                    );
                }
            }
            _ if within.iter().any(|one| one.repeats > 1) => {
                for one in within.iter().filter(|one| one.repeats > 1) {
                    (0..one.repeats).for_each(|repeat| {
                        self.split(inner, one.start + repeat * one.period, changed)
                    });
                }
            }
            _ => {
                let runs: Vec<u64> = within.iter().map(|one| one.start).collect();
                // One run of the outer factor repeats the inner ones; of several, each index is a period of its own.
                let (repeats, period) = match band.offsets.len() {
                    1 => (band.repeats * band.period, 1),
                    _ => (band.repeats, band.period),
                };
                let singles = Interleave {
                    start: band.start,
                    repeats,
                    period,
                    offsets: (0..period).collect(),
                };
                if period > 1 {
                    self.refine_with(outer, &singles, changed);
                }
                let offsets = singles
                    .offsets
                    .iter()
                    .flat_map(|at| runs.iter().map(move |run| at * inside + run))
                    .collect();
                self.refine_with(
                    axis,
                    &Interleave {
                        start: first,
                        repeats,
                        period: period * inside,
                        offsets,
                    },
                    changed,
                );
            }
        }
    }

    /// How the pieces of a product's axis lie: for each the outer and the inner piece whose combinations it is, where such begin.
    pub(super) fn product_pieces(
        &self,
        axis: SpaceId,
        start: u64,
        outer: SpaceId,
        inner: SpaceId,
        inside: u64,
    ) -> Vec<Triple> {
        let Some(count) = self.get(outer).extent.count().map(|extent| extent as u64) else {
            return vec![(0, Some(0), Some(0))];
        };
        let pieces = self.get(axis).pieces.iter().enumerate();
        let inside_pieces = pieces
            .filter(|(_, piece)| piece.start >= start && piece.start < start + count * inside);
        inside_pieces
            .map(|(at, piece)| {
                let offset = piece.start - start;
                (
                    at,
                    self.get(outer).pieces.at(offset / inside),
                    self.get(inner).pieces.at(offset % inside),
                )
            })
            .collect()
    }

    fn share_cuts(
        &mut self,
        a: SpaceId,
        a_start: u64,
        b: SpaceId,
        b_start: u64,
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

    fn split(&mut self, id: SpaceId, at: u64, changed: &mut Vec<SpaceId>) {
        self.change(id, changed, |pieces| pieces.split(at));
    }

    fn refine_with(&mut self, id: SpaceId, band: &Interleave, changed: &mut Vec<SpaceId>) {
        self.change(id, changed, |pieces| pieces.refine_with(band));
    }

    fn cut(&mut self, id: SpaceId, piece: usize, stride: u64, changed: &mut Vec<SpaceId>) {
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

    fn break_space(&mut self, id: SpaceId, reason: Reason, changed: &mut Vec<SpaceId>) {
        let space = &mut self.spaces[id.index()];
        if space.broken.is_none() {
            space.broken = Some(Box::new(reason));
            changed.push(id);
        }
    }
}
