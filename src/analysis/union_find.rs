//! Disjoint sets; the root of a set is its smallest member, so that results do not depend on the order of unions.

/// Disjoint sets of the numbers below a count.
#[derive(Clone, Debug, Default)]
pub struct UnionFind {
    parents: Vec<u32>,
}

impl UnionFind {
    /// Every number a set of its own.
    pub fn new(count: usize) -> Self {
        UnionFind {
            parents: (0..count as u32).collect(),
        }
    }

    /// The smallest member of a number's set.
    pub fn find(&mut self, member: u32) -> u32 {
        let mut root = member;
        while self.parents[root as usize] != root {
            root = self.parents[root as usize];
        }
        let mut at = member;
        while self.parents[at as usize] != root {
            at = std::mem::replace(&mut self.parents[at as usize], root);
        }
        root
    }

    /// Makes one set of two.
    pub fn unite(&mut self, a: u32, b: u32) {
        let (a, b) = (self.find(a), self.find(b));
        let (low, high) = (a.min(b), a.max(b));
        self.parents[high as usize] = low;
    }
}
