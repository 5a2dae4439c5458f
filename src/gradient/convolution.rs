//! Convolutions over one or two axes.

use faer::Accum;
use rayon::prelude::*;

use super::array::Array;
use super::depthwise;
use super::function::{Function, Misfit, Operands, Point, operand, wants};
use super::product::{Matrix, multiply};
use super::window::{Padding, Window};

/// Parts of a batch that have sums of their own, which are then added in order: the same on any number of cores.
const PARTS: usize = 8;

/// A convolution. Operands: x (batch × channels × extents), weight (outputs × channels of a group × extents), bias.
#[derive(Clone, Debug)]
pub struct Convolution {
    /// Groups of channels.
    pub groups: usize,
    /// From one window to the next.
    pub strides: Vec<usize>,
    /// From one element of a window to the next.
    pub dilations: Vec<usize>,
    /// What is around the data.
    pub padding: Padding,
}

/// The extents of one convolution.
#[derive(Clone, Copy, Debug)]
pub(super) struct Extents {
    pub batch: usize,
    /// Channels of the data, and of the result.
    pub channels: [usize; 2],
    pub groups: usize,
    pub window: Window,
}

impl Extents {
    /// Channels of a group: of the data, and of the result.
    fn per_group(&self) -> [usize; 2] {
        self.channels.map(|channels| channels / self.groups)
    }

    /// Elements of one sample: of the data, and of the result.
    pub fn sample(&self) -> [usize; 2] {
        let Window { data, out, .. } = self.window;
        [
            self.channels[0] * data[0] * data[1],
            self.channels[1] * out[0] * out[1],
        ]
    }

    fn is_depthwise(&self) -> bool {
        self.groups > 1 && self.per_group() == [1, 1]
    }
}

impl Convolution {
    fn extents(&self, inputs: &Operands) -> Result<(Extents, Vec<usize>), Misfit> {
        let (x, weight) = (operand(inputs, 0)?, operand(inputs, 1)?);
        let refusal = || {
            Misfit(format!(
                "no convolution of {:?} with {:?}",
                x.dims, weight.dims
            ))
        };
        let ([batch, channels, data @ ..], [out_channels, per_group, kernel @ ..]) =
            (&x.dims[..], &weight.dims[..])
        else {
            return Err(refusal());
        };
        let fits = self.groups > 0
            && per_group * self.groups == *channels
            && out_channels % self.groups == 0;
        let window = Window::new(data, kernel, &self.strides, &self.dilations, &self.padding);
        let window = window.filter(|_| fits).ok_or_else(refusal)?;
        let extents = Extents {
            batch: *batch,
            channels: [*channels, *out_channels],
            groups: self.groups,
            window,
        };
        let mut dims = vec![*batch, *out_channels];
        dims.extend(&window.out[2 - data.len()..]);
        Ok((extents, dims))
    }
}

/// y = W · patches(x), one sample and one group after the other.
fn forward(e: &Extents, x: &[f32], weight: &[f32], y: &mut [f32], patches: &mut Vec<f32>) {
    let ([into, out], rows, columns) = (e.per_group(), e.window.taps(), e.window.places());
    for group in 0..e.groups {
        let data = &x[group * into * e.window.extent()..][..into * e.window.extent()];
        let read = e.window.patches(data, into, patches);
        let weight = Matrix::new(&weight[group * out * into * rows..], out, into * rows);
        let y = &mut y[group * out * columns..][..out * columns];
        multiply(
            y,
            weight,
            Matrix::new(read, into * rows, columns),
            Accum::Replace,
        );
    }
}

/// Adds to the gradients by the weight, and writes that by the data, of one sample.
fn backward(
    e: &Extents,
    [x, weight, gradient]: [&[f32]; 3],
    by_weight: Option<&mut [f32]>,
    by_data: Option<&mut [f32]>,
    patches: &mut Vec<f32>,
) {
    let ([into, out], rows, columns) = (e.per_group(), e.window.taps(), e.window.places());
    let of_group = |group: usize| Matrix::new(&gradient[group * out * columns..], out, columns);
    if let Some(by_weight) = by_weight {
        for group in 0..e.groups {
            let data = &x[group * into * e.window.extent()..][..into * e.window.extent()];
            let read = Matrix::new(e.window.patches(data, into, patches), into * rows, columns);
            let sum = &mut by_weight[group * out * into * rows..][..out * into * rows];
            multiply(sum, of_group(group), read.turned(), Accum::Add);
        }
    }
    if let Some(by_data) = by_data {
        for group in 0..e.groups {
            let weight =
                Matrix::new(&weight[group * out * into * rows..], out, into * rows).turned();
            let data = &mut by_data[group * into * e.window.extent()..][..into * e.window.extent()];
            if e.window.is_plain() {
                multiply(data, weight, of_group(group), Accum::Replace);
                continue;
            }
            patches.resize(into * rows * columns, 0.0);
            multiply(patches, weight, of_group(group), Accum::Replace);
            data.fill(0.0);
            e.window.add_back(patches, into, data);
        }
    }
}

impl Function for Convolution {
    fn value(&self, inputs: &Operands) -> Result<Array, Misfit> {
        let (e, dims) = self.extents(inputs)?;
        let (x, weight) = (operand(inputs, 0)?, operand(inputs, 1)?);
        let bias = inputs.get(2).copied().flatten();
        let mut out = Array::zeros(&dims);
        let [size_x, size_y] = e.sample();
        if size_x * size_y == 0 {
            return Ok(out);
        }
        let places = e.window.places();
        let samples = out
            .data
            .par_chunks_mut(size_y)
            .zip(x.data.par_chunks(size_x));
        samples.for_each_init(Vec::new, |patches, (y, x)| {
            match e.is_depthwise() {
                true => depthwise::forward(&e, x, &weight.data, y),
                false => forward(&e, x, &weight.data, y, patches),
            }
            let biases = bias.iter().flat_map(|bias| &bias.data);
            for (y, bias) in y.chunks_mut(places).zip(biases) {
                y.iter_mut().for_each(|y| *y += bias);
            }
        });
        Ok(out)
    }

    fn work(&self, inputs: &Operands, output: &Array) -> usize {
        let weight = inputs.get(1).copied().flatten();
        let per_output = weight.map_or(0, |weight| weight.dims[1..].iter().product());
        output.data.len() * per_output
    }

    fn pull_back(&self, point: &Point, wanted: &[bool]) -> Vec<Option<Array>> {
        let Ok((e, _)) = self.extents(point.inputs) else {
            return Vec::new();
        };
        let (Some(x), Some(weight)) = (point.input(0), point.input(1)) else {
            return Vec::new();
        };
        let [size_x, size_y] = e.sample();
        let mut by_data = wants(wanted, 0).then(|| Array::zeros(&x.dims));
        let needs_weight = wants(wanted, 1);
        let by_bias = point.input(2).filter(|_| wants(wanted, 2)).map(|bias| {
            let mut sum = Array::zeros(&bias.dims);
            for sample in point.gradient.data.chunks(size_y.max(1)) {
                let channels = sample.chunks(e.window.places().max(1));
                for (sum, channel) in sum.data.iter_mut().zip(channels) {
                    *sum += channel.iter().sum::<f32>();
                }
            }
            sum
        });
        if size_x * size_y == 0 || e.batch == 0 {
            return vec![
                by_data,
                needs_weight.then(|| Array::zeros(&weight.dims)),
                by_bias,
            ];
        }
        let per_part = e.batch.div_ceil(PARTS);
        let one = |part: usize, mut by_data: Option<&mut [f32]>| {
            let mut sum = needs_weight.then(|| Array::zeros(&weight.dims));
            let mut patches = Vec::new();
            for sample in part * per_part..((part + 1) * per_part).min(e.batch) {
                let (x, gradient) = (
                    &x.data[sample * size_x..][..size_x],
                    &point.gradient.data[sample * size_y..][..size_y],
                );
                let at = sample - part * per_part;
                let own = by_data
                    .as_mut()
                    .map(|data| &mut data[at * size_x..][..size_x]);
                let read = [x, &weight.data[..], gradient];
                let sum = sum.as_mut().map(|sum| &mut sum.data[..]);
                match e.is_depthwise() {
                    true => depthwise::backward(&e, read, sum, own),
                    false => backward(&e, read, sum, own, &mut patches),
                }
            }
            sum
        };
        let parts = e.batch.div_ceil(per_part);
        let sums: Vec<Option<Array>> = match &mut by_data {
            Some(by_data) => by_data
                .data
                .par_chunks_mut(per_part * size_x)
                .enumerate()
                .map(|(part, data)| one(part, Some(data)))
                .collect(),
            None => (0..parts)
                .into_par_iter()
                .map(|part| one(part, None))
                .collect(),
        };
        let by_weight = sums.into_iter().flatten().reduce(|mut sum, part| {
            sum.add(&part);
            sum
        });
        vec![by_data, by_weight, by_bias]
    }
}
