//! Whether outputs still say the same: the share of rows that keep their class; of embeddings, whose entries are no classes, how
//! well the ranks of pairwise similarities correlate.

use super::drift::largest;
use super::embedding::Embeddings;
use crate::model::{Ends, TensorRef};

/// The agreement of the first output that allows one, run after run.
#[derive(Clone, Debug)]
pub struct Agreement {
    names: Vec<String>,
    ends: Ends,
    of: Option<usize>,
    rows: f64,
    agreeing: f64,
    embedded: Embeddings,
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
            embedded: Embeddings::default(),
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
            self.embedded.refuse();
            self.rows += a.len() as f64;
            self.agreeing += a.iter().zip(&b).filter(|(a, b)| a == b).count() as f64;
            return;
        }
        let width = before.dims.last().copied().unwrap_or(1).max(1);
        for (a, b) in a.chunks_exact(width).zip(b.chunks_exact(width)) {
            self.rows += 1.0;
            self.agreeing += f64::from(u8::from(largest(a) == largest(b)));
            self.embedded.add(a, b);
        }
    }

    /// From 0 (classes) or -1 (embeddings) to 1; `None` where no output is a class or has one row for each sample.
    pub fn finish(self) -> Option<f64> {
        if self.rows == 0.0 {
            return None;
        }
        match self.embedded.count() > 2 {
            true => self.embedded.correlation(),
            false => Some(self.agreeing / self.rows),
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
    }
}
