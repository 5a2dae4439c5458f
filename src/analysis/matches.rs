//! Which pieces of two spaces correspond.

use super::product::AxisProduct;
use super::spaces::{Correspondence, SpaceId, Spaces};

/// A piece of a space.
pub type PieceAt = (SpaceId, usize);

impl Spaces {
    /// The pairs of pieces that a correspondence ties, those of an axis first. Nothing is said of picks, nor of stretches that are
    /// divided in different ways, which analysis holds.
    pub fn matches(&self, correspondence: &Correspondence) -> Vec<(PieceAt, PieceAt)> {
        match correspondence {
            Correspondence::Same {
                a,
                a_start,
                b,
                b_start,
                length,
            } => {
                let end = length.count().map(|length| a_start + length as u64);
                let theirs = &self.get(*b).pieces;
                let pieces = self.get(*a).pieces.iter().enumerate();
                pieces
                    .filter(|(_, piece)| {
                        piece.start >= *a_start && end.is_none_or(|end| piece.start < end)
                    })
                    .filter_map(|(at, piece)| {
                        let other = theirs.at(piece.start - a_start + b_start)?;
                        Some(((*a, at), (*b, other)))
                    })
                    .collect()
            }
            Correspondence::Product {
                axis,
                start,
                outer,
                inner,
            } => {
                let inside = self.get(*inner).extent.count().unwrap_or(1).max(1) as u64;
                let product = AxisProduct {
                    axis: *axis,
                    start: *start,
                    outer: *outer,
                    inner: *inner,
                    inside,
                };
                let triples = self.product_pieces(product).into_iter();
                triples
                    .flat_map(|(at, outer_piece, inner_piece)| {
                        let outer = outer_piece.map(|piece| ((*axis, at), (*outer, piece)));
                        let inner = inner_piece.map(|piece| ((*axis, at), (*inner, piece)));
                        outer.into_iter().chain(inner)
                    })
                    .collect()
            }
            Correspondence::Pick { .. } => Vec::new(),
        }
    }
}
