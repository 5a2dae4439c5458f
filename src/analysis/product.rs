//! Divisions of an axis that runs over the combinations of two spaces, carried between it and both.

use super::pieces::Interleave;
use super::spaces::{SpaceId, Spaces};
use crate::relation::Reason;

/// The pieces that correspond in a product: of the axis, the outer and the inner factor.
pub(super) type Triple = (usize, Option<usize>, Option<usize>);

/// A stretch of an axis whose indices are the combinations of those of two spaces.
#[derive(Clone, Copy)]
pub(super) struct AxisProduct {
    pub axis: SpaceId,
    /// Where the stretch begins on the axis.
    pub start: u64,
    pub outer: SpaceId,
    pub inner: SpaceId,
    /// The extent of the inner space.
    pub inside: u64,
}

impl Spaces {
    /// Carries divisions between a stretch of an axis and the two spaces that it is the product of.
    pub(super) fn propagate_product(
        &mut self,
        axis: SpaceId,
        start: u64,
        outer: SpaceId,
        inner: SpaceId,
        changed: &mut Vec<SpaceId>,
    ) {
        let inside = self.get(inner).extent.count().map(|extent| extent as u64);
        let Some(inside) = inside.filter(|inside| *inside > 0) else {
            // A factor of unknown extent that is not the outermost leaves no strides to reason with.
            self.break_all([axis, outer, inner], changed);
            return;
        };
        let product = AxisProduct {
            axis,
            start,
            outer,
            inner,
            inside,
        };
        match self.get(outer).extent.count().map(|extent| extent as u64) {
            Some(count) => {
                self.split(axis, start, changed);
                self.split(axis, start + count * inside, changed);
                for band in self.bands(axis, start, count * inside) {
                    self.divide_factors(&band, product, changed);
                }
                for band in self.bands(outer, 0, count) {
                    self.divide_axis(&band, product, changed);
                }
            }
            None if self.get(inner).pieces.len() > 1 || self.get(outer).pieces.len() > 1 => {
                self.break_all([axis, outer, inner], changed);
            }
            None => {}
        }
        for pieces in self.product_pieces(product) {
            if [axis, outer, inner]
                .iter()
                .any(|space| self.get(*space).broken.is_some())
            {
                return;
            }
            self.share_product_cuts(product, pieces, changed);
        }
    }

    /// Holds spaces whose divisions are known only at run time.
    fn break_all(&mut self, spaces: [SpaceId; 3], changed: &mut Vec<SpaceId>) {
        for space in spaces {
            self.break_space(space, Reason::Dynamic, changed);
        }
    }

    /// Gives a piece of the axis the divisions of the pieces whose combinations it is, and those its own.
    fn share_product_cuts(
        &mut self,
        product: AxisProduct,
        (at, outer_piece, inner_piece): Triple,
        changed: &mut Vec<SpaceId>,
    ) {
        let AxisProduct {
            axis, outer, inner, ..
        } = product;
        let (Some(outer_piece), Some(inner_piece)) = (outer_piece, inner_piece) else {
            return;
        };
        let cuts =
            |spaces: &Spaces, space: SpaceId, piece: usize| spaces.get(space).pieces[piece].cuts();
        let size = self.get(inner).pieces[inner_piece].size();
        let Some(below) = size.count().map(|size| size as u64) else {
            return;
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

    /// The boundaries of one band of a product, made on its factors.
    fn divide_factors(
        &mut self,
        band: &Interleave,
        product: AxisProduct,
        changed: &mut Vec<SpaceId>,
    ) {
        let AxisProduct {
            axis,
            start,
            outer,
            inner,
            inside,
        } = product;
        let (from, repeats, period) = (band.start, band.repeats, band.period);
        let (total, within) = (repeats * period, from % inside);
        if within + total <= inside && (repeats > 1 || within > 0 || total < inside) {
            let part = Interleave {
                start: within,
                ..band.clone()
            };
            self.refine_with(inner, &part, changed);
        } else if repeats == 1 {
            match within {
                0 => self.split(outer, from / inside, changed),
                _ => self.split(inner, within, changed),
            }
        } else if period.is_multiple_of(inside) && from.is_multiple_of(inside) {
            self.divide_by_periods(band, product, changed);
        } else if inside.is_multiple_of(period)
            && from.is_multiple_of(inside)
            && total.is_multiple_of(inside)
        {
            let periods = Interleave {
                start: 0,
                repeats: inside / period,
                period,
                offsets: band.offsets.clone(),
            };
            self.refine_with(inner, &periods, changed);
        } else {
            for repeat in 0..repeats {
                self.split(axis, start + from + repeat * period, changed);
            }
        }
    }

    /// The same where the band's periods are whole indices of the outer factor.
    fn divide_by_periods(
        &mut self,
        band: &Interleave,
        product: AxisProduct,
        changed: &mut Vec<SpaceId>,
    ) {
        let inside = product.inside;
        let places = band.offsets.iter().map(|offset| offset / inside);
        let mut places: Vec<u64> = places.collect();
        places.dedup();
        let periods = Interleave {
            start: band.start / inside,
            repeats: band.repeats,
            period: band.period / inside,
            offsets: places,
        };
        self.refine_with(product.outer, &periods, changed);
        for offset in band
            .offsets
            .iter()
            .filter(|offset| !offset.is_multiple_of(inside))
        {
            self.split(product.inner, offset % inside, changed);
        }
    }

    /// The boundaries of one band of the outer factor, and with them all of the inner one, made on the product.
    fn divide_axis(&mut self, band: &Interleave, product: AxisProduct, changed: &mut Vec<SpaceId>) {
        let AxisProduct {
            axis,
            start,
            inner,
            inside,
            ..
        } = product;
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
            _ => self.divide_alike(band, &within, product, changed),
        }
    }

    /// The boundaries of one band of the outer factor and those of the inner one, where neither is undivided.
    fn divide_alike(
        &mut self,
        band: &Interleave,
        within: &[Interleave],
        product: AxisProduct,
        changed: &mut Vec<SpaceId>,
    ) {
        let inside = product.inside;
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
            self.refine_with(product.outer, &singles, changed);
        }
        let offsets = singles
            .offsets
            .iter()
            .flat_map(|at| runs.iter().map(move |run| at * inside + run))
            .collect();
        self.refine_with(
            product.axis,
            &Interleave {
                start: product.start + band.start * inside,
                repeats,
                period: period * inside,
                offsets,
            },
            changed,
        );
    }

    /// How the pieces of a product's axis lie: for each the outer and the inner piece whose combinations it is, where such
    /// begin.
    pub(super) fn product_pieces(&self, product: AxisProduct) -> Vec<Triple> {
        let AxisProduct {
            axis,
            start,
            outer,
            inner,
            inside,
        } = product;
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
}
