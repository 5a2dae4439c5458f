//! Numbers of the factors of all spaces.

use std::ops::Range;

use super::spaces::SpaceId;

/// Numbers of all factors: space by space, piece by piece, outermost first.
#[derive(Clone, Debug, Default)]
pub(super) struct Numbering {
    /// The number of pieces before the end of each space.
    pieces: Vec<u32>,
    /// The number of factors before the end of each piece.
    pub(super) factors: Vec<u32>,
}

impl Numbering {
    pub(super) fn end_piece(&mut self, factors: usize) {
        self.factors.push(factors as u32);
    }

    pub(super) fn end_space(&mut self) {
        self.pieces.push(self.factors.len() as u32);
    }

    /// What stands before a place in a list of ends.
    fn before(ends: &[u32], at: usize) -> usize {
        at.checked_sub(1).map_or(0, |before| ends[before] as usize)
    }

    fn pieces(&self, space: SpaceId) -> Range<usize> {
        Self::before(&self.pieces, space.index())..self.pieces[space.index()] as usize
    }

    /// The factors of a space.
    pub(super) fn of_space(&self, space: SpaceId) -> Range<usize> {
        let pieces = self.pieces(space);
        Self::before(&self.factors, pieces.start)..Self::before(&self.factors, pieces.end)
    }

    /// The factors of a piece; none where the space has not so many pieces.
    pub(super) fn of_piece(&self, space: SpaceId, piece: usize) -> Range<usize> {
        let pieces = self.pieces(space);
        let at = (pieces.start + piece).min(pieces.end);
        let end = (at + 1).min(pieces.end);
        Self::before(&self.factors, at)..Self::before(&self.factors, end)
    }
}
