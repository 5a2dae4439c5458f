//! Pieces of an index space: boxes of indices that readers treat alike, and the factors that they read them as.

use std::sync::Arc;

use crate::facts::Dim;
use crate::relation::Reason;

/// A stretch, and the strides at which readers divide it.
#[derive(Clone, Debug, PartialEq)]
pub struct StrideChain {
    /// Its length.
    pub extent: Dim,
    /// Strides, ascending, each dividing the next; strictly between 1 and the length.
    cuts: Vec<u64>,
    /// Where two readers disagree above this stride, no division above it holds for both: the rest is one factor.
    limit: Option<u64>,
}

impl StrideChain {
    /// An undivided stretch.
    pub(super) fn new(extent: Dim) -> Self {
        StrideChain {
            extent,
            cuts: Vec::new(),
            limit: None,
        }
    }

    fn length(&self) -> u64 {
        self.extent.count().map_or(0, |count| count as u64)
    }

    /// A shorter stretch of the same; divisions that do not fit it are left to those who made them.
    fn part(&self, length: u64) -> Self {
        let cuts = self
            .cuts
            .iter()
            .copied()
            .filter(|cut| *cut < length && length.is_multiple_of(*cut))
            .collect();
        let limit = self
            .limit
            .map(|limit| gcd(limit, length))
            .filter(|limit| *limit < length);
        StrideChain {
            extent: Dim::Num(length as i64),
            cuts,
            limit,
        }
    }

    /// Divides the stretch at a stride, or at what of it all readers agree on. True when that changed something.
    fn cut(&mut self, stride: u64) -> Result<bool, Reason> {
        let mut fit = stride;
        match self.extent.num() {
            Some(length) => {
                fit = gcd(stride, length.unsigned_abs());
                if fit == length.unsigned_abs() {
                    return Ok(false);
                }
            }
            None if stride <= 1 => return Ok(false),
            None if self.extent.exact_div(&Dim::Num(stride as i64)).is_none() => {
                return Err(Reason::Dynamic);
            }
            None => {}
        }
        if let Some(limit) = self.limit {
            if fit.is_multiple_of(limit) {
                return Ok(false);
            }
            fit = gcd(fit, limit);
        }
        while let Some(other) = self
            .cuts
            .iter()
            .find(|cut| !fit.is_multiple_of(**cut) && !cut.is_multiple_of(fit))
        {
            fit = gcd(fit, *other);
        }
        let before = (self.cuts.len(), self.limit);
        if fit != stride {
            self.limit = Some(fit);
            self.cuts.retain(|cut| *cut <= fit);
        }
        if fit > 1 && !self.cuts.contains(&fit) {
            let at = self.cuts.partition_point(|cut| *cut < fit);
            self.cuts.insert(at, fit);
            return Ok(true);
        }
        Ok(before != (self.cuts.len(), self.limit))
    }
}

/// Runs of indices, equally far apart: `start + i·period + j` for i below `repeats` and j below the length of a run.
/// Its indices are counted in ascending order; strides are in that count.
#[derive(Clone, Debug, PartialEq)]
pub struct Block {
    /// The first index.
    pub start: u64,
    /// How many runs.
    repeats: StrideChain,
    /// How far apart runs begin.
    period: u64,
    /// One run.
    run: StrideChain,
    /// Where the stretch begins that this piece and others fill in turns.
    band: u64,
}

impl Block {
    /// One run from the start of a space.
    pub(super) fn whole(extent: &Dim) -> Self {
        Block::single(0, StrideChain::new(extent.clone()))
    }

    pub(super) fn single(start: u64, run: StrideChain) -> Self {
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
    pub(super) fn cuts(&self) -> Vec<u64> {
        let run = self.run.length();
        let mut cuts = self.run.cuts.clone();
        if !self.repeats.extent.is_one() {
            cuts.extend((run > 1).then_some(run));
            cuts.extend(self.repeats.cuts.iter().map(|cut| cut * run));
        }
        cuts
    }

    /// Divides it at a stride.
    pub(super) fn cut(&mut self, stride: u64) -> Result<bool, Reason> {
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
    pub(super) fn factors(&self) -> Vec<(u64, Dim)> {
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

    /// Which indices it has, as strides and extents of the space; `scale` is how far apart its indices lie in another.
    pub(super) fn places(&self, scale: u64) -> Vec<(u64, Dim)> {
        vec![
            (self.period * scale, self.repeats.extent.clone()),
            (scale, self.run.extent.clone()),
        ]
    }
}

/// Whether two descriptions by strides and extents, outermost first, are of the same indices.
pub(super) fn same_places(left: Vec<(u64, Dim)>, right: Vec<(u64, Dim)>) -> bool {
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
        let (of_band, first) = (
            of_band.to_vec(),
            self.0.partition_point(|piece| piece.band < band.start),
        );
        let (count, offset) = (
            (at - band.start) / band.period,
            (at - band.start) % band.period,
        );
        let mut parts = Vec::new();
        let mut part = |from: u64, repeats: u64| {
            for piece in &of_band {
                let start = piece.start + from * band.period;
                parts.push(match repeats {
                    0 => continue,
                    1 => Block::single(start, piece.run.clone()),
                    _ => Block {
                        start,
                        band: band.start + from * band.period,
                        repeats: piece.repeats.part(repeats),
                        ..piece.clone()
                    },
                });
            }
        };
        if band.repeats > 1 {
            part(0, count);
            if offset == 0 {
                part(count, band.repeats - count);
            } else {
                part(count, 1);
                part(count + 1, band.repeats - count - 1);
            }
        } else if let [piece] = &of_band[..] {
            let (left, right) = (at - piece.start, piece.start + piece.run.length() - at);
            parts.push(Block::single(piece.start, piece.run.part(left)));
            parts.push(Block::single(at, piece.run.part(right)));
        }
        self.blocks().splice(first..first + of_band.len(), parts);
        if self.0.len() > MOST_PIECES {
            return Err(Reason::NoCommonFactors);
        }
        if band.repeats > 1 && offset != 0 {
            self.split(at)?;
        }
        Ok(true)
    }

    /// Makes the boundaries of a band, repeated as it repeats.
    pub(super) fn refine_with(&mut self, band: &Interleave) -> Result<bool, Reason> {
        let mut changed = self.split(band.start)? | self.split(band.end())?;
        if band.repeats <= 1 {
            for offset in &band.offsets {
                changed |= self.split(band.start + offset)?;
            }
            return Ok(changed);
        }
        // Where the space is divided within a period already, the periods around stand alone.
        loop {
            let inside = self
                .bands()
                .into_iter()
                .map(|other| other.start)
                .filter(|at| *at > band.start && *at < band.end());
            let odd = inside.filter(|at| !(at - band.start).is_multiple_of(band.period));
            let ends = odd.flat_map(|at| {
                let floor = band.start + (at - band.start) / band.period * band.period;
                [floor, floor + band.period]
            });
            let mut more = false;
            for at in ends.collect::<Vec<_>>() {
                more |= self.split(at)?;
            }
            changed |= more;
            if !more {
                break;
            }
        }
        for own in self
            .bands()
            .into_iter()
            .filter(|own| own.start >= band.start && own.end() <= band.end())
        {
            let aligned = (own.start - band.start).is_multiple_of(band.period)
                && (own.end() - band.start).is_multiple_of(band.period);
            if aligned {
                changed |= self.refine(&own, band)?;
            } else {
                let floor = band.start + (own.start - band.start) / band.period * band.period;
                for offset in &band.offsets {
                    changed |= self.split(floor + offset)?;
                }
            }
        }
        Ok(changed)
    }

    /// Gives one band of the space the boundaries of `wanted` too, of whose periods it is a whole number.
    fn refine(&mut self, own: &Interleave, wanted: &Interleave) -> Result<bool, Reason> {
        let total = own.end() - own.start;
        let period = if own.repeats == 1 {
            wanted.period
        } else {
            own.period / gcd(own.period, wanted.period) * wanted.period
        };
        let mut offsets: Vec<u64> = (0..period / wanted.period)
            .flat_map(|at| {
                wanted
                    .offsets
                    .iter()
                    .map(move |offset| at * wanted.period + offset)
            })
            .collect();
        if own.repeats > 1 {
            offsets.extend((0..period / own.period).flat_map(|at| {
                own.offsets
                    .iter()
                    .map(move |offset| at * own.period + offset)
            }));
        }
        offsets.sort_unstable();
        offsets.dedup();
        let repeats = total / period;
        if repeats == 1 || (own.repeats == 1 && offsets.len() == 1) {
            let mut changed = false;
            for offset in offsets {
                changed |= self.split(own.start + offset)?;
            }
            return Ok(changed);
        }
        if own.repeats == repeats && own.offsets == offsets {
            return Ok(false);
        }
        if self.0.len() + offsets.len() > MOST_PIECES {
            return Err(Reason::NoCommonFactors);
        }
        let of_band: Vec<Block> = self
            .0
            .iter()
            .filter(|piece| piece.band == own.start)
            .cloned()
            .collect();
        let Some(first) = self.0.iter().position(|piece| piece.band == own.start) else {
            return Ok(false);
        };
        let mut outer = StrideChain::new(Dim::Num(repeats as i64));
        for cut in of_band.iter().flat_map(|piece| {
            if own.repeats == 1 {
                piece.run.cuts.clone()
            } else {
                piece
                    .repeats
                    .cuts
                    .iter()
                    .map(|cut| cut * own.period)
                    .collect()
            }
        }) {
            if cut > period && cut.is_multiple_of(period) {
                outer.cut(cut / period)?;
            }
        }
        let ends = offsets.iter().skip(1).copied().chain([period]);
        let parts: Vec<Block> = offsets
            .iter()
            .zip(ends)
            .map(|(from, to)| {
                let source = of_band
                    .iter()
                    .rev()
                    .find(|piece| piece.start - own.start <= from % own.period);
                let run = source.map_or_else(
                    || StrideChain::new(Dim::Num((to - from) as i64)),
                    |piece| piece.run.part(to - from),
                );
                Block {
                    start: own.start + from,
                    repeats: outer.clone(),
                    period,
                    run,
                    band: own.start,
                }
            })
            .collect();
        self.blocks().splice(first..first + of_band.len(), parts);
        Ok(true)
    }
}

pub(super) fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests;
