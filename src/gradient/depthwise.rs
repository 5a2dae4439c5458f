//! Convolutions of each channel with a window of its own: no products of matrices, only sums of rows.

use super::extents::ConvolutionExtents;

/// y of one sample.
pub(super) fn forward(e: &ConvolutionExtents, x: &[f32], weight: &[f32], y: &mut [f32]) {
    let (taps, places, extent) = (e.window.taps(), e.window.places(), e.window.extent());
    let step = e.window.strides[1];
    let channels = x
        .chunks(extent)
        .zip(weight.chunks(taps))
        .zip(y.chunks_mut(places));
    for ((x, weight), y) in channels {
        y.fill(0.0);
        e.window.each_row(|tap, place, count, element| {
            let (weight, row) = (weight[tap], &mut y[place..place + count]);
            if step == 1 {
                let read = &x[element..element + count];
                row.iter_mut().zip(read).for_each(|(y, x)| *y += weight * x);
            } else {
                let read = x[element..].iter().step_by(step);
                row.iter_mut().zip(read).for_each(|(y, x)| *y += weight * x);
            }
        });
    }
}

/// Adds to the gradient by the weight, and writes that by the data, of one sample.
pub(super) fn backward(
    e: &ConvolutionExtents,
    [x, weight, gradient]: [&[f32]; 3],
    mut by_weight: Option<&mut [f32]>,
    mut by_data: Option<&mut [f32]>,
) {
    let (taps, places, extent) = (e.window.taps(), e.window.places(), e.window.extent());
    let step = e.window.strides[1];
    for channel in 0..e.channels[0] {
        let x = &x[channel * extent..][..extent];
        let (weight, gradient) = (
            &weight[channel * taps..][..taps],
            &gradient[channel * places..][..places],
        );
        if let Some(sum) = &mut by_weight {
            let sum = &mut sum[channel * taps..][..taps];
            e.window.each_row(|tap, place, count, element| {
                let read = x[element..].iter().step_by(step);
                sum[tap] += gradient[place..place + count]
                    .iter()
                    .zip(read)
                    .map(|(g, x)| g * x)
                    .sum::<f32>();
            });
        }
        if let Some(data) = &mut by_data {
            let data = &mut data[channel * extent..][..extent];
            data.fill(0.0);
            e.window.each_row(|tap, place, count, element| {
                let read = data[element..].iter_mut().step_by(step);
                let row = &gradient[place..place + count];
                read.zip(row).for_each(|(data, g)| *data += weight[tap] * g);
            });
        }
    }
}
