//! Widths that runtimes like.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::analysis::{Group, Kind};

/// Kept widths are multiples of a number.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Align {
    /// 8 in groups of 64 units and more, 4 from 32 units and for channels of depthwise convolutions, else 1: convolution
    /// kernels work on blocks of channels, and depthwise ones fall to a slow path where a block is not full.
    #[default]
    ByWidth,
    /// This number everywhere.
    Multiple(u32),
    /// What is cheapest where the model runs: to be measured.
    Auto,
    /// A number for each group, by its id; others as by their width.
    Measured(Arc<BTreeMap<String, u32>>),
}

/// Multiples among which [`cheapest`] chooses.
const MULTIPLES: [u32; 4] = [1, 4, 8, 16];
/// By what share of the time a coarser multiple may be dearer: times are not known better.
const SAME: f64 = 0.02;

/// The multiple that widths of a group should be of, from measured (width, time): a width wanted is rounded up to it, and
/// costs what it then takes beyond the cheapest width that is not narrower. The coarsest of those that cost least.
pub fn cheapest(times: &BTreeMap<usize, f64>) -> u32 {
    let Some((whole, _)) = times.last_key_value() else {
        return 1;
    };
    // At each width the least time for which that many units or more can be kept.
    let mut envelope: BTreeMap<usize, f64> = BTreeMap::new();
    let mut least = f64::INFINITY;
    for (width, time) in times.iter().rev() {
        least = least.min(*time);
        envelope.insert(*width, least);
    }
    let dearer = |multiple: u32| {
        let paid = |width: usize| {
            let rounded = width.next_multiple_of(multiple as usize).min(*whole);
            times
                .range(rounded..)
                .next()
                .map_or(f64::INFINITY, |(_, time)| *time)
        };
        let (paid, possible) = envelope
            .iter()
            .fold((0.0, 0.0), |(paid_sum, possible), (width, least)| {
                (paid_sum + paid(*width), possible + least)
            });
        if possible > 0.0 {
            paid / possible - 1.0
        } else {
            0.0
        }
    };
    let fitting = || {
        MULTIPLES
            .into_iter()
            .filter(|multiple| *multiple == 1 || (*multiple as usize) * 2 <= *whole)
    };
    let best = fitting().map(dearer).fold(f64::INFINITY, f64::min);
    fitting()
        .filter(|multiple| dearer(*multiple) <= best + SAME)
        .max()
        .unwrap_or(1)
}

/// What widths a group may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Width {
    /// Kept widths are multiples of this.
    pub align: u32,
    /// Narrower only where nothing else is left to cut: a layer of a few channels is a bottleneck that curves of single
    /// groups do not see.
    pub least: usize,
    /// Whether all units may go together.
    pub whole: bool,
    /// How many units must go, if any do, for the cut to pay (see [`super::least_cuts`]).
    pub first: usize,
}

/// Share of a group that [`Width::least`] holds.
const LEAST: f64 = 0.1;

impl Align {
    /// What widths a group may have.
    pub(crate) fn width(&self, group: &Group) -> Width {
        let align = self.of(group);
        let least = ((group.units.len() as f64 * LEAST).ceil() as usize)
            .max(group.least)
            .next_multiple_of(align as usize);
        Width {
            align,
            least,
            whole: false,
            first: 1,
        }
    }

    /// The number that holds for a group.
    pub(crate) fn of(&self, group: &Group) -> u32 {
        match self {
            Align::Multiple(number) => (*number).max(1),
            // A head is many columns wide already, and an expert a network.
            Align::ByWidth | Align::Auto | Align::Measured(_)
                if matches!(group.kind, Kind::Heads | Kind::HeadDims | Kind::Experts) =>
            {
                1
            }
            Align::Measured(numbers) => numbers
                .get(&group.id)
                .copied()
                .unwrap_or_else(|| Align::ByWidth.of(group)),
            Align::ByWidth | Align::Auto => match group.units.len() {
                64.. => 8,
                32.. => 4,
                8.. if group.depthwise => 4,
                _ => 1,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn times(time: impl Fn(usize) -> f64) -> BTreeMap<usize, f64> {
        (1..=64).map(|width| (width, time(width))).collect()
    }

    #[test]
    fn the_multiple_is_that_of_the_steps_measured() {
        // Blocks of 16, of 8: widths inside a block are paid for whole.
        assert_eq!(
            cheapest(&times(|width| width.next_multiple_of(16) as f64)),
            16
        );
        assert_eq!(
            cheapest(&times(|width| width.next_multiple_of(8) as f64)),
            8
        );
        // Smooth: every unit counts.
        assert_eq!(cheapest(&times(|width| width as f64)), 1);
        // A slow path outside of multiples of four.
        assert_eq!(
            cheapest(&times(
                |width| width as f64 * if width % 4 == 0 { 1.0 } else { 5.0 }
            )),
            4
        );
        // Multiples leave a choice of widths.
        assert_eq!(cheapest(&(1..=4).map(|width| (width, 1.0)).collect()), 1);
        assert_eq!(cheapest(&BTreeMap::new()), 1);
    }
}
