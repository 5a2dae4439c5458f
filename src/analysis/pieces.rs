//! Pieces of an index space: boxes of indices that readers treat alike, and the factors that they read them as.

mod block;
mod chain;
mod refine;

use std::sync::Arc;

use crate::facts::Dim;
use crate::relation::Reason;

pub use block::Block;
pub(super) use block::same_places;
pub use chain::StrideChain;

/// A stretch that several pieces fill in turns, or that one piece fills alone (then it repeats once).
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Interleave {
    pub start: u64,
    pub repeats: u64,
    pub period: u64,
    /// Where the runs begin within a period.
    pub offsets: Vec<u64>,
}

impl Interleave {
    pub fn end(&self) -> u64 {
        self.start + self.repeats * self.period
    }
}

/// The pieces of one space, in ascending order of their bands. Copies share them until one is divided.
#[derive(Clone, Debug, PartialEq)]
pub struct Pieces(Arc<Vec<Block>>);

/// More pieces than this in one space are a sign of positions, not of channels.
const MOST_PIECES: usize = 256;

impl std::ops::Deref for Pieces {
    type Target = [Block];

    fn deref(&self) -> &[Block] {
        &self.0
    }
}

impl Pieces {
    pub(super) fn new(extent: &Dim) -> Self {
        Pieces(Arc::new(vec![Block::whole(extent)]))
    }

    /// Whether the two are copies of one that neither has divided since.
    pub(super) fn is_same(&self, other: &Pieces) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    fn blocks(&mut self) -> &mut Vec<Block> {
        Arc::make_mut(&mut self.0)
    }

    /// The piece that begins at an index.
    pub(super) fn at(&self, start: u64) -> Option<usize> {
        // Pieces begin in ascending order.
        self.0
            .binary_search_by_key(&start, |piece| piece.start)
            .ok()
    }

    /// The piece that an index belongs to, and its place there.
    pub fn find(&self, index: u64) -> Option<(usize, u64)> {
        self.0
            .iter()
            .enumerate()
            .find_map(|(at, piece)| Some((at, piece.place(index)?)))
    }

    /// The bands, ascending.
    pub(super) fn bands(&self) -> Vec<Interleave> {
        let mut bands: Vec<Interleave> = Vec::new();
        for piece in self.0.iter() {
            match bands.last_mut().filter(|band| band.start == piece.band) {
                Some(band) => band.offsets.push(piece.start - piece.band),
                None => bands.push(Interleave {
                    start: piece.band,
                    repeats: piece.repeats.length(),
                    period: piece.period,
                    offsets: vec![piece.start - piece.band],
                }),
            }
        }
        bands
    }

    /// The pieces of the band that begins last before an index or at it.
    fn band_at(&self, at: u64) -> Option<std::ops::Range<usize>> {
        let end = self.0.partition_point(|piece| piece.band <= at);
        let band = self.0.get(end.checked_sub(1)?)?.band;
        Some(self.0.partition_point(|piece| piece.band < band)..end)
    }

    /// Divides a piece at a stride; what its band repeats is divided for all pieces of the band.
    pub(super) fn cut(&mut self, at: usize, stride: u64) -> Result<bool, Reason> {
        let Some(mut piece) = self.0.get(at).cloned() else {
            return Ok(false);
        };
        if !piece.cut(stride)? {
            return Ok(false);
        }
        let (band, repeats) = (piece.band, piece.repeats.clone());
        self.blocks()[at] = piece;
        if !repeats.extent.is_one() {
            self.blocks()
                .iter_mut()
                .filter(|other| other.band == band)
                .for_each(|other| other.repeats = repeats.clone());
        }
        Ok(true)
    }

    /// Makes a boundary at an index.
    pub(super) fn split(&mut self, at: u64) -> Result<bool, Reason> {
        // Most boundaries that are asked for are there already.
        let of_band = self
            .band_at(at)
            .and_then(|range| self.0.get(range))
            .unwrap_or_default();
        let Some(lead) = of_band.first() else {
            return Ok(false);
        };
        let band = Interleave {
            start: lead.band,
            repeats: lead.repeats.length(),
            period: lead.period,
            offsets: Vec::new(),
        };
        if at == band.start || at >= band.end() {
            return Ok(false);
        }
        let first = self.0.partition_point(|piece| piece.band < band.start);
        let (parts, count) = (divided(of_band, &band, at), of_band.len());
        self.blocks().splice(first..first + count, parts);
        if self.0.len() > MOST_PIECES {
            return Err(Reason::NoCommonFactors);
        }
        if band.repeats > 1 && !(at - band.start).is_multiple_of(band.period) {
            self.split(at)?;
        }
        Ok(true)
    }
}

/// The pieces of a band that is divided at an index; where that lies within a period, the period stands alone for now.
fn divided(of_band: &[Block], band: &Interleave, at: u64) -> Vec<Block> {
    let (count, offset) = (
        (at - band.start) / band.period,
        (at - band.start) % band.period,
    );
    let part = |from: u64, repeats: u64| {
        of_band
            .iter()
            .filter_map(move |piece| piece.periods(from, repeats))
    };
    if band.repeats > 1 && offset == 0 {
        let (left, right) = (part(0, count), part(count, band.repeats - count));
        left.chain(right).collect()
    } else if band.repeats > 1 {
        part(0, count)
            .chain(part(count, 1))
            .chain(part(count + 1, band.repeats - count - 1))
            .collect()
    } else if let [piece] = of_band {
        let (left, right) = (at - piece.start, piece.start + piece.run.length() - at);
        vec![
            Block::single(piece.start, piece.run.part(left)),
            Block::single(at, piece.run.part(right)),
        ]
    } else {
        Vec::new()
    }
}

#[cfg(test)]
mod tests;
