use super::{Interleave, Pieces};
use crate::facts::Dim;

/// Start, size and factors (stride, extent) of every piece.
/// Start, size, and strides with extents.
type Shown = Vec<(u64, i64, Vec<(u64, i64)>)>;

fn shown(pieces: &Pieces) -> Shown {
    let number = |dim: &Dim| dim.num().unwrap_or(0);
    let factors = |piece: &super::Block| {
        piece
            .factors()
            .iter()
            .map(|(stride, extent)| (*stride, number(extent)))
            .collect()
    };
    pieces
        .iter()
        .map(|piece| (piece.start, number(&piece.size()), factors(piece)))
        .collect()
}

fn band(start: u64, repeats: u64, period: u64, offsets: &[u64]) -> Interleave {
    Interleave {
        start,
        repeats,
        period,
        offsets: offsets.to_vec(),
    }
}

#[test]
fn halves_of_heads_take_turns() {
    let mut pieces = Pieces::new(&Dim::Num(24));
    assert_eq!(
        pieces.cut(0, 12),
        Ok(true),
        "two groups of three heads of four"
    );
    assert_eq!(pieces.refine_with(&band(0, 6, 4, &[0, 2])), Ok(true));
    assert_eq!(
        shown(&pieces),
        [
            (0, 12, vec![(6, 2), (2, 3), (1, 2)]),
            (2, 12, vec![(6, 2), (2, 3), (1, 2)])
        ]
    );
    assert_eq!(pieces[1].index(3), 7, "the second half of the second head");
    assert_eq!(
        (pieces.find(7), pieces.find(8)),
        (Some((1, 3)), Some((0, 4)))
    );
    assert_eq!(pieces.refine_with(&band(0, 6, 4, &[0, 2])), Ok(false));
}

#[test]
fn a_boundary_within_a_period_leaves_that_period_alone() {
    let mut pieces = Pieces::new(&Dim::Num(16));
    pieces.refine_with(&band(0, 4, 4, &[0, 1])).unwrap();
    assert_eq!(pieces.split(6), Ok(true));
    let starts: Vec<(u64, i64)> = shown(&pieces)
        .into_iter()
        .map(|(start, size, _)| (start, size))
        .collect();
    assert_eq!(
        starts,
        [(0, 1), (1, 3), (4, 1), (5, 1), (6, 2), (8, 2), (9, 6)]
    );
}

#[test]
fn periods_of_different_lengths_meet_in_their_common_multiple() {
    let mut pieces = Pieces::new(&Dim::Num(24));
    pieces.refine_with(&band(0, 6, 4, &[0, 1])).unwrap();
    assert_eq!(pieces.refine_with(&band(0, 4, 6, &[0, 3])), Ok(true));
    let starts: Vec<(u64, i64)> = shown(&pieces)
        .into_iter()
        .map(|(start, size, _)| (start, size))
        .collect();
    assert_eq!(
        starts,
        [
            (0, 2),
            (1, 4),
            (3, 2),
            (4, 2),
            (5, 2),
            (6, 4),
            (8, 2),
            (9, 6)
        ]
    );
}

#[test]
fn readers_that_disagree_leave_what_both_agree_on() {
    let mut pieces = Pieces::new(&Dim::Num(48));
    assert_eq!(pieces.cut(0, 24), Ok(true));
    assert_eq!(pieces.cut(0, 16), Ok(true));
    assert_eq!(shown(&pieces), [(0, 48, vec![(8, 6), (1, 8)])]);
    assert_eq!(
        (pieces.cut(0, 24), pieces.cut(0, 16)),
        (Ok(false), Ok(false)),
        "said again, it changes nothing"
    );
    assert_eq!(pieces.cut(0, 12), Ok(true));
    assert_eq!(shown(&pieces), [(0, 48, vec![(4, 12), (1, 4)])]);
}

#[test]
fn unknown_extents_are_divided_where_they_surely_can_be() {
    let length = Dim::product([&Dim::symbol("n"), &Dim::Num(8)]);
    let mut pieces = Pieces::new(&length);
    assert_eq!(pieces.cut(0, 4), Ok(true));
    assert!(pieces.cut(0, 3).is_err());
}
