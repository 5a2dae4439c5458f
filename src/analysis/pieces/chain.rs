//! A stretch of indices, and the strides at which readers divide it.

use crate::facts::Dim;
use crate::relation::Reason;

/// A stretch, and the strides at which readers divide it.
#[derive(Clone, Debug, PartialEq)]
pub struct StrideChain {
    /// Its length.
    pub extent: Dim,
    /// Strides, ascending, each dividing the next; strictly between 1 and the length.
    pub(super) cuts: Vec<u64>,
    /// Where two readers disagree above this stride, no division above it holds for both: the rest is one factor.
    limit: Option<u64>,
}

impl StrideChain {
    /// An undivided stretch.
    pub(in crate::analysis) fn new(extent: Dim) -> Self {
        StrideChain {
            extent,
            cuts: Vec::new(),
            limit: None,
        }
    }

    pub(super) fn length(&self) -> u64 {
        self.extent.count().map_or(0, |count| count as u64)
    }

    /// A shorter stretch of the same; divisions that do not fit it are left to those who made them.
    pub(super) fn part(&self, length: u64) -> Self {
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
    pub(super) fn cut(&mut self, stride: u64) -> Result<bool, Reason> {
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

pub(super) fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}
