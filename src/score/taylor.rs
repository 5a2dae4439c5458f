//! What the outputs lose with a unit to first order. A mask of 1 on a unit becomes 0: an output y moves by about −∂y/∂mask, and
//! by Σ (∂y/∂mask)² in the square of all outputs. That sum is the mean of (∂(ε·y)/∂mask)² over random signs ε, so each input
//! costs one pass back (Fisher information of masks: Kwon et al., *A fast post-training pruning framework for transformers*,
//! 2022; Taylor expansion: Molchanov et al., *Importance estimation for neural network pruning*, 2019). The derivative by a mask
//! on a product's column is Σ w · ∂/∂w over the column's weights; those of all columns of a unit add up before the square.

use super::columns::columns_by_unit;
use super::{ByReaders, Calibrated, Curve, Evidence, Norm, Score};
use crate::analysis::Group;

/// The squared first-order change of the outputs. Without derivatives it ranks by [`Norm::L2`].
#[derive(Clone, Copy, Debug)]
pub struct Taylor;

impl Score for Taylor {
    fn score(&self, evidence: Evidence, groups: &[Group]) -> Vec<Vec<f64>> {
        Norm::L2.score(evidence, groups)
    }

    fn by_readers(&self, calibrated: &Calibrated, group: &Group) -> ByReaders {
        curve(calibrated, group).into()
    }
}

/// `None`: no reader of the group, or one whose derivatives are not known.
pub(super) fn curve(calibrated: &Calibrated, group: &Group) -> Option<Curve> {
    let derivatives = calibrated.derivatives?;
    let readers = columns_by_unit(calibrated, group);
    let known = readers.iter().map(|(at, columns)| {
        let numbers = derivatives.of.get(*at)?.as_deref()?;
        Some((numbers, columns))
    });
    let known: Vec<(&[f32], &Vec<Vec<usize>>)> = known.collect::<Option<_>>()?;
    if known.is_empty() || derivatives.samples == 0 {
        return None;
    }
    let of_unit = |unit: usize| {
        let of_sample = |sample: usize| -> f64 {
            let sum = |(numbers, columns): &(&[f32], &Vec<Vec<usize>>)| -> f64 {
                let width = numbers.len() / derivatives.samples;
                let own = &numbers[sample * width..][..width];
                columns[unit]
                    .iter()
                    .map(|column| f64::from(own[*column]))
                    .sum()
            };
            known.iter().map(sum).sum()
        };
        let squares = (0..derivatives.samples).map(|sample| of_sample(sample).powi(2));
        squares.sum::<f64>() / derivatives.samples as f64
    };
    let losses: Vec<f64> = (0..group.units.len()).map(of_unit).collect();
    Some(Curve::from_losses(&losses))
}
