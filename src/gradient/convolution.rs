//! Convolutions over one or two axes.

use faer::Accum;
use rayon::prelude::*;

use super::array::{FloatArray, sum};
use super::depthwise;
use super::extents::ConvolutionExtents;
use super::function::{Arguments, Evaluated, Function, Misfit, operand, wants};
use super::product::{MatrixView, multiply};
use super::window::{WindowGrid, WindowPadding};

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
    pub padding: WindowPadding,
}

impl Convolution {
    fn extents(&self, inputs: &Arguments) -> Result<(ConvolutionExtents, Vec<usize>), Misfit> {
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
        let window = WindowGrid::new(data, kernel, &self.strides, &self.dilations, &self.padding);
        let window = window.filter(|_| fits).ok_or_else(refusal)?;
        let extents = ConvolutionExtents {
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
fn forward(
    e: &ConvolutionExtents,
    x: &[f32],
    weight: &[f32],
    y: &mut [f32],
    patches: &mut Vec<f32>,
) {
    let ([into, out], rows, columns) = (e.per_group(), e.window.taps(), e.window.places());
    for group in 0..e.groups {
        let data = &x[group * into * e.window.extent()..][..into * e.window.extent()];
        let read = e.window.patches(data, into, patches);
        let weight = MatrixView::new(&weight[group * out * into * rows..], out, into * rows);
        let y = &mut y[group * out * columns..][..out * columns];
        multiply(
            y,
            weight,
            MatrixView::new(read, into * rows, columns),
            Accum::Replace,
        );
    }
}

/// Adds to the gradients by the weight, and writes that by the data, of one sample.
fn backward(
    e: &ConvolutionExtents,
    [x, weight, gradient]: [&[f32]; 3],
    by_weight: Option<&mut [f32]>,
    by_data: Option<&mut [f32]>,
    patches: &mut Vec<f32>,
) {
    let ([into, out], rows, columns) = (e.per_group(), e.window.taps(), e.window.places());
    let of_group = |group: usize| MatrixView::new(&gradient[group * out * columns..], out, columns);
    if let Some(by_weight) = by_weight {
        for group in 0..e.groups {
            let data = &x[group * into * e.window.extent()..][..into * e.window.extent()];
            let read = MatrixView::new(e.window.patches(data, into, patches), into * rows, columns);
            let sum = &mut by_weight[group * out * into * rows..][..out * into * rows];
            multiply(sum, of_group(group), read.turned(), Accum::Add);
        }
    }
    if let Some(by_data) = by_data {
        for group in 0..e.groups {
            let weight =
                MatrixView::new(&weight[group * out * into * rows..], out, into * rows).turned();
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
    fn value(&self, inputs: &Arguments) -> Result<FloatArray, Misfit> {
        let (e, dims) = self.extents(inputs)?;
        let (x, weight) = (operand(inputs, 0)?, operand(inputs, 1)?);
        let bias = inputs.get(2).copied().flatten();
        let mut out = FloatArray::zeros(&dims);
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

    fn work(&self, inputs: &Arguments, output: &FloatArray) -> usize {
        let weight = inputs.get(1).copied().flatten();
        let per_output = weight.map_or(0, |weight| weight.dims[1..].iter().product());
        output.data.len() * per_output
    }

    fn pull_back(&self, point: &Evaluated, wanted: &[bool]) -> Vec<Option<FloatArray>> {
        let Ok((e, _)) = self.extents(point.inputs) else {
            return Vec::new();
        };
        let (Some(x), Some(weight)) = (point.input(0), point.input(1)) else {
            return Vec::new();
        };
        let by_bias = point.input(2).filter(|_| wants(wanted, 2));
        let by_bias = by_bias.map(|bias| bias_gradient(&e, point.gradient, &bias.dims));
        let [size_x, size_y] = e.sample();
        let mut by_data = wants(wanted, 0).then(|| FloatArray::zeros(&x.dims));
        let zeros = || wants(wanted, 1).then(|| FloatArray::zeros(&weight.dims));
        if size_x * size_y == 0 || e.batch == 0 {
            return vec![by_data, zeros(), by_bias];
        }
        let per_part = e.batch.div_ceil(PARTS);
        let one = |part: usize, mut by_data: Option<&mut [f32]>| {
            let (mut sum, mut patches) = (zeros(), Vec::new());
            for sample in part * per_part..((part + 1) * per_part).min(e.batch) {
                let at = sample - part * per_part;
                let own = by_data
                    .as_mut()
                    .map(|data| &mut data[at * size_x..][..size_x]);
                let gradient = &point.gradient.data[sample * size_y..][..size_y];
                let read = [&x.data[sample * size_x..][..size_x], &weight.data, gradient];
                let sum = sum.as_mut().map(|sum| &mut sum.data[..]);
                match e.is_depthwise() {
                    true => depthwise::backward(&e, read, sum, own),
                    false => backward(&e, read, sum, own, &mut patches),
                }
            }
            sum
        };
        let sums: Vec<Option<FloatArray>> = match &mut by_data {
            Some(by_data) => {
                let parts = by_data.data.par_chunks_mut(per_part * size_x).enumerate();
                parts.map(|(part, data)| one(part, Some(data))).collect()
            }
            None => (0..e.batch.div_ceil(per_part))
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

/// The gradient by the bias: that by the result, summed over samples and places.
fn bias_gradient(e: &ConvolutionExtents, gradient: &FloatArray, dims: &[usize]) -> FloatArray {
    let mut sums = FloatArray::zeros(dims);
    for sample in gradient.data.chunks(e.sample()[1].max(1)) {
        let channels = sample.chunks(e.window.places().max(1));
        for (to, channel) in sums.data.iter_mut().zip(channels) {
            *to += sum(channel);
        }
    }
    sums
}
