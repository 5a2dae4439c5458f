//! Embeddings: vectors whose entries are no classes. What counts is which of them lie near each other.

/// How far the norm of an embedding may be from 1.
const UNIT: f64 = 1e-3;
/// Rows of embeddings that are held against each other, at most.
const ROWS: usize = 512;

/// Rows of one output of both models, as long as they are embeddings.
#[derive(Clone, Debug)]
pub struct Embeddings {
    /// Before and after; `None` once a row was something else.
    rows: Option<Vec<(Vec<f64>, Vec<f64>)>>,
}

impl Default for Embeddings {
    fn default() -> Self {
        Embeddings {
            rows: Some(Vec::new()),
        }
    }
}

impl Embeddings {
    /// Adds what both models gave for the same sample.
    pub fn add(&mut self, before: &[f64], after: &[f64]) {
        if !is_embedding(before) {
            self.rows = None;
        }
        if let Some(rows) = self.rows.as_mut().filter(|rows| rows.len() < ROWS) {
            rows.push((before.to_vec(), after.to_vec()));
        }
    }

    /// Whether all rows so far are embeddings.
    pub fn hold(&self) -> bool {
        self.rows.is_some()
    }

    /// Notes that the output is something else.
    pub fn refuse(&mut self) {
        self.rows = None;
    }

    /// How many rows there are, all of them embeddings: 0 where some are not.
    pub fn count(&self) -> usize {
        self.rows.as_ref().map_or(0, Vec::len)
    }

    /// Spearman's correlation of the cosines of all pairs of rows before and after, from -1 to 1; `None` where these are fewer
    /// than three, all alike, or no embeddings.
    pub fn correlation(&self) -> Option<f64> {
        let rows = self.rows.as_ref().filter(|rows| rows.len() > 2)?;
        let (before, after): (Vec<&[f64]>, Vec<&[f64]>) =
            rows.iter().map(|(a, b)| (&**a, &**b)).unzip();
        let (before, after) = (ranks(&cosines(&before)), ranks(&cosines(&after)));
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
}

/// A vector of length one that points anywhere: probabilities point to where no number is negative.
fn is_embedding(row: &[f64]) -> bool {
    (dot(row, row).sqrt() - 1.0).abs() < UNIT && row.iter().any(|x| *x < 0.0)
}

/// The cosines of all pairs of rows.
fn cosines(rows: &[&[f64]]) -> Vec<f64> {
    let squares: Vec<f64> = rows.iter().map(|row| dot(row, row)).collect();
    let mut cosines = Vec::with_capacity(rows.len() * rows.len().saturating_sub(1) / 2);
    for (at, (a, square)) in rows.iter().zip(&squares).enumerate() {
        let others = rows[at + 1..].iter().zip(&squares[at + 1..]);
        let cosine = |(b, other): (&&[f64], &f64)| {
            dot(a, b) / (square * other).sqrt().max(f64::MIN_POSITIVE)
        };
        cosines.extend(others.map(cosine));
    }
    cosines
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
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

    #[test]
    fn equal_numbers_share_their_rank() {
        assert_eq!(ranks(&[3.0, 1.0, 3.0]), [1.5, 0.0, 1.5]);
    }

    #[test]
    fn rows_of_another_length_or_without_sign_are_no_embeddings() {
        let correlation = |rows: [[f64; 2]; 3]| {
            let mut found = Embeddings::default();
            rows.iter().for_each(|row| found.add(row, row));
            (found.count(), found.correlation())
        };
        let (count, same) = correlation([[0.6, -0.8], [-0.8, 0.6], [-1.0, 0.0]]);
        assert_eq!((count, same.map(f64::round)), (3, Some(1.0)));
        // Scores, and probabilities that are certain.
        assert_eq!(
            correlation([[0.6, -0.8], [-3.0, 0.6], [-1.0, 0.0]]),
            (0, None)
        );
        assert_eq!(correlation([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]]), (0, None));
    }
}
