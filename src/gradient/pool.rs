//! The largest element of each window, and the mean.

use rayon::prelude::*;

use super::array::FloatArray;
use super::function::{Arguments, Evaluated, Function, Misfit, operand, wants};
use super::window::{WindowGrid, WindowPadding};

/// What a pool makes of a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pooled {
    /// Its largest element.
    Maximum,
    /// The mean of its elements within the data, or of all, those around the data being zero.
    Mean {
        /// Whether those around the data count.
        counts_padding: bool,
    },
}

/// Windows over the axes behind batch and channels.
#[derive(Clone, Debug)]
pub struct Pooling {
    /// What is made of a window.
    pub pooled: Pooled,
    /// Extents of a window.
    pub kernel: Vec<usize>,
    /// From one window to the next.
    pub strides: Vec<usize>,
    /// From one element of a window to the next.
    pub dilations: Vec<usize>,
    /// What is around the data.
    pub padding: WindowPadding,
    /// Whether a last window may stand out at the end.
    pub rounds_up: bool,
}

impl Pooling {
    fn window(&self, x: &FloatArray) -> Result<(WindowGrid, Vec<usize>), Misfit> {
        let data = x.dims.get(2..).unwrap_or(&[]);
        let window = WindowGrid::rounded(
            data,
            &self.kernel,
            &self.strides,
            &self.dilations,
            &self.padding,
            self.rounds_up,
        );
        let window = window
            .ok_or_else(|| Misfit(format!("no windows of {:?} over {:?}", self.kernel, x.dims)))?;
        let mut dims = x.dims[..2].to_vec();
        dims.extend(&window.out[2 - data.len()..]);
        Ok((window, dims))
    }

    /// For each place what a mean divides by.
    fn divisors(&self, window: &WindowGrid) -> Vec<f32> {
        let Pooled::Mean { counts_padding } = self.pooled else {
            return Vec::new();
        };
        if counts_padding && !self.rounds_up {
            return vec![window.taps() as f32; window.places()];
        }
        let mut counts = vec![0.0f32; window.places()];
        window.each_row(|_, place, count, _| {
            counts[place..place + count]
                .iter_mut()
                .for_each(|n| *n += 1.0)
        });
        counts
            .iter()
            .map(|count| {
                if counts_padding {
                    window.taps() as f32
                } else {
                    count.max(1.0)
                }
            })
            .collect()
    }
}

impl Function for Pooling {
    fn value(&self, inputs: &Arguments) -> Result<FloatArray, Misfit> {
        let x = operand(inputs, 0)?;
        let (window, dims) = self.window(x)?;
        let start = if self.pooled == Pooled::Maximum {
            f32::NEG_INFINITY
        } else {
            0.0
        };
        let mut out = FloatArray::full(&dims, start);
        let (divisors, step) = (self.divisors(&window), window.strides[1]);
        if window.extent() == 0 {
            return Ok(out);
        }
        let channels = out
            .data
            .par_chunks_mut(window.places())
            .zip(x.data.par_chunks(window.extent()));
        channels.for_each(|(y, x)| {
            window.each_row(|_, place, count, element| {
                let row = y[place..place + count]
                    .iter_mut()
                    .zip(x[element..].iter().step_by(step));
                match self.pooled {
                    Pooled::Maximum => row.for_each(|(y, x)| *y = y.max(*x)),
                    Pooled::Mean { .. } => row.for_each(|(y, x)| *y += x),
                }
            });
            y.iter_mut()
                .zip(&divisors)
                .for_each(|(y, divisor)| *y /= divisor);
        });
        Ok(out)
    }

    fn pull_back(&self, point: &Evaluated, wanted: &[bool]) -> Vec<Option<FloatArray>> {
        let back = || {
            let x = point.input(0)?;
            let (window, _) = self.window(x).ok()?;
            let (divisors, step) = (self.divisors(&window), window.strides[1]);
            let mut out = FloatArray::zeros(&x.dims);
            if window.extent() == 0 {
                return Some(out);
            }
            let places = window.places();
            let read = point
                .output
                .data
                .par_chunks(places)
                .zip(point.gradient.data.par_chunks(places));
            let channels = out
                .data
                .par_chunks_mut(window.extent())
                .zip(x.data.par_chunks(window.extent()));
            channels.zip(read).for_each(|((out, x), (y, gradient))| {
                // The first element that is the largest takes the gradient.
                let mut taken = vec![false; if divisors.is_empty() { places } else { 0 }];
                window.each_row(|_, place, count, element| {
                    for at in 0..count {
                        let (place, element) = (place + at, element + at * step);
                        if let Some(divisor) = divisors.get(place) {
                            out[element] += gradient[place] / divisor;
                        } else if !taken[place] && x[element] == y[place] {
                            taken[place] = true;
                            out[element] += gradient[place];
                        }
                    }
                });
            });
            Some(out)
        };
        vec![wants(wanted, 0).then(back).flatten()]
    }
}
