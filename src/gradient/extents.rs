//! The extents of one convolution.

use super::window::WindowGrid;

/// The extents of one convolution.
#[derive(Clone, Copy, Debug)]
pub(super) struct ConvolutionExtents {
    pub batch: usize,
    /// Channels of the data, and of the result.
    pub channels: [usize; 2],
    pub groups: usize,
    pub window: WindowGrid,
}

impl ConvolutionExtents {
    /// Channels of a group: of the data, and of the result.
    pub fn per_group(&self) -> [usize; 2] {
        self.channels.map(|channels| channels / self.groups)
    }

    /// Elements of one sample: of the data, and of the result.
    pub fn sample(&self) -> [usize; 2] {
        let WindowGrid { data, out, .. } = self.window;
        [
            self.channels[0] * data[0] * data[1],
            self.channels[1] * out[0] * out[1],
        ]
    }

    pub fn is_depthwise(&self) -> bool {
        self.groups > 1 && self.per_group() == [1, 1]
    }
}
