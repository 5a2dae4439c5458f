//! Which units go, so that the pruned model costs what was asked.
//!
//! Invariant: no weights, no runtimes; saliencies and costs come in as data.

mod align;
mod copies;
mod path;
mod ranking;
mod teams;

use std::fmt;

use crate::analysis::{Analysis, Selection};
use crate::cost::Cost;

pub use align::{Align, Width, cheapest};
pub use copies::least_cuts;
pub use path::Path;
pub use ranking::Ranking;

/// A cost to come down to, as a fraction of the original that remains.
///
/// ```
/// use onnx_prune::Target;
///
/// let target = Target::Macs(0.5);
/// assert_eq!((target.fraction(), target.to_string().as_str()), (0.5, "macs=0.5"));
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Target {
    /// Multiply-accumulates.
    Macs(f64),
    /// Parameters.
    Params(f64),
    /// Bytes of the file.
    Bytes(f64),
    /// Time of one run, by a table of measured operators.
    Latency(f64),
}

/// Targets are met to within this share of the original.
pub const TOLERANCE: f64 = 0.01;

/// Units by group that go (numbers ascending).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Choice {
    /// For each group the numbers of the units that go.
    pub removed: Vec<Vec<u32>>,
}

impl Choice {
    /// What stays and what goes, by class.
    pub(crate) fn selection(&self, analysis: &Analysis) -> Selection {
        let cut = self
            .removed
            .iter()
            .enumerate()
            .filter(|(_, units)| !units.is_empty());
        analysis.select(cut.map(|(group, units)| (group, units.as_slice())))
    }

    /// The choice that comes closest to targets out of reach, where its cost is near enough to them.
    fn near_enough(
        self,
        targets: &[Target],
        cost: &Cost,
        original: &Cost,
    ) -> Result<Self, Unreachable> {
        let reachable = |target: &Target| (*target, target.of(cost, original));
        let missed = targets
            .iter()
            .map(reachable)
            .filter(|(target, reachable)| *reachable > target.fraction() + TOLERANCE);
        let reachable: Vec<_> = missed.collect();
        if reachable.is_empty() {
            Ok(self)
        } else {
            Err(Unreachable {
                reachable,
                closest: self,
            })
        }
    }
}

/// The targets are out of reach.
#[derive(Clone, Debug)]
pub struct Unreachable {
    /// The targets that can not be met, with the smallest fraction that can.
    pub reachable: Vec<(Target, f64)>,
    /// The choice that comes closest.
    pub closest: Choice,
}

impl fmt::Display for Unreachable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, (target, reachable)) in self.reachable.iter().enumerate() {
            let separator = if at == 0 { "" } else { "; " };
            write!(
                f,
                "{separator}{target} is out of reach: the smallest possible is {:.3}",
                reachable
            )?;
        }
        Ok(())
    }
}

impl std::error::Error for Unreachable {}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, value) = match self {
            Target::Macs(value) => ("macs", value),
            Target::Params(value) => ("params", value),
            Target::Bytes(value) => ("bytes", value),
            Target::Latency(value) => ("latency", value),
        };
        write!(f, "{name}={value}")
    }
}

impl Target {
    /// The fraction asked for.
    pub fn fraction(self) -> f64 {
        match self {
            Target::Macs(fraction)
            | Target::Params(fraction)
            | Target::Bytes(fraction)
            | Target::Latency(fraction) => fraction,
        }
    }

    /// The same measure, another fraction.
    pub(crate) fn with_fraction(self, fraction: f64) -> Self {
        match self {
            Target::Macs(_) => Target::Macs(fraction),
            Target::Params(_) => Target::Params(fraction),
            Target::Bytes(_) => Target::Bytes(fraction),
            Target::Latency(_) => Target::Latency(fraction),
        }
    }

    /// The fraction that a cost is of the original, in this target's measure.
    pub fn of(self, cost: &Cost, original: &Cost) -> f64 {
        let (cost, original) = match self {
            Target::Macs(_) => (cost.macs, original.macs),
            Target::Params(_) => (cost.params, original.params),
            Target::Bytes(_) => (cost.bytes, original.bytes),
            Target::Latency(_) => (cost.time, original.time),
        };
        if original > 0.0 { cost / original } else { 1.0 }
    }
}

#[cfg(test)]
mod tests {
    use super::Target;

    #[test]
    fn another_fraction_is_of_the_same_measure() {
        assert_eq!(Target::Macs(0.5).with_fraction(0.25), Target::Macs(0.25));
    }
}
