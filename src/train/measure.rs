//! How far two values are apart: squared error, squared error of directions, Kullback–Leibler divergence; each with its derivative.

use crate::gradient::FloatArray;

/// What the outputs of both models are held against each other by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum OutputLoss {
    /// The squared error of the numbers as they are, such as logits.
    Squared,
    /// The squared error of rows divided by their length, such as embeddings that are compared by their cosine.
    Embedding,
    /// The Kullback–Leibler divergence from the original's classes; of logits, after a softmax.
    Divergence,
}

impl OutputLoss {
    /// All, with the names that plans and the command line know them by.
    pub(crate) const NAMED: [(&'static str, OutputLoss); 3] = [
        ("squared", OutputLoss::Squared),
        ("embedding", OutputLoss::Embedding),
        ("kl", OutputLoss::Divergence),
    ];

    /// By its name; `None`: there is none of that name.
    pub(crate) fn named(name: &str) -> Option<Self> {
        let mut all = Self::NAMED.iter();
        all.find(|(known, _)| *known == name).map(|(_, loss)| *loss)
    }
}

impl std::fmt::Display for OutputLoss {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut all = Self::NAMED.iter();
        let name = all
            .find(|(_, loss)| loss == self)
            .map_or("", |(name, _)| *name);
        f.write_str(name)
    }
}

/// How the error of one value is computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ErrorMeasure {
    Squared,
    Embedding,
    /// KL divergence of softmax classes, the values being logits.
    OfLogits,
    /// KL divergence, the values being probabilities.
    OfProbabilities,
}

/// What an output's numbers are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum OutputKind {
    /// ClassRows of shares that add up to one.
    Probabilities,
    /// ClassRows of length one that point anywhere.
    Directions,
    /// Any numbers.
    Numbers,
}

/// How far the length or the sum of a row may be from 1.
const UNIT: f64 = 1e-3;
/// The least that divergences are taken relative to, in nats.
const LEAST_DIVERGENCE: f64 = 1e-2;
/// The least that squared errors are taken relative to,
const LEAST_VARIANCE: f64 = 1e-12;
/// the shortest row,
const SHORTEST: f64 = 1e-12;
/// and the least probability.
const RAREST: f64 = 1e-12;

impl OutputKind {
    /// What the numbers that a model gave are.
    pub fn of(seen: &FloatArray) -> Self {
        let rows = ClassRows::of(seen);
        if rows.extent < 2 || rows.count() == 0 {
            return OutputKind::Numbers;
        }
        let mut all = (0..rows.count()).map(|row| rows.read(seen, row));
        let is_one = |number: f64| (number - 1.0).abs() < UNIT;
        let are_shares = |row: &Vec<f64>| row.iter().all(|x| *x >= 0.0) && is_one(row.iter().sum());
        if all.clone().all(|row| are_shares(&row)) {
            return OutputKind::Probabilities;
        }
        match all.all(|row| is_one(length(&row)) && row.iter().any(|x| *x < 0.0)) {
            true => OutputKind::Directions,
            false => OutputKind::Numbers,
        }
    }
}

impl ErrorMeasure {
    /// What is asked for of such an output; by what it is where nothing is.
    pub fn of(asked: Option<OutputLoss>, kind: OutputKind) -> Self {
        match (asked, kind) {
            (Some(OutputLoss::Squared), _) | (None, OutputKind::Numbers) => ErrorMeasure::Squared,
            (Some(OutputLoss::Embedding), _) | (None, OutputKind::Directions) => {
                ErrorMeasure::Embedding
            }
            (_, OutputKind::Probabilities) => ErrorMeasure::OfProbabilities,
            (Some(OutputLoss::Divergence), _) => ErrorMeasure::OfLogits,
        }
    }

    /// In words.
    pub fn words(self) -> &'static str {
        match self {
            ErrorMeasure::Squared => "squared error",
            ErrorMeasure::Embedding => "squared error of the directions",
            ErrorMeasure::OfLogits | ErrorMeasure::OfProbabilities => "KL divergence",
        }
    }

    /// How much the original's value varies: the variance of its elements, or how far its rows' classes are from their mean.
    pub fn variation(self, seen: &FloatArray) -> f64 {
        match self {
            ErrorMeasure::Squared => variance(&seen.data).max(LEAST_VARIANCE),
            ErrorMeasure::Embedding => {
                let rows = ClassRows::of(seen);
                let turned = (0..rows.count()).flat_map(|row| unit(&rows.read(seen, row)).0);
                let turned: Vec<f32> = turned.map(|x| x as f32).collect();
                variance(&turned).max(LEAST_VARIANCE)
            }
            ErrorMeasure::OfLogits | ErrorMeasure::OfProbabilities => self.information(seen),
        }
    }

    /// scale · mean error, and its derivative by the value.
    pub fn error(self, value: &FloatArray, target: &FloatArray, scale: f64) -> (f64, FloatArray) {
        if self == ErrorMeasure::Squared {
            return squared(value, target, scale);
        }
        let rows = ClassRows::of(value);
        let mut gradient = FloatArray::zeros(&value.dims);
        let mut sum = 0.0;
        // Divergences are means over rows, squares over elements.
        let share = match self {
            ErrorMeasure::Embedding => scale / value.data.len().max(1) as f64,
            _ => scale / rows.count().max(1) as f64,
        };
        for row in 0..rows.count() {
            let (y, t) = (rows.read(value, row), rows.read(target, row));
            let (error, slope) = match self {
                ErrorMeasure::OfLogits => of_logits(&y, &softmax(&t)),
                ErrorMeasure::OfProbabilities => of_probabilities(&y, &t),
                _ => of_directions(&y, &t),
            };
            sum += error;
            rows.write(&mut gradient, row, slope.iter().map(|slope| slope * share));
        }
        (share * sum, gradient)
    }

    /// The mean divergence of rows from the mean row: what the classes tell of the input.
    fn information(self, seen: &FloatArray) -> f64 {
        let rows = ClassRows::of(seen);
        let shares = |row: usize| match self {
            ErrorMeasure::OfLogits => softmax(&rows.read(seen, row)),
            _ => rows.read(seen, row),
        };
        let mut mean = vec![0.0; rows.extent];
        for row in 0..rows.count() {
            let found = shares(row);
            mean.iter_mut()
                .zip(&found)
                .for_each(|(mean, x)| *mean += x / rows.count() as f64);
        }
        let all = (0..rows.count()).map(|row| of_probabilities(&mean, &shares(row)).0);
        (all.sum::<f64>() / rows.count().max(1) as f64).max(LEAST_DIVERGENCE)
    }
}

/// ClassRows of classes or of an embedding: along the last axis; of maps (batch × classes × sides), along the second.
pub(super) struct ClassRows {
    before: usize,
    extent: usize,
    after: usize,
}

impl ClassRows {
    pub fn of(array: &FloatArray) -> Self {
        let rank = array.dims.len();
        let axis = if rank >= 4 { 1 } else { rank.saturating_sub(1) };
        let [before, extent, after] = match rank {
            0 => [1, 1, 1],
            _ => array.around(axis),
        };
        ClassRows {
            before,
            extent,
            after,
        }
    }

    pub fn count(&self) -> usize {
        self.before * self.after
    }

    fn places(&self, row: usize) -> impl Iterator<Item = usize> + use<> {
        let (outer, inner) = (row / self.after, row % self.after);
        let (extent, after) = (self.extent, self.after);
        (0..extent).map(move |at| (outer * extent + at) * after + inner)
    }

    pub fn read(&self, array: &FloatArray, row: usize) -> Vec<f64> {
        self.places(row)
            .map(|at| f64::from(array.data[at]))
            .collect()
    }

    pub fn write(&self, array: &mut FloatArray, row: usize, numbers: impl Iterator<Item = f64>) {
        self.places(row)
            .zip(numbers)
            .for_each(|(at, number)| array.data[at] = number as f32);
    }
}

fn squared(value: &FloatArray, target: &FloatArray, scale: f64) -> (f64, FloatArray) {
    let scale = scale / value.data.len().max(1) as f64;
    let mut gradient = value.clone();
    let mut sum = 0.0;
    for (y, t) in gradient.data.iter_mut().zip(&target.data) {
        let off = *y - t;
        sum += f64::from(off * off);
        *y = (2.0 * scale) as f32 * off;
    }
    (scale * sum, gradient)
}

/// ‖u − v‖² of u = y/‖y‖ and v = t/‖t‖, and its derivative by y: that by u, without its part along u, divided by ‖y‖.
fn of_directions(y: &[f64], t: &[f64]) -> (f64, Vec<f64>) {
    let ((u, far), (v, _)) = (unit(y), unit(t));
    let off: Vec<f64> = u.iter().zip(&v).map(|(u, v)| u - v).collect();
    let along: f64 = u.iter().zip(&off).map(|(u, off)| u * off).sum();
    let slope = u.iter().zip(&off);
    (
        off.iter().map(|off| off * off).sum(),
        slope
            .map(|(u, off)| 2.0 * (off - u * along) / far)
            .collect(),
    )
}

/// Σ p log(p/q) of q = softmax(y), and its derivative by y, q − p.
fn of_logits(y: &[f64], p: &[f64]) -> (f64, Vec<f64>) {
    let q = softmax(y);
    let (error, _) = of_probabilities(&q, p);
    (error, q.iter().zip(p).map(|(q, p)| q - p).collect())
}

/// Σ p log(p/q) − p + q, and its derivative by q, 1 − p/q. What is added is nothing where both add up to one; where classes
/// are cut, it keeps the least at q = p.
fn of_probabilities(q: &[f64], p: &[f64]) -> (f64, Vec<f64>) {
    let one = |(q, p): (&f64, &f64)| {
        let (q, p) = (q.max(RAREST), p.max(0.0));
        let log = if p > 0.0 { p * (p / q).ln() } else { 0.0 };
        (log - p + q, 1.0 - p / q)
    };
    let (errors, slopes): (Vec<f64>, Vec<f64>) = q.iter().zip(p).map(one).unzip();
    (errors.iter().sum(), slopes)
}

/// e^y / Σ e^y.
pub(super) fn softmax(logits: &[f64]) -> Vec<f64> {
    let most = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let powers: Vec<f64> = logits.iter().map(|x| (x - most).exp()).collect();
    let sum: f64 = powers.iter().sum();
    powers.iter().map(|power| power / sum).collect()
}

fn length(row: &[f64]) -> f64 {
    row.iter().map(|x| x * x).sum::<f64>().sqrt()
}

/// A row of length one, and how long it was.
fn unit(row: &[f64]) -> (Vec<f64>, f64) {
    let far = length(row).max(SHORTEST);
    (row.iter().map(|x| x / far).collect(), far)
}

/// The variance of all numbers.
fn variance(numbers: &[f32]) -> f64 {
    let count = numbers.len().max(1) as f64;
    let mean = numbers.iter().map(|x| f64::from(*x)).sum::<f64>() / count;
    let squares = numbers.iter().map(|x| (f64::from(*x) - mean).powi(2));
    squares.sum::<f64>() / count
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [ErrorMeasure; 4] = [
        ErrorMeasure::Squared,
        ErrorMeasure::Embedding,
        ErrorMeasure::OfLogits,
        ErrorMeasure::OfProbabilities,
    ];

    /// Numbers of a kind that the measure takes: shares for probabilities.
    fn values(measure: ErrorMeasure, dims: &[usize], from: f32) -> FloatArray {
        let count: usize = dims.iter().product();
        let data = (0..count).map(|at| ((at as f32 + from) * 1.7).sin() * 1.5 + 0.2);
        let mut array = FloatArray::new(dims.to_vec(), data.collect());
        if measure == ErrorMeasure::OfProbabilities {
            let rows = ClassRows::of(&array);
            for row in 0..rows.count() {
                let shares = softmax(&rows.read(&array, row));
                rows.write(&mut array, row, shares.into_iter());
            }
        }
        array
    }

    #[test]
    fn derivatives_are_those_of_finite_differences() {
        for dims in [&[3, 5][..], &[2, 3, 4], &[2, 4, 3, 2]] {
            for measure in ALL {
                let (value, target) = (values(measure, dims, 0.0), values(measure, dims, 9.3));
                let (error, gradient) = measure.error(&value, &target, 3.0);
                assert!(error > 1e-3, "{measure:?}");
                for at in 0..value.data.len() {
                    let moved = |by: f32| {
                        let mut value = value.clone();
                        value.data[at] += by;
                        measure.error(&value, &target, 3.0).0
                    };
                    let step = 1e-3f32;
                    let found = (moved(step) - moved(-step)) / (2.0 * f64::from(step));
                    let exact = f64::from(gradient.data[at]);
                    assert!(
                        (found - exact).abs() < 1e-3 * (1.0 + exact.abs()),
                        "{measure:?} {dims:?} {at}: {found} against {exact}"
                    );
                }
            }
        }
    }

    #[test]
    fn what_is_equal_has_no_error() {
        for measure in ALL {
            let value = values(measure, &[4, 6], 1.0);
            let (error, gradient) = measure.error(&value, &value, 1.0);
            assert!(error.abs() < 1e-9, "{measure:?}: {error}");
            assert!(gradient.data.iter().all(|x| x.abs() < 1e-6), "{measure:?}");
        }
    }

    #[test]
    fn one_that_always_gives_the_mean_has_an_error_of_one() {
        let seen = FloatArray::new(vec![2, 2], vec![3.0, -3.0, -3.0, 3.0]);
        let flat = FloatArray::zeros(&[2, 2]);
        for measure in [ErrorMeasure::Squared, ErrorMeasure::OfLogits] {
            let scale = 1.0 / measure.variation(&seen);
            let (error, _) = measure.error(&flat, &seen, scale);
            assert!((error - 1.0).abs() < 1e-6, "{measure:?}: {error}");
        }
    }

    #[test]
    fn outputs_are_told_apart() {
        let of = |data: [f32; 4]| OutputKind::of(&FloatArray::new(vec![2, 2], data.to_vec()));
        assert_eq!(of([0.25, 0.75, 0.5, 0.5]), OutputKind::Probabilities);
        assert_eq!(of([0.6, -0.8, -1.0, 0.0]), OutputKind::Directions);
        assert_eq!(of([0.6, -0.8, 2.0, 0.0]), OutputKind::Numbers);
        assert_eq!(
            ErrorMeasure::of(None, OutputKind::Probabilities),
            ErrorMeasure::OfProbabilities
        );
        assert_eq!(
            ErrorMeasure::of(Some(OutputLoss::Divergence), OutputKind::Numbers),
            ErrorMeasure::OfLogits
        );
        assert_eq!(
            OutputLoss::named("kl").map(|loss| loss.to_string()),
            Some("kl".to_owned())
        );
    }
}
