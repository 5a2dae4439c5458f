//! Windows that slide over one or two axes.

use std::ops::Range;

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
    pub fn reached(&self, axis: usize, tap: usize) -> Range<usize> {
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
        patches.resize(channels * taps * places, 0.0);
        if places == 0 {
            return patches;
        }
        let planes = patches.chunks_exact_mut(taps * places);
        for (planes, data) in planes.zip(data.chunks_exact(self.extent())) {
            if self.is_shifting() {
                for (tap, plane) in planes.chunks_exact_mut(places).enumerate() {
                    self.read_shifted(tap, data, plane);
                }
                continue;
            }
            planes.fill(0.0);
            self.each_row(|tap, place, count, element| {
                let row = &mut planes[tap * places + place..][..count];
                let read = data[element..].iter().step_by(self.strides[1]);
                row.iter_mut().zip(read).for_each(|(to, from)| *to = *from);
            });
        }
        patches
    }

    /// The transpose of [`WindowGrid::patches`]: adds each entry to the element that it was read from. What no element was read
    /// for is set to zero on the way.
    pub fn add_back(&self, patches: &mut [f32], channels: usize, data: &mut [f32]) {
        let (taps, places) = (self.taps(), self.places());
        if places == 0 {
            return;
        }
        let planes = patches.chunks_exact_mut(taps * places).take(channels);
        for (planes, data) in planes.zip(data.chunks_exact_mut(self.extent())) {
            if self.is_shifting() {
                for (tap, plane) in planes.chunks_exact_mut(places).enumerate() {
                    self.add_shifted(tap, plane, data);
                }
                continue;
            }
            self.each_row(|tap, place, count, element| {
                let row = &planes[tap * places + place..][..count];
                let read = data[element..].iter_mut().step_by(self.strides[1]);
                read.zip(row).for_each(|(to, from)| *to += from);
            });
        }
    }

    /// Whether what a tap reads is the data, moved: rows are as long as those of the places, and no element is passed over.
    fn is_shifting(&self) -> bool {
        self.strides == [1, 1] && self.out[1] == self.data[1]
    }

    /// The places from the first to the last one at which a tap reads data, and the elements that lie under them, where windows
    /// shift. Between them are places at the ends of rows that read nothing: see [`WindowGrid::clear_ends`].
    fn shifted(&self, tap: usize) -> Option<(Range<usize>, Range<usize>)> {
        let taps = [tap / self.kernel[1], tap % self.kernel[1]];
        let [rows, columns] = [0, 1].map(|axis| self.reached(axis, taps[axis]));
        if rows.is_empty() || columns.is_empty() {
            return None;
        }
        let first = [rows.start, columns.start];
        let [above, left] =
            [0, 1].map(|axis| first[axis] + taps[axis] * self.dilations[axis] - self.before[axis]);
        let width = self.data[1];
        let places = rows.start * width + columns.start..(rows.end - 1) * width + columns.end;
        let element = above * width + left;
        let elements = element..element + places.len();
        Some((places, elements))
    }

    /// Sets the places to zero at which a tap reads nothing in rows where it reads something.
    fn clear_ends(&self, tap: usize, places: Range<usize>, plane: &mut [f32]) {
        let columns = self.reached(1, tap % self.kernel[1]);
        let width = self.data[1];
        let gap = width - columns.len();
        if gap == 0 {
            return;
        }
        // The gap behind a row goes on before the next one.
        let mut end = places.start + columns.len();
        while end + gap < places.end {
            plane[end..end + gap].fill(0.0);
            end += width;
        }
    }

    fn read_shifted(&self, tap: usize, data: &[f32], plane: &mut [f32]) {
        let Some((places, elements)) = self.shifted(tap) else {
            return plane.fill(0.0);
        };
        plane[..places.start].fill(0.0);
        plane[places.end..].fill(0.0);
        plane[places.clone()].copy_from_slice(&data[elements]);
        self.clear_ends(tap, places, plane);
    }

    fn add_shifted(&self, tap: usize, plane: &mut [f32], data: &mut [f32]) {
        let Some((places, elements)) = self.shifted(tap) else {
            return;
        };
        self.clear_ends(tap, places.clone(), plane);
        let pairs = data[elements].iter_mut().zip(&plane[places]);
        pairs.for_each(|(to, from)| *to += from);
    }
}
