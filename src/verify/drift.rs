//! How far the pruned model's outputs moved from the original's.

use crate::model::{Ends, TensorRef};

/// The drift of one output over all inputs.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize)]
pub struct OutputDrift {
    /// Its name.
    pub name: String,
    /// ‖pruned − original‖₂ / ‖original‖₂, over all inputs together; of whole numbers (class ids) the share that changed.
    pub relative_l2: f64,
    /// Cosine of the angle between the two, over all inputs together.
    pub cosine: f64,
    /// The largest difference.
    pub max_abs: f64,
    /// Share of rows whose largest element stays the same one; `None` where the output is not one score per class, or where its
    /// rows are embeddings (of length one, with negative entries).
    pub top1_agreement: Option<f64>,
    /// Mean Kullback–Leibler divergence of the rows' distributions, in nats; `None` likewise.
    pub kl: Option<f64>,
    /// Of embeddings: Spearman's correlation of the cosines of all pairs of rows before and after.
    pub rank_correlation: Option<f64>,
}

impl OutputDrift {
    /// How much the output still says the same: of classes the share that stays, of embeddings how alike similarities rank.
    pub fn agreement(&self) -> Option<f64> {
        self.rank_correlation.or(self.top1_agreement)
    }
}

/// The uncertainty of a single run, which nothing tells of.
const ALONE: f64 = 0.25;

/// Sums from which the drift of one output is computed; they grow input by input.
#[derive(Clone, Debug, Default)]
struct Sums {
    difference: f64,
    original: f64,
    pruned: f64,
    product: f64,
    max_abs: f64,
    rows: f64,
    agreeing: f64,
    kl: f64,
    scores: bool,
    /// Whether what was added are whole numbers.
    whole: bool,
    /// Squared difference and squared original of each run.
    runs: Vec<(f64, f64)>,
}

/// The drift of every output, run after run: what is kept of a run are sums, and the outputs can be forgotten.
#[derive(Clone, Debug)]
pub struct Drift {
    outputs: Vec<(String, Sums)>,
    ends: Ends,
}

impl Drift {
    /// Of outputs of these names, before any run; where slices of an output are gone, that of the others.
    pub fn new(names: &[String], ends: &Ends) -> Self {
        let none = |name: &String| {
            (
                name.clone(),
                Sums {
                    scores: true,
                    ..Default::default()
                },
            )
        };
        Drift {
            outputs: names.iter().map(none).collect(),
            ends: ends.clone(),
        }
    }

    /// Adds what both models gave for the same inputs. Outputs of other types than real numbers count as how often they
    /// differ.
    pub fn add(&mut self, original: &[TensorRef], pruned: &[TensorRef]) {
        for ((name, sums), (original, pruned)) in
            self.outputs.iter_mut().zip(original.iter().zip(pruned))
        {
            let before = (sums.difference, sums.original);
            sums.add(&self.ends.of(name, original), pruned);
            sums.runs
                .push((sums.difference - before.0, sums.original - before.1));
        }
    }

    /// By how much the largest drift may differ from that on so many other inputs of the same kind, as a share of it: one
    /// standard deviation, by how much the runs differ among themselves (the variance of a ratio of sums).
    pub fn uncertainty(&self, others: usize) -> f64 {
        let moved = |sums: &&Sums| sums.difference / sums.original.max(f64::MIN_POSITIVE);
        let largest = self
            .outputs
            .iter()
            .map(|(_, sums)| sums)
            .max_by(|a, b| moved(a).total_cmp(&moved(b)));
        largest.map_or(0.0, |sums| sums.uncertainty(others))
    }

    /// The drift over all runs that were added.
    pub fn finish(self) -> Vec<OutputDrift> {
        self.outputs
            .into_iter()
            .map(|(name, sums)| sums.finish(&name))
            .collect()
    }
}

/// The number that budgets and gates go by: the largest relative L2 drift of any output.
pub fn worst(outputs: &[OutputDrift]) -> f64 {
    // An output that is no number any more is as far away as can be.
    outputs
        .iter()
        .map(|output| {
            if output.relative_l2.is_nan() {
                f64::INFINITY
            } else {
                output.relative_l2
            }
        })
        .fold(0.0, f64::max)
}

impl Sums {
    fn add(&mut self, original: &TensorRef, pruned: &TensorRef) {
        let (Some(a), Some(b)) = (original.to_f64(), pruned.to_f64()) else {
            self.scores = false;
            return;
        };
        if a.len() != b.len() {
            self.difference = f64::INFINITY;
            return;
        }
        let real = original.dtype.is_float();
        self.whole = !real;
        for (a, b) in a
            .iter()
            .zip(&b)
            .filter(|(a, b)| a.is_finite() || b.is_finite())
        {
            let (a, b) = if real {
                (*a, *b)
            } else {
                (1.0, f64::from(u8::from(a == b)))
            };
            self.difference += (a - b) * (a - b);
            self.original += a * a;
            self.pruned += b * b;
            self.product += a * b;
            self.max_abs = self.max_abs.max((a - b).abs());
        }
        let classes = original.dims.last().copied().unwrap_or(1);
        self.scores &= real && original.dims.len() == 2 && classes > 1;
        if self.scores {
            for (a, b) in a.chunks_exact(classes).zip(b.chunks_exact(classes)) {
                self.rows += 1.0;
                self.agreeing += f64::from(u8::from(largest(a) == largest(b)));
                self.kl += divergence(a, b);
            }
        }
    }

    fn uncertainty(&self, others: usize) -> f64 {
        let (count, ratio) = (
            self.runs.len() as f64,
            self.difference / self.original.max(f64::MIN_POSITIVE),
        );
        if ratio == 0.0 || !ratio.is_finite() {
            return 0.0;
        }
        if count < 2.0 {
            return ALONE;
        }
        let residue: f64 = self
            .runs
            .iter()
            .map(|(difference, original)| (difference - ratio * original).powi(2))
            .sum();
        let deviation = (residue * count / (count - 1.0)).sqrt() / self.difference;
        // Drift is the root of the ratio, but for whole numbers.
        let share = if self.whole { 1.0 } else { 0.5 };
        deviation * share * (1.0 + count / (others.max(1) as f64)).sqrt()
    }

    fn finish(self, name: &str) -> OutputDrift {
        let relative = |value: f64| if self.difference == 0.0 { 0.0 } else { value };
        let scores = self.scores && self.rows > 0.0;
        let share = self.difference / self.original.max(f64::MIN_POSITIVE);
        OutputDrift {
            name: name.to_owned(),
            relative_l2: relative(if self.whole { share } else { share.sqrt() }),
            cosine: if self.difference == 0.0 {
                1.0
            } else {
                self.product / (self.original * self.pruned).sqrt().max(f64::MIN_POSITIVE)
            },
            max_abs: self.max_abs,
            top1_agreement: scores.then(|| self.agreeing / self.rows),
            kl: scores.then(|| self.kl / self.rows),
            rank_correlation: None,
        }
    }
}

/// The place of the largest element, the first of equals.
pub fn largest(row: &[f64]) -> usize {
    let mut best = 0;
    for (at, value) in row.iter().enumerate() {
        if *value > row[best] {
            best = at;
        }
    }
    best
}

/// KL(original ‖ pruned) of two rows: of probabilities if they are that, else of the softmax of scores.
fn divergence(original: &[f64], pruned: &[f64]) -> f64 {
    let is_distribution =
        |row: &[f64]| row.iter().all(|p| *p >= 0.0) && (row.iter().sum::<f64>() - 1.0).abs() < 1e-3;
    let (p, q) = if is_distribution(original) && is_distribution(pruned) {
        (original.to_vec(), pruned.to_vec())
    } else {
        (softmax(original), softmax(pruned))
    };
    p.iter()
        .zip(&q)
        .filter(|(p, _)| **p > 0.0)
        .map(|(p, q)| p * (p / q.max(1e-12)).ln())
        .sum::<f64>()
        .max(0.0)
}

fn softmax(row: &[f64]) -> Vec<f64> {
    let top = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let powers: Vec<f64> = row.iter().map(|score| (score - top).exp()).collect();
    let sum: f64 = powers.iter().sum();
    powers.iter().map(|power| power / sum).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drift(original: &[TensorRef], pruned: &[TensorRef]) -> OutputDrift {
        let mut drift = Drift::new(&["y".to_owned()], &Ends::default());
        original
            .iter()
            .zip(pruned)
            .for_each(|(a, b)| drift.add(std::slice::from_ref(a), std::slice::from_ref(b)));
        drift.finish().remove(0)
    }

    #[test]
    fn drift_of_scores() {
        let original = TensorRef::from_f32(vec![2, 2], &[3.0, 0.0, 0.0, 4.0]);
        let pruned = TensorRef::from_f32(vec![2, 2], &[3.0, 0.0, 5.0, 4.0]);
        let found = drift(std::slice::from_ref(&original), &[pruned]);
        assert!((found.relative_l2 - 1.0).abs() < 1e-12);
        assert_eq!((found.top1_agreement, found.max_abs), (Some(0.5), 5.0));
        assert_eq!(
            drift(
                std::slice::from_ref(&original),
                std::slice::from_ref(&original)
            )
            .cosine,
            1.0
        );
    }

    #[test]
    fn drift_of_class_ids_is_the_share_that_changed() {
        let ids = |ids: &[i64]| TensorRef::from_i64(vec![1, ids.len()], ids);
        let found = drift(&[ids(&[1, 2, 3, 4])], &[ids(&[1, 2, 3, 9])]);
        assert_eq!((found.relative_l2, found.top1_agreement), (0.25, None));
    }

    #[test]
    fn runs_that_differ_say_little_of_others() {
        let row = |numbers: [f32; 2]| [TensorRef::from_f32(vec![1, 2], &numbers)];
        let uncertainty = |errors: &[f32], others: usize| {
            let mut drift = Drift::new(&["y".to_owned()], &Ends::default());
            errors
                .iter()
                .for_each(|error| drift.add(&row([3.0, 4.0]), &row([3.0, 4.0 + error])));
            drift.uncertainty(others)
        };
        assert!(uncertainty(&[0.1; 8], 8) < 1e-3);
        let uneven: Vec<f32> = (0..64).map(|run| 0.1 + 0.05 * (run % 3) as f32).collect();
        assert!(
            uncertainty(&uneven, 8) > uncertainty(&uneven, 64)
                && uncertainty(&uneven[..8], 8) > uncertainty(&uneven, 8)
        );
        assert!(
            (0.01..0.1).contains(&uncertainty(&uneven, 64)),
            "{}",
            uncertainty(&uneven, 64)
        );
        assert_eq!(
            (uncertainty(&[0.1], 8), uncertainty(&[0.0, 0.0], 8)),
            (ALONE, 0.0)
        );
    }

    #[test]
    fn runs_add_up_to_one_run_of_all_rows() {
        let row = |numbers: [f32; 2]| TensorRef::from_f32(vec![1, 2], &numbers);
        let both = |a: [f32; 2], b: [f32; 2]| TensorRef::from_f32(vec![2, 2], &[a, b].concat());
        let (a, b, c, d) = ([3.0, 1.0], [0.5, 4.0], [2.5, 1.5], [1.0, 0.0]);
        assert_eq!(
            drift(&[row(a), row(b)], &[row(c), row(d)]),
            drift(&[both(a, b)], &[both(c, d)])
        );
    }
}
