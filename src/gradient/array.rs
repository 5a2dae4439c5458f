//! Dense arrays of floats, and how their indices run.

use rayon::prelude::*;

/// How many elements one task goes through.
pub(super) const CHUNK: usize = 1 << 14;

/// A dense array in row-major order.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FloatArray {
    /// Extents; empty for a scalar.
    pub dims: Vec<usize>,
    /// The elements.
    pub data: Vec<f32>,
}

impl FloatArray {
    /// Makes an array; `data` has as many elements as `dims` say.
    pub fn new(dims: Vec<usize>, data: Vec<f32>) -> Self {
        debug_assert_eq!(dims.iter().product::<usize>(), data.len());
        FloatArray { dims, data }
    }

    /// One number everywhere.
    pub fn full(dims: &[usize], number: f32) -> Self {
        let len = dims.iter().product();
        FloatArray::new(dims.to_vec(), vec![number; len])
    }

    /// Nothing everywhere.
    pub fn zeros(dims: &[usize]) -> Self {
        FloatArray::full(dims, 0.0)
    }

    /// The elements as whole numbers, where they are read as extents, axes or indices.
    pub fn integers(&self) -> Vec<i64> {
        self.data.iter().map(|number| *number as i64).collect()
    }

    /// Each element by a function of it, on all cores.
    pub fn map(&self, function: impl Fn(f32) -> f32 + Sync) -> FloatArray {
        let mut data = vec![0.0; self.data.len()];
        data.par_chunks_mut(CHUNK)
            .zip(self.data.par_chunks(CHUNK))
            .for_each(|(to, from)| {
                for (to, from) in to.iter_mut().zip(from) {
                    *to = function(*from);
                }
            });
        FloatArray::new(self.dims.clone(), data)
    }

    /// Adds another array of the same extents.
    pub fn add(&mut self, other: &FloatArray) {
        self.data
            .par_chunks_mut(CHUNK)
            .zip(other.data.par_chunks(CHUNK))
            .for_each(|(to, from)| {
                for (to, from) in to.iter_mut().zip(from) {
                    *to += from;
                }
            });
    }

    /// The same elements under other extents.
    pub fn reshaped(mut self, dims: Vec<usize>) -> FloatArray {
        debug_assert_eq!(dims.iter().product::<usize>(), self.data.len());
        self.dims = dims;
        self
    }

    /// Extents before an axis, at it, and behind it, each as one number.
    pub fn around(&self, axis: usize) -> [usize; 3] {
        let before = self.dims[..axis].iter().product();
        let after = self.dims[axis + 1..].iter().product();
        [before, self.dims[axis], after]
    }
}

/// Row-major steps of an array with these extents.
pub(super) fn strides(dims: &[usize]) -> Vec<usize> {
    let mut steps = vec![1; dims.len()];
    for axis in (1..dims.len()).rev() {
        steps[axis - 1] = steps[axis] * dims[axis];
    }
    steps
}

/// Calls `visit` with the offset of each row of an array: an index along all axes but the last, each with a step of its own.
pub(super) fn rows<const N: usize>(
    dims: &[usize],
    steps: &[Vec<usize>; N],
    mut visit: impl FnMut([usize; N]),
) {
    let Some((_, outer)) = dims.split_last() else {
        return visit([0; N]);
    };
    if dims.contains(&0) {
        return;
    }
    let (mut index, mut at) = (vec![0; outer.len()], [0; N]);
    loop {
        visit(at);
        let Some(axis) = (0..outer.len())
            .rev()
            .find(|axis| index[*axis] + 1 < outer[*axis])
        else {
            return;
        };
        for (at, steps) in at.iter_mut().zip(steps) {
            *at += steps[axis];
            for later in axis + 1..outer.len() {
                *at -= index[later] * steps[later];
            }
        }
        index[axis] += 1;
        index[axis + 1..].fill(0);
    }
}

/// Sums that are kept side by side, for the processor to add at once.
const LANES: usize = 8;

/// Σ a · b.
pub(super) fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut sums = [0.0f32; LANES];
    let (whole, rest) = a.as_chunks::<LANES>();
    let (other, other_rest) = b.as_chunks::<LANES>();
    for (a, b) in whole.iter().zip(other) {
        for lane in 0..LANES {
            sums[lane] += a[lane] * b[lane];
        }
    }
    let tail: f32 = rest.iter().zip(other_rest).map(|(a, b)| a * b).sum();
    sums.iter().sum::<f32>() + tail
}

/// Σ a.
pub(super) fn sum(a: &[f32]) -> f32 {
    let mut sums = [0.0f32; LANES];
    let (whole, rest) = a.as_chunks::<LANES>();
    for a in whole {
        for lane in 0..LANES {
            sums[lane] += a[lane];
        }
    }
    sums.iter().sum::<f32>() + rest.iter().sum::<f32>()
}
