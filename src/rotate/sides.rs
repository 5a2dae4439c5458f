//! Which places of an index space take a matrix, and which its inverse, transposed.

/// Sets of places with the side that each is on.
#[derive(Clone, Debug, Default)]
pub(super) struct BasisSides {
    parent: Vec<usize>,
    /// Whether a place is on the other side than its parent.
    other: Vec<bool>,
}

impl BasisSides {
    /// Adds a place, alone.
    pub fn add(&mut self) -> usize {
        self.parent.push(self.parent.len());
        self.other.push(false);
        self.parent.len() - 1
    }

    /// The set of a place, and whether it is on the other side than the set's first.
    pub fn find(&self, mut place: usize) -> (usize, bool) {
        let mut other = false;
        while self.parent[place] != place {
            other ^= self.other[place];
            place = self.parent[place];
        }
        (place, other)
    }

    /// Puts two places on one side, or on `opposite` ones; whether that is possible.
    pub fn unite(&mut self, one: usize, two: usize, opposite: bool) -> bool {
        let ((one, flipped), (two, turned)) = (self.find(one), self.find(two));
        if one == two {
            return (flipped ^ turned) == opposite;
        }
        let (first, second) = (one.min(two), one.max(two));
        self.parent[second] = first;
        self.other[second] = flipped ^ turned ^ opposite;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sides_follow_from_pairs_and_contradictions_show() {
        let mut sides = BasisSides::default();
        let [a, b, c] = [(); 3].map(|()| sides.add());
        assert!(sides.unite(a, b, true) && sides.unite(c, b, false));
        assert_eq!(
            [a, b, c].map(|place| sides.find(place)),
            [(a, false), (a, true), (a, true)]
        );
        assert!(sides.unite(a, c, true) && !sides.unite(a, c, false));
    }
}
