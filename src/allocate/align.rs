//! Widths that runtimes like.

use crate::analysis::{Group, Kind};

/// Kept widths are multiples of a number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Align {
    /// 8 in groups of 64 units and more, 4 from 32 units and for channels of depthwise convolutions, else 1: convolution
    /// kernels work on blocks of channels, and depthwise ones fall to a slow path where a block is not full.
    #[default]
    ByWidth,
    /// This number everywhere.
    Multiple(u32),
}

/// What widths a group may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Width {
    /// Kept widths are multiples of this.
    pub align: u32,
    /// Narrower only where nothing else is left to cut: a layer of a few channels is a bottleneck that curves of single
    /// groups do not see.
    pub least: usize,
}

/// Share of a group that [`Width::least`] holds.
const LEAST: f64 = 0.1;

impl Align {
    /// What widths a group may have.
    pub fn width(self, group: &Group) -> Width {
        let align = self.of(group);
        let least = ((group.units.len() as f64 * LEAST).ceil() as usize).max(1).next_multiple_of(align as usize);
        Width { align, least }
    }

    /// The number that holds for a group.
    pub fn of(self, group: &Group) -> u32 {
        match self {
            Align::Multiple(number) => number.max(1),
            Align::ByWidth if group.kind == Kind::Heads || group.kind == Kind::HeadDims => 1,
            Align::ByWidth => match group.units.len() {
                64.. => 8,
                32.. => 4,
                8.. if group.depthwise => 4,
                _ => 1,
            },
        }
    }
}
