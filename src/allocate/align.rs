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

impl Align {
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
