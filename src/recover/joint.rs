//! Fitting two layers at once: what the function between them hides moves with the first one's weights.
//!
//! Gauss–Newton on ‖f₂(W₂·f₁(W₁x + b₁) + b₂) − aim‖² over both layers, each step solved by conjugate gradients (Hestenes and
//! Stiefel 1952) and made easy by the two layers' own second moments, as in Martens and Grosse 2015. How much of a step is taken
//! the held-out rows say.

mod half;
mod moments;
#[cfg(test)]
mod tests;

use rayon::prelude::*;

use half::Half;
use moments::JointMoments;

use super::aim::Clamp;
use super::patches::{NOWHERE, Patches};
use super::rows::{Layer, Rows};
use super::sample::Sample;

/// Steps at most,
const STEPS: usize = 3;
/// and from weights that were fitted together before.
const WARM_STEPS: usize = 1;
/// Products with the second derivatives in each,
const PRODUCTS: usize = 8;
/// and likewise.
const WARM_PRODUCTS: usize = 4;
/// Parts of a step that are tried.
const LENGTHS: [f64; 4] = [1.0, 0.5, 0.25, 0.1];
/// How much of the second moments is added to the second derivatives.
const DAMPING: f64 = 1e-2;

/// Weights and biases of both layers, one after the other.
pub(super) type Parameters = Vec<f64>;

/// Two layers.
pub(super) struct PointPair<'a> {
    first: Half<'a>,
    second: Half<'a>,
}

/// What a part of the rows gives at some parameters.
struct JointPoint {
    /// positions × units of the first layer: its output after the function, and how that follows its weights.
    hidden: Vec<f32>,
    slopes: Vec<f32>,
    /// The second layer's inputs: groups × rows × columns.
    inputs: Vec<f32>,
    /// rows × channels: how far off the sum is where that matters, and how it follows the second layer's weights.
    errors: Vec<f32>,
    follows: Vec<f32>,
}

fn single(numbers: &[f64]) -> Vec<f32> {
    numbers.iter().map(|number| *number as f32).collect()
}

fn read(places: &[u32], hidden: &[f32]) -> Vec<f32> {
    places
        .iter()
        .map(|place| {
            if *place == NOWHERE {
                0.0
            } else {
                hidden[*place as usize]
            }
        })
        .collect()
}

impl<'a> PointPair<'a> {
    pub fn new(first: &'a Layer, second: &'a Layer) -> Self {
        PointPair {
            first: Half::new(first, first.aim.function),
            second: Half::new(second, second.function()),
        }
    }

    /// Parameters from weights and biases.
    pub fn parameters(&self, first: (&[f64], &[f64]), second: (&[f64], &[f64])) -> Parameters {
        [first.0, first.1, second.0, second.1].concat()
    }

    /// Weights and biases of the first layer, then of the second.
    pub fn split<'p>(&self, all: &'p [f64]) -> [&'p [f64]; 4] {
        let (first, rest) = all.split_at(self.first.weights());
        let (first_bias, rest) = rest.split_at(self.first.units());
        let (second, second_bias) = rest.split_at(self.second.weights());
        [first, first_bias, second, second_bias]
    }

    fn split_mut<'p>(&self, all: &'p mut [f64]) -> [&'p mut [f64]; 4] {
        let (first, rest) = all.split_at_mut(self.first.weights());
        let (first_bias, rest) = rest.split_at_mut(self.first.units());
        let (second, second_bias) = rest.split_at_mut(self.second.weights());
        [first, first_bias, second, second_bias]
    }

    /// positions × units: what the first layer gives after its function, and its slopes.
    fn hidden(&self, part: &Patches, weight: &[f64], bias: &[f64]) -> (Vec<f32>, Vec<f32>) {
        let first = &self.first;
        let mut hidden = vec![0.0f32; part.positions * first.units()];
        first.multiply(&mut hidden, &part.inputs, part.positions, &single(weight));
        let mut slopes = vec![0.0f32; hidden.len()];
        let bounds = first.function.unwrap_or(Clamp {
            low: f64::NEG_INFINITY,
            high: f64::INFINITY,
        });
        for (row, slopes) in hidden
            .chunks_exact_mut(first.units())
            .zip(slopes.chunks_exact_mut(first.units()))
        {
            for (unit, (number, slope)) in row.iter_mut().zip(slopes).enumerate() {
                let sum =
                    (f64::from(*number) + bias[unit]) * first.scale[unit] + first.offset[unit];
                *slope = if sum > bounds.low && sum < bounds.high {
                    first.scale[unit] as f32
                } else {
                    0.0
                };
                *number = sum.clamp(bounds.low, bounds.high) as f32;
            }
        }
        (hidden, slopes)
    }

    /// The second layer's rows at the first one's weights, for fitting it alone.
    pub fn rows(&self, parts: &[Patches], weight: &[f64], bias: &[f64]) -> Sample<'static> {
        let row = |part: &Patches| Rows {
            inputs: read(&part.places, &self.hidden(part, weight, bias).0),
            aims: part.aims.clone(),
            added: part.added.clone(),
        };
        let rows: Vec<Rows> = parts.par_iter().map(row).collect();
        let mut all = Sample::new(self.second.groups);
        rows.into_iter().for_each(|rows| all.give(rows));
        all
    }

    fn point(&self, part: &Patches, all: &[f64]) -> JointPoint {
        let [first, first_bias, weight, bias] = self.split(all);
        let (hidden, slopes) = self.hidden(part, first, first_bias);
        let second = &self.second;
        let inputs = read(&part.places, &hidden);
        let mut errors = vec![0.0f32; part.rows * second.units()];
        second.multiply(&mut errors, &inputs, part.rows, &single(weight));
        let mut follows = vec![0.0f32; errors.len()];
        for row in 0..part.rows {
            for (unit, bias) in bias.iter().enumerate() {
                let (at, (group, channel)) = (
                    row * second.units() + unit,
                    (unit / second.rows, unit % second.rows),
                );
                let from = (group * part.rows + row) * second.rows + channel;
                let (aim, added) = (f64::from(part.aims[from]), f64::from(part.added[from]));
                let sum = (f64::from(errors[at]) + bias) * second.scale[unit]
                    + second.offset[unit]
                    + added;
                // Where the original is cut off, anything beyond does as well.
                let error = match second.function {
                    Some(function) if aim <= function.low => (sum - function.low).max(0.0),
                    Some(function) if aim >= function.high => (sum - function.high).min(0.0),
                    _ => sum - aim,
                };
                errors[at] = error as f32;
                follows[at] = if error == 0.0 {
                    0.0
                } else {
                    second.scale[unit] as f32
                };
            }
        }
        JointPoint {
            hidden,
            slopes,
            inputs,
            errors,
            follows,
        }
    }

    /// Mean squared error after the second layer's function.
    pub fn error(&self, parts: &[Patches], all: &[f64]) -> f64 {
        let [first, first_bias, weight, bias] = self.split(all);
        let second = &self.second;
        let clamp = |sum: f64| {
            second
                .function
                .map_or(sum, |function| sum.clamp(function.low, function.high))
        };
        let one = |part: &Patches| -> f64 {
            let inputs = read(&part.places, &self.hidden(part, first, first_bias).0);
            let mut outputs = vec![0.0f32; part.rows * second.units()];
            second.multiply(&mut outputs, &inputs, part.rows, &single(weight));
            let mut sum = 0.0;
            for (at, output) in outputs.iter().enumerate() {
                let (row, unit) = (at / second.units(), at % second.units());
                let from =
                    ((unit / second.rows) * part.rows + row) * second.rows + unit % second.rows;
                let found = (f64::from(*output) + bias[unit]) * second.scale[unit]
                    + second.offset[unit]
                    + f64::from(part.added[from]);
                sum += (clamp(found) - clamp(f64::from(part.aims[from]))).powi(2);
            }
            sum
        };
        let count: usize = parts.iter().map(|part| part.rows * second.units()).sum();
        let sums: Vec<f64> = parts.par_iter().map(one).collect();
        sums.iter().sum::<f64>() / count.max(1) as f64
    }

    /// Better parameters: steps that lower the error of the fitted rows, each as long as serves the held-out rows best.
    /// `warm`: the start was fitted like this before.
    pub fn refine(
        &self,
        fit: &[Patches],
        held: &[Patches],
        start: &[f64],
        warm: bool,
    ) -> Parameters {
        let (steps, products) = match warm {
            true => (WARM_STEPS, WARM_PRODUCTS),
            false => (STEPS, PRODUCTS),
        };
        let (mut now, mut least) = (start.to_vec(), self.error(held, start));
        for _ in 0..steps {
            let points: Vec<JointPoint> =
                fit.par_iter().map(|part| self.point(part, &now)).collect();
            let Some(step) = self.step(fit, &points, &now, products) else {
                break;
            };
            drop(points);
            let tried = LENGTHS.map(|length| {
                let there: Parameters = now
                    .iter()
                    .zip(&step)
                    .map(|(at, step)| at + length * step)
                    .collect();
                (self.error(held, &there), there)
            });
            match tried.into_iter().min_by(|a, b| a.0.total_cmp(&b.0)) {
                Some((error, there)) if error < least => (least, now) = (error, there),
                _ => break,
            }
        }
        now
    }

    /// A Gauss–Newton step; `None` where second moments are singular.
    fn step(
        &self,
        fit: &[Patches],
        points: &[JointPoint],
        now: &[f64],
        products: usize,
    ) -> Option<Parameters> {
        let easier = JointMoments::new(self, fit, points, now)?;
        let pulls = |part: &Patches, point: &JointPoint| -> Vec<f64> {
            let pulls: Vec<f32> = point
                .errors
                .iter()
                .zip(&point.follows)
                .map(|(error, follows)| -error * follows)
                .collect();
            self.collect(part, point, &pulls, now)
        };
        let mut rest = sum(fit
            .par_iter()
            .zip(points)
            .map(|(part, point)| pulls(part, point))
            .collect())?;
        let mut step = vec![0.0; rest.len()];
        let mut ahead = easier.solve(self, &rest);
        let mut direction = ahead.clone();
        let mut power = dot(&rest, &ahead);
        let first = power;
        for _ in 0..products {
            if power <= 1e-8 * first || !power.is_finite() {
                break;
            }
            let product =
                |part: &Patches, point: &JointPoint| self.curved(part, point, &direction, now);
            let mut bent = sum(fit
                .par_iter()
                .zip(points)
                .map(|(part, point)| product(part, point))
                .collect())?;
            bent.iter_mut()
                .zip(easier.multiply(self, &direction))
                .for_each(|(bent, moments)| *bent += DAMPING * moments);
            let length = power / dot(&direction, &bent);
            step.iter_mut()
                .zip(&direction)
                .for_each(|(step, along)| *step += length * along);
            rest.iter_mut()
                .zip(&bent)
                .for_each(|(rest, bent)| *rest -= length * bent);
            ahead = easier.solve(self, &rest);
            let next = dot(&rest, &ahead);
            let keep = next / power;
            power = next;
            direction
                .iter_mut()
                .zip(&ahead)
                .for_each(|(along, ahead)| *along = ahead + keep * *along);
        }
        step.iter().all(|number| number.is_finite()).then_some(step)
    }

    /// What all parameters get of pulls on the sums (rows × channels).
    fn collect(&self, part: &Patches, point: &JointPoint, pulls: &[f32], now: &[f64]) -> Vec<f64> {
        let mut all = vec![0.0; now.len()];
        let second_weight = single(self.split(now)[2]);
        let [first, first_bias, second, second_bias] = self.split_mut(&mut all);
        self.second
            .gather(pulls, &point.inputs, part.rows, second, second_bias);
        let mut hidden = vec![0.0f32; point.hidden.len()];
        for (place, pull) in
            part.places
                .iter()
                .zip(self.second.back(pulls, part.rows, &second_weight))
        {
            if *place != NOWHERE {
                hidden[*place as usize] += pull;
            }
        }
        hidden
            .iter_mut()
            .zip(&point.slopes)
            .for_each(|(pull, slope)| *pull *= slope);
        self.first
            .gather(&hidden, &part.inputs, part.positions, first, first_bias);
        all
    }

    /// The second derivatives (JᵀJ) times a direction.
    fn curved(
        &self,
        part: &Patches,
        point: &JointPoint,
        direction: &[f64],
        now: &[f64],
    ) -> Vec<f64> {
        let [first, first_bias, second, second_bias] = self.split(direction);
        let mut hidden = vec![0.0f32; point.hidden.len()];
        self.first
            .multiply(&mut hidden, &part.inputs, part.positions, &single(first));
        for (row, slopes) in hidden
            .chunks_exact_mut(self.first.units())
            .zip(point.slopes.chunks_exact(self.first.units()))
        {
            for ((number, bias), slope) in row.iter_mut().zip(first_bias).zip(slopes) {
                *number = (*number + *bias as f32) * slope;
            }
        }
        let mut sums = vec![0.0f32; point.errors.len()];
        self.second.multiply(
            &mut sums,
            &read(&part.places, &hidden),
            part.rows,
            &single(self.split(now)[2]),
        );
        self.second
            .multiply(&mut sums, &point.inputs, part.rows, &single(second));
        for (row, follows) in sums
            .chunks_exact_mut(self.second.units())
            .zip(point.follows.chunks_exact(self.second.units()))
        {
            for ((number, bias), follows) in row.iter_mut().zip(second_bias).zip(follows) {
                *number = (*number + *bias as f32) * follows * follows;
            }
        }
        self.collect(part, point, &sums, now)
    }
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// In the order of the parts, so that any number of threads gives the same.
fn sum(parts: Vec<Vec<f64>>) -> Option<Vec<f64>> {
    parts.into_iter().reduce(|mut all, part| {
        all.iter_mut()
            .zip(part)
            .for_each(|(sum, number)| *sum += number);
        all
    })
}
