//! The common refinement of two shapes of equally many elements: the factors that both are products of.

use std::collections::VecDeque;

use crate::facts::Dim;

/// One factor of a refinement.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct RefinedFactor {
    /// How many indices it has.
    pub extent: Dim,
    /// Whether both shapes have it; if not, it belongs to axes that divide each other in no common way.
    pub common: bool,
}

/// Two shapes as products of factors.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Refinement {
    /// All factors.
    pub factors: Vec<RefinedFactor>,
    /// For each axis of the first shape its factors, outermost first; none for an axis of 1.
    pub from: Vec<Vec<usize>>,
    /// Likewise for the second shape.
    pub to: Vec<Vec<usize>>,
}

/// Which end of the shapes is matched.
#[derive(Clone, Copy, PartialEq)]
enum End {
    Outer,
    Inner,
}

/// One shape while it is taken apart: what is left of it, and the factors found at either end of each axis.
struct Side {
    left: VecDeque<(usize, Dim)>,
    outer: Vec<Vec<usize>>,
    /// From the innermost outwards.
    inner: Vec<Vec<usize>>,
}

impl Side {
    fn new(shape: &[Dim]) -> Self {
        let left = shape
            .iter()
            .cloned()
            .enumerate()
            .filter(|(_, dim)| !dim.is_one())
            .collect();
        Side {
            left,
            outer: vec![Vec::new(); shape.len()],
            inner: vec![Vec::new(); shape.len()],
        }
    }

    fn end(&self, end: End) -> Option<&Dim> {
        match end {
            End::Outer => self.left.front(),
            End::Inner => self.left.back(),
        }
        .map(|(_, dim)| dim)
    }

    /// Takes a factor off one end; `rest` is what then remains of that axis.
    fn take(&mut self, end: End, factor: usize, rest: Option<Dim>) {
        let taken = match end {
            End::Outer => self.left.pop_front(),
            End::Inner => self.left.pop_back(),
        };
        let Some((axis, _)) = taken else { return };
        match end {
            End::Outer => self.outer[axis].push(factor),
            End::Inner => self.inner[axis].push(factor),
        }
        match (rest, end) {
            (None, _) => {}
            (Some(rest), End::Outer) => self.left.push_front((axis, rest)),
            (Some(rest), End::Inner) => self.left.push_back((axis, rest)),
        }
    }

    fn product(&self, count: usize) -> Dim {
        Dim::product(self.left.iter().take(count).map(|(_, dim)| dim))
    }

    fn finish(self) -> Vec<Vec<usize>> {
        self.outer
            .into_iter()
            .zip(self.inner)
            .map(|(outer, inner)| outer.into_iter().chain(inner.into_iter().rev()).collect())
            .collect()
    }
}

/// Refines two shapes of equally many elements. Works from the outermost axes inwards; a block of axes of equal
/// products that share no factors is left as it is, and where no such block can be told, from the innermost outwards.
pub(super) fn refine(from: &[Dim], to: &[Dim]) -> Refinement {
    let mut factors: Vec<RefinedFactor> = Vec::new();
    let (mut a, mut b) = (Side::new(from), Side::new(to));
    let empty = from.iter().chain(to).any(|dim| *dim == Dim::Num(0));
    loop {
        while !empty && step(&mut factors, &mut a, &mut b, End::Outer) {}
        match equal_block(&a, &b).filter(|_| !empty) {
            Some((count_a, count_b)) => {
                apart(&mut factors, &mut a, count_a);
                apart(&mut factors, &mut b, count_b);
            }
            None => break,
        }
    }
    while !empty && step(&mut factors, &mut a, &mut b, End::Inner) {}
    if let (false, [(_, left)], [(_, right)]) =
        (empty, a.left.make_contiguous(), b.left.make_contiguous())
    {
        // Equally many elements on both sides, and this is all that is left of either.
        if !left.differs(right) {
            let extent = if left.num().is_some() {
                left.clone()
            } else {
                right.clone()
            };
            factors.push(RefinedFactor {
                extent,
                common: true,
            });
            a.take(End::Outer, factors.len() - 1, None);
            b.take(End::Outer, factors.len() - 1, None);
        }
    }
    for side in [&mut a, &mut b] {
        let count = side.left.len();
        apart(&mut factors, side, count);
    }
    Refinement {
        factors,
        from: a.finish(),
        to: b.finish(),
    }
}

/// Matches one factor at one end, if one of the two axes there divides the other.
fn step(factors: &mut Vec<RefinedFactor>, a: &mut Side, b: &mut Side, end: End) -> bool {
    let (Some(left), Some(right)) = (a.end(end), b.end(end)) else {
        return false;
    };
    let (factor, rest_a, rest_b) = if left == right {
        (left.clone(), None, None)
    } else if let Some(rest) = left.exact_div(right) {
        (right.clone(), Some(rest), None)
    } else if let Some(rest) = right.exact_div(left) {
        (left.clone(), None, Some(rest))
    } else {
        return false;
    };
    factors.push(RefinedFactor {
        extent: factor,
        common: true,
    });
    a.take(end, factors.len() - 1, rest_a);
    b.take(end, factors.len() - 1, rest_b);
    true
}

/// The fewest outer axes of both sides that have equal products, if that is not all of them.
fn equal_block(a: &Side, b: &Side) -> Option<(usize, usize)> {
    let all = (a.left.len(), b.left.len());
    let products: Vec<Dim> = (1..=all.1).map(|count| b.product(count)).collect();
    let blocks = (1..=all.0).flat_map(|count_a| {
        let product = a.product(count_a);
        let equal: Vec<usize> = products
            .iter()
            .enumerate()
            .filter(|(_, other)| **other == product)
            .map(|(at, _)| at + 1)
            .collect();
        equal.into_iter().map(move |count_b| (count_a, count_b))
    });
    blocks
        .min_by_key(|(count_a, count_b)| count_a + count_b)
        .filter(|block| *block != all)
}

/// Makes what is left of the first `count` axes factors of their own.
fn apart(factors: &mut Vec<RefinedFactor>, side: &mut Side, count: usize) {
    for _ in 0..count {
        let Some(extent) = side.end(End::Outer).cloned() else {
            return;
        };
        factors.push(RefinedFactor {
            extent,
            common: false,
        });
        side.take(End::Outer, factors.len() - 1, None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dims(text: &str) -> Vec<Dim> {
        let factor = |part: &str| part.parse().map_or_else(|_| Dim::symbol(part), Dim::Num);
        text.split_whitespace()
            .map(|axis| Dim::product(&axis.split('*').map(factor).collect::<Vec<_>>()))
            .collect()
    }

    /// Factors that are not common are shown in brackets.
    fn show(from: &str, to: &str) -> String {
        let refinement = refine(&dims(from), &dims(to));
        let factor = |at: &usize| match &refinement.factors[*at] {
            RefinedFactor {
                extent,
                common: true,
            } => extent.to_string(),
            RefinedFactor {
                extent,
                common: false,
            } => format!("[{extent}]"),
        };
        let axes = |axes: &[Vec<usize>]| {
            axes.iter()
                .map(|axis| axis.iter().map(factor).collect::<Vec<_>>().join("·"))
                .collect::<Vec<_>>()
                .join(", ")
        };
        format!("{} → {}", axes(&refinement.from), axes(&refinement.to))
    }

    #[test]
    fn axes_split_and_merge() {
        assert_eq!(show("2 5 768", "2 5 12 64"), "2, 5, 12·64 → 2, 5, 12, 64");
        assert_eq!(show("2 3 4 5", "2 60"), "2, 3, 4, 5 → 2, 3·4·5");
        assert_eq!(show("6 4", "3 8"), "3·2, 4 → 3, 2·4");
        assert_eq!(show("1 6", "2 1 3"), ", 2·3 → 2, , 3");
    }

    #[test]
    fn symbols_are_matched_as_expressions() {
        assert_eq!(show("b s 768", "b*s 12 64"), "b, s, 12·64 → b·s, 12, 64");
        assert_eq!(show("b*s 768", "b s 768"), "b·s, 768 → b, s, 768");
        assert_eq!(show("n 12", "b 3 4"), "b, 3·4 → b, 3, 4");
        assert_eq!(show("n 12", "b s 3 4"), "[n], 3·4 → [b], [s], 3, 4");
    }

    #[test]
    fn blocks_without_common_factors_stay_alone() {
        assert_eq!(show("6 4", "8 3"), "[6], [4] → [8], [3]");
        assert_eq!(
            show("5 6 4 7", "5 8 3 7"),
            "5, [6], [4], 7 → 5, [8], [3], 7"
        );
        assert_eq!(show("6 4 10", "8 30"), "[6], [4], 10 → [8], [3]·10");
        assert_eq!(show("12 4", "2 8 3"), "2·[6], [4] → 2, [8], [3]");
        assert_eq!(show("0 4", "0 2"), "[0], [4] → [0], [2]");
    }
}
