//! The multiples that widths should be of, measured.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::LatencyModel;
use super::isolate::IsolatedNode;
use super::parts::{TimedPart, parts};
use crate::allocate::{Align, cheapest};
use crate::analysis::{Analysis, ClassId, Group, constants};
use crate::inputs::GatherError;
use crate::model::Model;
use crate::progress::{Phase, Work};

/// A node whose widths may shrink, and that node alone where it runs alone.
type Probe = (TimedPart, Option<IsolatedNode>);

impl LatencyModel<'_> {
    /// The multiples of widths that are cheapest here, for each of some groups. Errors: a stop asked for.
    pub fn align(
        &self,
        model: &Model,
        analysis: &Analysis,
        groups: &[usize],
        work: &Work,
    ) -> Result<Align, GatherError> {
        let (facts, constant) = (self.facts(model), constants(model));
        let probe = |part: TimedPart| {
            let alone = IsolatedNode::new(model, &facts, &constant, part.node, &part.labels);
            (part, alone)
        };
        let probes: Vec<Probe> = parts(model, analysis).into_iter().map(probe).collect();
        work.progress.begin(Phase::Latency, groups.len() as u64);
        let mut found = BTreeMap::new();
        for group in groups {
            if work.progress.stop() {
                return Err(GatherError::Cancelled);
            }
            let group = &analysis.groups[*group];
            let units = group.units.len();
            let widths = probe_widths(units).into_iter();
            let times: BTreeMap<usize, f64> = widths
                .map(|width| (width, self.time_at(&probes, group, width)))
                .collect();
            let number = cheapest(&times);
            tracing::debug!(group = group.id, number, ?times, "milliseconds by width");
            // Depthwise convolutions fall to slow paths outside of blocks in other runtimes, whatever this one does.
            let least = if group.depthwise {
                4.min(units as u32 / 2).max(1)
            } else {
                1
            };
            found.insert(group.id.clone(), number.max(least));
            work.progress.advance(1);
        }
        self.save();
        Ok(Align::Measured(Arc::new(found)))
    }

    /// Milliseconds of all nodes that a group touches, at one of its widths.
    fn time_at(&self, probes: &[Probe], group: &Group, width: usize) -> f64 {
        let units = group.units.len();
        let share = |class: ClassId| {
            if group.classes.contains(&class) {
                width as f64 / units as f64
            } else {
                1.0
            }
        };
        let mut total = 0.0;
        for (part, alone) in probes {
            let Some(alone) = alone else { continue };
            let shares: Vec<f64> = part.widths.iter().map(|extent| extent.at(&share)).collect();
            let whole = width < units && shares.iter().all(|share| *share == 1.0);
            if whole || !part.is_touched_by(group) {
                continue;
            }
            let full = alone.extents();
            let extents: Vec<usize> = full
                .iter()
                .zip(&shares)
                .map(|(full, share)| (*full as f64 * share).round() as usize)
                .collect();
            let Some((key, model, example)) = alone.at(&extents) else {
                continue;
            };
            total += self.measured.time(&key, &model, &example).unwrap_or(0.0);
        }
        total
    }
}

/// Widths on and off the blocks that kernels work in: a few blocks of sixteen, each from its first unit to its last.
fn probe_widths(units: usize) -> Vec<usize> {
    const BLOCK: usize = 16;
    const BLOCKS: usize = 4;
    let blocks = units.div_ceil(BLOCK);
    let stride = blocks.div_ceil(BLOCKS).max(1);
    let starts = (0..blocks).rev().step_by(stride).map(|block| block * BLOCK);
    let mut widths: Vec<usize> = starts
        .flat_map(|start| [1, 3, 4, 6, 8, 11, 12, 14, 16].map(|inside| start + inside))
        .collect();
    widths.retain(|width| *width <= units);
    widths.push(units);
    widths.sort_unstable();
    widths.dedup();
    widths
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn probed_widths_are_on_and_off_blocks() {
        assert_eq!(probe_widths(16), [1, 3, 4, 6, 8, 11, 12, 14, 16]);
        assert!(probe_widths(1000).len() < 40 && probe_widths(1000).contains(&1000));
        assert!(probe_widths(5).contains(&5));
    }
}
