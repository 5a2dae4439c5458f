//! AdamW (Loshchilov and Hutter, *Decoupled weight decay regularization*, 2019, algorithm 2), with a learning rate that warms
//! up and then falls along a cosine (the same authors' *SGDR*, 2017, equation 5, without restarts).

use rayon::prelude::*;

use crate::gradient::FloatArray;

/// Decay of the first moments (β₁),
const FIRST: f32 = 0.9;
/// and of the second (β₂).
const SECOND: f32 = 0.999;
/// Added to the root of the second moments (ε).
const EPSILON: f32 = 1e-8;
/// Weight decay (λ).
const DECAY: f32 = 1e-4;
/// Share of the steps in which the rate rises.
const WARM_UP: f64 = 0.05;

/// The state of the optimizer.
#[derive(Clone, Debug)]
pub(super) struct AdamW {
    /// The largest rate (η).
    pub largest: f64,
    steps: usize,
    /// Steps done.
    pub done: usize,
    first: Vec<Vec<f32>>,
    second: Vec<Vec<f32>>,
}

impl AdamW {
    /// For these weights, and so many steps at all.
    pub fn new(weights: &[FloatArray], rate: f64, steps: usize) -> Self {
        let zeros = || {
            weights
                .iter()
                .map(|weight| vec![0.0; weight.data.len()])
                .collect()
        };
        AdamW {
            largest: rate,
            steps,
            done: 0,
            first: zeros(),
            second: zeros(),
        }
    }

    /// The first and the second moments, weight by weight.
    pub fn moments(&self) -> (&[Vec<f32>], &[Vec<f32>]) {
        (&self.first, &self.second)
    }

    /// The same, to be set.
    pub fn moments_mut(&mut self) -> (&mut [Vec<f32>], &mut [Vec<f32>]) {
        (&mut self.first, &mut self.second)
    }

    /// Goes on from other weights at a lower rate: where steps led does not count, how gradients vary does.
    pub fn slow_down(&mut self, factor: f64) {
        self.largest *= factor;
        self.first.iter_mut().for_each(|moments| moments.fill(0.0));
    }

    /// The rate of the next step.
    pub fn rate(&self) -> f64 {
        let (at, all) = (self.done as f64 + 1.0, self.steps.max(1) as f64);
        let rising = (all * WARM_UP).max(1.0);
        if at < rising {
            return self.largest * at / rising;
        }
        let share = ((at - rising) / (all - rising).max(1.0)).min(1.0);
        self.largest * 0.5 * (1.0 + (std::f64::consts::PI * share).cos())
    }

    /// Takes one step against the gradients; a weight without one stays.
    pub fn step(&mut self, weights: &mut [FloatArray], gradients: &[Option<FloatArray>]) {
        let rate = self.rate() as f32;
        self.done += 1;
        let correct =
            |decay: f32| 1.0 - f64::from(decay).powi(self.done.min(1 << 20) as i32) as f32;
        let (first_sum, second_sum) = (correct(FIRST), correct(SECOND));
        let moments = self.first.par_iter_mut().zip(self.second.par_iter_mut());
        weights.par_iter_mut().zip(gradients).zip(moments).for_each(
            |((weight, gradient), (first, second))| {
                let Some(gradient) = gradient else { return };
                // Biases and factors of a norm are not drawn towards zero.
                let decay = if weight.dims.len() > 1 {
                    DECAY * rate
                } else {
                    0.0
                };
                let moments = first.iter_mut().zip(second.iter_mut());
                for ((w, g), (m, v)) in weight.data.iter_mut().zip(&gradient.data).zip(moments) {
                    *m = FIRST * *m + (1.0 - FIRST) * g;
                    *v = SECOND * *v + (1.0 - SECOND) * g * g;
                    let step = (*m / first_sum) / ((*v / second_sum).sqrt() + EPSILON);
                    *w -= rate * step + decay * *w;
                }
            },
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_rises_then_falls_to_nothing() {
        let mut adam = AdamW::new(&[FloatArray::zeros(&[1])], 1.0, 100);
        let mut rates = Vec::new();
        for _ in 0..100 {
            rates.push(adam.rate());
            adam.step(&mut [FloatArray::zeros(&[1])], &[None]);
        }
        assert!(rates[0] < 0.3 && rates[4] == 1.0 && rates[99] < 1e-3);
        assert!(rates[4..].windows(2).all(|pair| pair[1] <= pair[0]));
    }

    #[test]
    fn a_quadratic_is_minimised() {
        let mut weights = vec![FloatArray::new(vec![3], vec![1.0, -2.0, 0.5])];
        let aim = [0.25f32, 0.5, -0.75];
        let mut adam = AdamW::new(&weights, 0.05, 400);
        for _ in 0..400 {
            let off = weights[0]
                .data
                .iter()
                .zip(&aim)
                .map(|(w, aim)| w - aim)
                .collect();
            adam.step(&mut weights, &[Some(FloatArray::new(vec![3], off))]);
        }
        let far = weights[0]
            .data
            .iter()
            .zip(&aim)
            .map(|(w, aim)| (w - aim).abs());
        assert!(far.fold(0.0, f32::max) < 1e-2, "{:?}", weights[0].data);
    }
}
