//! Windows that slide over one or two axes.

/// What is around the data.
#[derive(Clone, Debug, PartialEq)]
pub enum WindowPadding {
    /// So many zeros at the start of each axis, then at the end of each.
    Given(Vec<usize>),
    /// As many as give ⌈extent / stride⌉ places; one more at the end (or at the start) where they are odd.
    Same {
        /// Whether the odd one is at the start.
        first: bool,
    },
}

/// How windows lie over data: two axes (one axis has a first one of extent 1).
#[derive(Clone, Copy, Debug)]
pub(super) struct WindowGrid {
    pub data: [usize; 2],
    pub kernel: [usize; 2],
    pub strides: [usize; 2],
    pub dilations: [usize; 2],
    /// Zeros before each axis.
    pub before: [usize; 2],
    /// Places.
    pub out: [usize; 2],
}

impl WindowGrid {
    /// Windows of these extents; `None` where they do not fit, or lie over more than two axes.
    pub fn new(
        data: &[usize],
        kernel: &[usize],
        strides: &[usize],
        dilations: &[usize],
        padding: &WindowPadding,
    ) -> Option<Self> {
        Self::rounded(data, kernel, strides, dilations, padding, false)
    }

    /// The same; with `up`, a last window may stand out at the end.
    pub fn rounded(
        data: &[usize],
        kernel: &[usize],
        strides: &[usize],
        dilations: &[usize],
        padding: &WindowPadding,
        up: bool,
    ) -> Option<Self> {
        let axes = data.len();
        if !(1..=2).contains(&axes) || kernel.len() != axes {
            return None;
        }
        let mut window = WindowGrid {
            data: [1; 2],
            kernel: [1; 2],
            strides: [1; 2],
            dilations: [1; 2],
            before: [0; 2],
            out: [1; 2],
        };
        for axis in 0..axes {
            let (at, data, kernel) = (axis + 2 - axes, data[axis], kernel[axis]);
            let stride = strides.get(axis).copied().unwrap_or(1).max(1);
            let dilation = dilations.get(axis).copied().unwrap_or(1).max(1);
            let reach = dilation * kernel.checked_sub(1)? + 1;
            let (before, after) = match padding {
                WindowPadding::Given(ends) => (
                    ends.get(axis).copied().unwrap_or(0),
                    ends.get(axes + axis).copied().unwrap_or(0),
                ),
                WindowPadding::Same { first } => {
                    let needed = (data.div_ceil(stride).saturating_sub(1) * stride + reach)
                        .saturating_sub(data);
                    let half = needed / 2;
                    if *first {
                        (needed - half, half)
                    } else {
                        (half, needed - half)
                    }
                }
            };
            let room = (data + before + after).checked_sub(reach)?;
            let mut out = room / stride + 1;
            if up && room % stride != 0 && out * stride < data + before {
                out += 1;
            }
            (window.data[at], window.kernel[at]) = (data, kernel);
            (window.strides[at], window.dilations[at]) = (stride, dilation);
            (window.before[at], window.out[at]) = (before, out);
        }
        Some(window)
    }

    /// Elements of a window.
    pub fn taps(&self) -> usize {
        self.kernel[0] * self.kernel[1]
    }

    /// Windows.
    pub fn places(&self) -> usize {
        self.out[0] * self.out[1]
    }

    /// Elements of a channel.
    pub fn extent(&self) -> usize {
        self.data[0] * self.data[1]
    }

    /// Whether each window is one element, and each element one window.
    pub fn is_plain(&self) -> bool {
        self.kernel == [1, 1]
            && self.strides == [1, 1]
            && self.before == [0, 0]
            && self.out == self.data
    }

    /// Places of an axis at which a tap reads data: from the first, up to the last.
    pub fn reached(&self, axis: usize, tap: usize) -> std::ops::Range<usize> {
        let (stride, shift) = (self.strides[axis], tap * self.dilations[axis]);
        let first = self.before[axis].saturating_sub(shift).div_ceil(stride);
        let end = (self.data[axis] + self.before[axis])
            .saturating_sub(shift)
            .div_ceil(stride);
        first.min(self.out[axis])..end.min(self.out[axis]).max(first.min(self.out[axis]))
    }

    /// Calls `visit` for each tap and each row of places that it reads: the first place's number in the row-major result, the
    /// number of places, and the element that the first reads (the next are one stride further).
    pub fn each_row(&self, mut visit: impl FnMut(usize, usize, usize, usize)) {
        for tap_0 in 0..self.kernel[0] {
            for tap_1 in 0..self.kernel[1] {
                let columns = self.reached(1, tap_1);
                if columns.is_empty() {
                    continue;
                }
                let first =
                    columns.start * self.strides[1] + tap_1 * self.dilations[1] - self.before[1];
                for row in self.reached(0, tap_0) {
                    let above = row * self.strides[0] + tap_0 * self.dilations[0] - self.before[0];
                    visit(
                        tap_0 * self.kernel[1] + tap_1,
                        row * self.out[1] + columns.start,
                        columns.len(),
                        above * self.data[1] + first,
                    );
                }
            }
        }
    }

    /// What the windows read of so many channels: (channels × taps) rows of places. The data themselves where windows are plain.
    pub fn patches<'a>(
        &self,
        data: &'a [f32],
        channels: usize,
        patches: &'a mut Vec<f32>,
    ) -> &'a [f32] {
        if self.is_plain() {
            return data;
        }
        let (taps, places) = (self.taps(), self.places());
        patches.clear();
        patches.resize(channels * taps * places, 0.0);
        for channel in 0..channels {
            let data = &data[channel * self.extent()..][..self.extent()];
            self.each_row(|tap, place, count, element| {
                let row = &mut patches[(channel * taps + tap) * places + place..][..count];
                if self.strides[1] == 1 {
                    row.copy_from_slice(&data[element..element + count]);
                } else {
                    let read = data[element..].iter().step_by(self.strides[1]);
                    row.iter_mut().zip(read).for_each(|(to, from)| *to = *from);
                }
            });
        }
        patches
    }

    /// The transpose of [`WindowGrid::patches`]: adds each entry to the element that it was read from.
    pub fn add_back(&self, patches: &[f32], channels: usize, data: &mut [f32]) {
        let (taps, places) = (self.taps(), self.places());
        for channel in 0..channels {
            let data = &mut data[channel * self.extent()..][..self.extent()];
            self.each_row(|tap, place, count, element| {
                let row = &patches[(channel * taps + tap) * places + place..][..count];
                let read = data[element..].iter_mut().step_by(self.strides[1]);
                read.zip(row).for_each(|(to, from)| *to += from);
            });
        }
    }
}
