//! Whether outputs still say the same: the share of rows that keep their class; of embeddings, whose entries are no classes, how
//! well the ranks of pairwise similarities correlate.

use super::drift::largest;
use crate::model::{Ends, TensorRef};

/// How far the norm of an embedding may be from 1.
const UNIT: f64 = 1e-3;
/// Rows of embeddings that are held against each other, at most.
const ROWS: usize = 512;

/// The agreement of the first output that allows one, run after run.
#[derive(Clone, Debug)]
pub struct Agreement {
    names: Vec<String>,
    ends: Ends,
    of: Option<usize>,
    rows: f64,
    agreeing: f64,
    /// Rows of both models, as long as they are embeddings.
    embedded: Option<Vec<(Vec<f64>, Vec<f64>)>>,
}

impl Agreement {
    /// Of outputs of these names, before any run; where slices of an output are gone, of the others.
    pub fn new(names: &[String], ends: &Ends) -> Self {
        Agreement {
            names: names.to_vec(),
            ends: ends.clone(),
            of: None,
            rows: 0.0,
            agreeing: 0.0,
            embedded: Some(Vec::new()),
        }
    }

    /// Adds what both models gave for the same inputs.
    pub fn add(&mut self, original: &[TensorRef], pruned: &[TensorRef]) {
        let Some(at) = self.of.or_else(|| original.iter().position(tells)) else {
            return;
        };
        self.of = Some(at);
        let (Some(name), Some(before), Some(after)) =
            (self.names.get(at), original.get(at), pruned.get(at))
        else {
            return;
        };
        let before = self.ends.of(name, before);
        let (Some(a), Some(b)) = (before.to_f64(), after.to_f64()) else {
            return;
        };
        if !before.dtype.is_float() {
            self.embedded = None;
            self.rows += a.len() as f64;
            self.agreeing += a.iter().zip(&b).filter(|(a, b)| a == b).count() as f64;
            return;
        }
        let width = before.dims.last().copied().unwrap_or(1).max(1);
        for (a, b) in a.chunks_exact(width).zip(b.chunks_exact(width)) {
            self.rows += 1.0;
            self.agreeing += f64::from(u8::from(largest(a) == largest(b)));
            if !is_embedding(a) {
                self.embedded = None;
            }
            if let Some(rows) = self.embedded.as_mut().filter(|rows| rows.len() < ROWS) {
                rows.push((a.to_vec(), b.to_vec()));
            }
        }
    }

    /// From 0 (classes) or -1 (embeddings) to 1; `None` where no output is a class or has one row for each sample.
    pub fn finish(self) -> Option<f64> {
        if self.rows == 0.0 {
            return None;
        }
        match self.embedded.filter(|rows| rows.len() > 2) {
            Some(rows) => correlation(&rows),
            None => Some(self.agreeing / self.rows),
        }
    }

    /// What agreement may differ by from that on other inputs: one standard deviation of so many rows.
    pub fn uncertainty(share: f64, rows: usize) -> f64 {
        (share * (1.0 - share)).max(0.0).sqrt() / (rows.max(1) as f64).sqrt()
    }
}

/// Scores or an embedding for each sample, or class ids.
fn tells(output: &TensorRef) -> bool {
    if output.dtype.is_float() {
        output.dims.len() == 2 && output.dims.last().is_some_and(|width| *width > 1)
    } else {
        output.dtype.is_integer() && !output.dims.is_empty()
    }
}

/// A vector of length one that points anywhere: probabilities point to where no number is negative.
fn is_embedding(row: &[f64]) -> bool {
    let norm = row.iter().map(|x| x * x).sum::<f64>().sqrt();
    (norm - 1.0).abs() < UNIT && row.iter().any(|x| *x < 0.0)
}

/// Spearman's correlation of the cosines of all pairs of rows, before and after.
fn correlation(rows: &[(Vec<f64>, Vec<f64>)]) -> Option<f64> {
    let (mut before, mut after) = (Vec::new(), Vec::new());
    for (at, (a, b)) in rows.iter().enumerate() {
        for (c, d) in &rows[at + 1..] {
            before.push(cosine(a, c));
            after.push(cosine(b, d));
        }
    }
    let (before, after) = (ranks(&before), ranks(&after));
    let middle = (before.len() as f64 - 1.0) / 2.0;
    let (mut product, mut one, mut other) = (0.0, 0.0, 0.0);
    for (a, b) in before.iter().zip(&after) {
        let (a, b) = (a - middle, b - middle);
        product += a * b;
        one += a * a;
        other += b * b;
    }
    (one > 0.0 && other > 0.0).then(|| product / (one * other).sqrt())
}

fn cosine(a: &[f64], b: &[f64]) -> f64 {
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt().max(f64::MIN_POSITIVE)
}

/// The place of each number among all, from 0; equal ones share theirs.
fn ranks(numbers: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..numbers.len()).collect();
    order.sort_by(|a, b| numbers[*a].total_cmp(&numbers[*b]));
    let mut ranks = vec![0.0; numbers.len()];
    let mut start = 0;
    while start < order.len() {
        let same = |at: &&usize| numbers[**at] == numbers[order[start]];
        let end = start + order[start..].iter().take_while(same).count().max(1);
        let shared = (start + end - 1) as f64 / 2.0;
        order[start..end].iter().for_each(|at| ranks[*at] = shared);
        start = end;
    }
    ranks
}

#[cfg(test)]
mod tests {
    use super::*;

    fn agreement(pairs: &[(TensorRef, TensorRef)]) -> Option<f64> {
        let mut agreement = Agreement::new(&["y".to_owned()], &Ends::default());
        for (a, b) in pairs {
            agreement.add(std::slice::from_ref(a), std::slice::from_ref(b));
        }
        agreement.finish()
    }

    fn row(numbers: &[f32]) -> TensorRef {
        TensorRef::from_f32(vec![1, numbers.len()], numbers)
    }

    #[test]
    fn classes_are_counted() {
        let scores = [
            (row(&[3.0, 1.0]), row(&[2.0, 0.0])),
            (row(&[3.0, 1.0]), row(&[0.0, 2.0])),
        ];
        assert_eq!(agreement(&scores), Some(0.5));
        let ids = |ids: &[i64]| TensorRef::from_i64(vec![ids.len()], ids);
        assert_eq!(
            agreement(&[(ids(&[1, 2, 3, 4]), ids(&[1, 2, 3, 9]))]),
            Some(0.75)
        );
        let map = TensorRef::from_f32(vec![1, 2, 2], &[0.0; 4]);
        assert_eq!(agreement(&[(map.clone(), map)]), None);
    }

    #[test]
    fn embeddings_agree_where_similarities_rank_alike() {
        let turned = |angle: f32| row(&[angle.cos(), angle.sin() - 1e-9]);
        let angles = [-0.1f32, 0.3, 0.9, 2.0];
        // All turned alike: no class stays, and every similarity does.
        let same: Vec<_> = angles
            .iter()
            .map(|x| (turned(*x), turned(x + 1.5)))
            .collect();
        let moved: Vec<_> = angles
            .iter()
            .map(|x| (turned(*x), turned(x * x * 3.0)))
            .collect();
        // Only rows that point anywhere are embeddings.
        let negative = |pairs: &[(TensorRef, TensorRef)]| {
            let flip = |tensor: &TensorRef| {
                let numbers = tensor.to_f32().unwrap();
                row(&[numbers[0], numbers[1], -1e-6])
            };
            let pairs: Vec<_> = pairs.iter().map(|(a, b)| (flip(a), flip(b))).collect();
            agreement(&pairs).unwrap()
        };
        assert!(negative(&same) > 0.999, "{}", negative(&same));
        assert!(negative(&moved) < 0.9, "{}", negative(&moved));
    }

    #[test]
    fn few_rows_say_little() {
        assert!(Agreement::uncertainty(0.95, 16) > Agreement::uncertainty(0.95, 128));
        assert_eq!(ranks(&[3.0, 1.0, 3.0]), [1.5, 0.0, 1.5]);
    }
}
