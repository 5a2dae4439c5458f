//! One piece of an index space: runs of indices, and the factors that they are read as.

use super::chain::StrideChain;
use crate::facts::Dim;
use crate::relation::Reason;

/// Runs of indices, equally far apart: `start + i·period + j` for i below `repeats` and j below the length of a run.
/// Its indices are counted in ascending order; strides are in that count.
#[derive(Clone, Debug, PartialEq)]
pub struct Block {
    /// The first index.
    pub start: u64,
    /// How many runs.
    pub(super) repeats: StrideChain,
    /// How far apart runs begin.
    pub(super) period: u64,
    /// One run.
    pub(super) run: StrideChain,
    /// Where the stretch begins that this piece and others fill in turns.
    pub(super) band: u64,
}

impl Block {
    /// One run from the start of a space.
    pub(in crate::analysis) fn whole(extent: &Dim) -> Self {
        Block::single(0, StrideChain::new(extent.clone()))
    }

    pub(in crate::analysis) fn single(start: u64, run: StrideChain) -> Self {
        Block {
            start,
            repeats: StrideChain::new(Dim::Num(1)),
            period: run.length(),
            run,
            band: start,
        }
    }

    /// How many indices it has.
    pub fn size(&self) -> Dim {
        Dim::product([&self.repeats.extent, &self.run.extent])
    }

    /// The index at a place in its count.
    pub fn index(&self, place: u64) -> u64 {
        let run = self.run.length().max(1);
        self.start + place / run * self.period + place % run
    }

    /// The place of an index in its count.
    pub fn place(&self, index: u64) -> Option<u64> {
        let (offset, period, run) = (
            index.checked_sub(self.start)?,
            self.period.max(1),
            self.run.length(),
        );
        let inside = offset / period < self.repeats.length() && offset % period < run;
        inside.then(|| offset / period * run + offset % period)
    }

    /// Strides at which it is divided.
    pub(in crate::analysis) fn cuts(&self) -> Vec<u64> {
        let run = self.run.length();
        let mut cuts = self.run.cuts.clone();
        if !self.repeats.extent.is_one() {
            cuts.extend((run > 1).then_some(run));
            cuts.extend(self.repeats.cuts.iter().map(|cut| cut * run));
        }
        cuts
    }

    /// Divides it at a stride.
    pub(in crate::analysis) fn cut(&mut self, stride: u64) -> Result<bool, Reason> {
        let run = self.run.length();
        if self.repeats.extent.is_one() || stride < run {
            self.run.cut(stride)
        } else if run > 0 && stride.is_multiple_of(run) {
            self.repeats.cut(stride / run)
        } else {
            Ok(false)
        }
    }

    /// Strides and extents of its factors, outermost first.
    pub(in crate::analysis) fn factors(&self) -> Vec<(u64, Dim)> {
        let size = self.size();
        let mut factors = Vec::new();
        let mut below = 1u64;
        for cut in self.cuts() {
            factors.push((below, Dim::Num((cut / below) as i64)));
            below = cut;
        }
        factors.push((
            below,
            size.exact_div(&Dim::Num(below as i64)).unwrap_or(size),
        ));
        factors.retain(|(_, extent)| !extent.is_one());
        factors.reverse();
        factors
    }

    /// So many of its runs, from one of them on; `None` where that is none.
    pub(super) fn periods(&self, from: u64, repeats: u64) -> Option<Block> {
        let start = self.start + from * self.period;
        match repeats {
            0 => None,
            1 => Some(Block::single(start, self.run.clone())),
            _ => Some(Block {
                start,
                band: self.band + from * self.period,
                repeats: self.repeats.part(repeats),
                ..self.clone()
            }),
        }
    }

    /// Which indices it has, as strides and extents of the space; `scale` is how far apart its indices lie in another.
    pub(in crate::analysis) fn places(&self, scale: u64) -> Vec<(u64, Dim)> {
        vec![
            (self.period * scale, self.repeats.extent.clone()),
            (scale, self.run.extent.clone()),
        ]
    }
}

/// Whether two descriptions by strides and extents, outermost first, are of the same indices.
pub(in crate::analysis) fn same_places(left: Vec<(u64, Dim)>, right: Vec<(u64, Dim)>) -> bool {
    let normal = |places: Vec<(u64, Dim)>| {
        let mut merged: Vec<(u64, Dim)> = Vec::new();
        for (stride, extent) in places.into_iter().filter(|(_, extent)| !extent.is_one()) {
            match merged.last_mut() {
                Some(last)
                    if extent
                        .count()
                        .is_some_and(|count| last.0 == stride * count as u64) =>
                {
                    *last = (stride, &last.1 * &extent);
                }
                _ => merged.push((stride, extent)),
            }
        }
        merged
    };
    let (left, right) = (normal(left), normal(right));
    left.len() == right.len()
        && left
            .iter()
            .zip(&right)
            .all(|(left, right)| left.0 == right.0 && !left.1.differs(&right.1))
}
