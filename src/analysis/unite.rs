//! Factors of spaces that correspond are made one.

use smallvec::SmallVec;

use super::numbering::Numbering;
use super::pieces::same_places;
use super::product::AxisProduct;
use super::spaces::{Correspondence, SpaceId, Spaces};
use super::union_find::UnionFind;
use crate::facts::Dim;
use crate::relation::Reason;

/// Factors before they are united: numbered space by space, piece by piece, outermost first.
#[derive(Default)]
pub(super) struct FactorUnion {
    pub(super) numbers: Numbering,
    /// By factor.
    pub(super) extents: Vec<Dim>,
    /// By factor, see [`Factor::stride`](super::classes::Factor::stride).
    pub(super) strides: Vec<u64>,
    pub(super) union: UnionFind,
    /// Factors tied to a space whose divisions are not known.
    pub(super) dangling: Vec<(u32, Reason)>,
    /// Spaces all of whose factors are among them.
    dangled: Vec<bool>,
}

impl FactorUnion {
    pub(super) fn new(spaces: &Spaces) -> Self {
        let mut builder = FactorUnion {
            dangled: vec![false; spaces.iter().count()],
            ..Default::default()
        };
        for (_, space) in spaces.iter() {
            for piece in space.pieces.iter() {
                for (stride, extent) in piece.factors() {
                    builder.strides.push(stride);
                    builder.extents.push(extent);
                }
                builder.numbers.end_piece(builder.extents.len());
            }
            builder.numbers.end_space();
        }
        builder.union = UnionFind::new(builder.extents.len());
        for (id, space) in spaces.iter() {
            if let Some(reason) = &space.broken {
                builder.dangle(id, reason);
            }
        }
        builder
    }

    /// Holds all factors of a space; the first reason counts.
    fn dangle(&mut self, space: SpaceId, reason: &Reason) {
        if std::mem::replace(&mut self.dangled[space.index()], true) {
            return;
        }
        let factors = self.numbers.of_space(space);
        self.dangling
            .extend(factors.map(|factor| (factor as u32, reason.clone())));
    }

    pub(super) fn unite(&mut self, spaces: &Spaces) {
        for correspondence in &spaces.correspondences {
            if let Some(reason) = correspondence
                .spaces()
                .find_map(|space| spaces.get(space).broken.clone())
            {
                correspondence
                    .spaces()
                    .for_each(|space| self.dangle(space, &reason));
                continue;
            }
            match correspondence {
                Correspondence::Same {
                    a,
                    a_start,
                    b,
                    b_start,
                    length,
                } => self.unite_same(spaces, (*a, *a_start), (*b, *b_start), length),
                Correspondence::Product {
                    axis,
                    start,
                    outer,
                    inner,
                } => self.unite_product(
                    spaces,
                    AxisProduct {
                        axis: *axis,
                        start: *start,
                        outer: *outer,
                        inner: *inner,
                        inside: spaces.get(*inner).extent.count().unwrap_or(1) as u64,
                    },
                ),
                Correspondence::Pick { .. } => {}
            }
        }
    }

    /// Unites the factors of two stretches of equal length, each a space and where the stretch begins there.
    fn unite_same(
        &mut self,
        spaces: &Spaces,
        (a, a_start): (SpaceId, u64),
        (b, b_start): (SpaceId, u64),
        length: &Dim,
    ) {
        let length = length.count().map(|length| length as u64);
        for (at, piece) in spaces.get(a).pieces.iter().enumerate() {
            let inside = piece.start >= a_start
                && length.is_none_or(|length| piece.start < a_start + length);
            if !inside {
                continue;
            }
            let theirs = &spaces.get(b).pieces;
            let other = theirs.at(piece.start - a_start + b_start);
            let same = |other: &usize| same_places(piece.places(1), theirs[*other].places(1));
            match other.filter(same) {
                Some(other) => self.unite_pieces((a, at), &[((b, other), 1)]),
                None => self.dangle_all(&[a, b]),
            }
        }
    }

    /// Unites the factors of a stretch of an axis with those of the two spaces that it is the product of.
    fn unite_product(&mut self, spaces: &Spaces, product: AxisProduct) {
        let AxisProduct {
            axis,
            outer,
            inner,
            inside,
            ..
        } = product;
        let pieces = |space: SpaceId| &spaces.get(space).pieces;
        for (at, outer_piece, inner_piece) in spaces.product_pieces(product) {
            let same = |(outer_piece, inner_piece): &(usize, usize)| {
                let mut places = pieces(outer)[*outer_piece].places(inside);
                places.extend(pieces(inner)[*inner_piece].places(1));
                same_places(pieces(axis)[at].places(1), places)
            };
            match outer_piece.zip(inner_piece).filter(same) {
                Some((outer_piece, inner_piece)) => {
                    let size = pieces(inner)[inner_piece].size();
                    let below = size.count().unwrap_or(1) as u64;
                    self.unite_pieces(
                        (axis, at),
                        &[((outer, outer_piece), below), ((inner, inner_piece), 1)],
                    );
                }
                None => self.dangle_all(&[axis, outer, inner]),
            }
        }
    }

    /// Holds all factors of spaces whose divisions do not fit each other.
    fn dangle_all(&mut self, spaces: &[SpaceId]) {
        spaces
            .iter()
            .for_each(|space| self.dangle(*space, &Reason::NoCommonFactors));
    }

    /// One piece against the pieces that its factors come from, outermost first, with what their strides are multiplied by.
    /// Factors that are the same on both sides are one; the others cannot be cut, for the other side does not see them.
    fn unite_pieces(&mut self, axis: (SpaceId, usize), parts: &[((SpaceId, usize), u64)]) {
        let flat = |builder: &FactorUnion,
                    (space, piece): (SpaceId, usize),
                    scale: u64|
         -> SmallVec<[(u32, u64, Dim); 2]> {
            let factors = builder.numbers.of_piece(space, piece);
            let described = |at: usize| {
                let extent = builder.extents[at].clone();
                (at as u32, builder.strides[at] * scale, extent)
            };
            factors.map(described).collect()
        };
        let left = flat(self, axis, 1);
        let mut right: SmallVec<[(u32, u64, Dim); 2]> = parts
            .iter()
            .flat_map(|(part, scale)| flat(self, *part, *scale))
            .collect();
        for (factor, stride, extent) in left {
            match right
                .iter()
                .position(|other| other.1 == stride && !extent.differs(&other.2))
            {
                Some(at) => {
                    self.union.unite(factor, right.remove(at).0);
                }
                None => self.dangling.push((factor, Reason::NoCommonFactors)),
            }
        }
        self.dangling.extend(
            right
                .into_iter()
                .map(|(factor, ..)| (factor, Reason::NoCommonFactors)),
        );
    }
}
