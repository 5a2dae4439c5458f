//! What is done to gradients before a step.

use crate::gradient::FloatArray;

/// Takes the gradients of matrix entries that are zero away.
pub(super) fn hold_zeros(weights: &[FloatArray], gradients: &mut [Option<FloatArray>]) {
    for (weight, gradient) in weights.iter().zip(gradients) {
        let (Some(gradient), true) = (gradient, weight.dims.len() > 1) else {
            continue;
        };
        for (gradient, weight) in gradient.data.iter_mut().zip(&weight.data) {
            if *weight == 0.0 {
                *gradient = 0.0;
            }
        }
    }
}

/// The longest step that gradients may ask for, as a norm.
const LONGEST: f64 = 5.0;

/// Shortens gradients whose norm is too long (Pascanu et al. 2013).
pub(super) fn clip(gradients: &mut [Option<FloatArray>]) {
    let squares = gradients.iter().flatten().map(|gradient| {
        gradient
            .data
            .iter()
            .map(|x| f64::from(*x).powi(2))
            .sum::<f64>()
    });
    let norm = squares.sum::<f64>().sqrt();
    if norm > LONGEST {
        let factor = (LONGEST / norm) as f32;
        for gradient in gradients.iter_mut().flatten() {
            *gradient = gradient.map(|x| x * factor);
        }
    }
}
