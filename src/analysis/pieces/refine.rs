//! The boundaries of a band of pieces, made on the pieces of a space.

use super::chain::{StrideChain, gcd};
use super::{Block, Interleave, MOST_PIECES, Pieces};
use crate::facts::Dim;
use crate::relation::Reason;

impl Pieces {
    /// Makes the boundaries of a band, repeated as it repeats.
    pub(in crate::analysis) fn refine_with(&mut self, band: &Interleave) -> Result<bool, Reason> {
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
        let offsets = joined_offsets(own, wanted, period);
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
        let pieces = self.0.iter().filter(|piece| piece.band == own.start);
        let of_band: Vec<Block> = pieces.cloned().collect();
        let Some(first) = self.0.iter().position(|piece| piece.band == own.start) else {
            return Ok(false);
        };
        let outer = repeats_of(own, &of_band, repeats, period)?;
        let ends = offsets.iter().skip(1).copied().chain([period]);
        let parts: Vec<Block> = offsets
            .iter()
            .zip(ends)
            .map(|(from, to)| Block {
                start: own.start + from,
                repeats: outer.clone(),
                period,
                run: run_of(own, &of_band, *from, to),
                band: own.start,
            })
            .collect();
        self.blocks().splice(first..first + of_band.len(), parts);
        Ok(true)
    }
}

/// Where runs begin within a period that is a whole number of the periods of both bands, ascending.
fn joined_offsets(own: &Interleave, wanted: &Interleave, period: u64) -> Vec<u64> {
    let repeated = |band: &Interleave| -> Vec<u64> {
        (0..period / band.period)
            .flat_map(|at| {
                band.offsets
                    .iter()
                    .map(move |offset| at * band.period + offset)
            })
            .collect()
    };
    let mut offsets = repeated(wanted);
    if own.repeats > 1 {
        offsets.extend(repeated(own));
    }
    offsets.sort_unstable();
    offsets.dedup();
    offsets
}

/// The periods of a band that is refined, divided as its pieces were.
fn repeats_of(
    own: &Interleave,
    of_band: &[Block],
    repeats: u64,
    period: u64,
) -> Result<StrideChain, Reason> {
    let mut outer = StrideChain::new(Dim::Num(repeats as i64));
    for cut in of_band.iter().flat_map(|piece| {
        if own.repeats == 1 {
            piece.run.cuts.clone()
        } else {
            let cuts = piece.repeats.cuts.iter();
            cuts.map(|cut| cut * own.period).collect()
        }
    }) {
        if cut > period && cut.is_multiple_of(period) {
            outer.cut(cut / period)?;
        }
    }
    Ok(outer)
}

/// One run of a band that is refined, divided as the run of the piece was that it is part of.
fn run_of(own: &Interleave, of_band: &[Block], from: u64, to: u64) -> StrideChain {
    let source = of_band
        .iter()
        .rev()
        .find(|piece| piece.start - own.start <= from % own.period);
    source.map_or_else(
        || StrideChain::new(Dim::Num((to - from) as i64)),
        |piece| piece.run.part(to - from),
    )
}
