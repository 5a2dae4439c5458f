//! Layer-adaptive magnitudes (Lee et al., "Layer-adaptive Sparsity for the Magnitude-based Pruning", 2021), on the norms
//! of whole units.

use super::{Curve, Evidence, Norm, Score};
use crate::analysis::Group;

/// The squared norm of a unit over the sum of those of the units that are not smaller: what of a group's weight is lost with
/// it, once the smaller ones are gone. The largest unit of each group scores 1.
#[derive(Clone, Copy, Debug)]
pub struct Lamp;

impl Score for Lamp {
    fn score(&self, evidence: Evidence, groups: &[Group]) -> Vec<Vec<f64>> {
        Norm::L2
            .score(evidence, groups)
            .iter()
            .map(|norms| ratios(norms))
            .collect()
    }

    fn curves(&self, evidence: Evidence, groups: &[Group]) -> Vec<Curve> {
        self.score(evidence, groups)
            .iter()
            .map(|ratios| Curve::from_losses(ratios))
            .collect()
    }
}

fn ratios(norms: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..norms.len()).collect();
    order.sort_by(|a, b| norms[*b].total_cmp(&norms[*a]).then(b.cmp(a)));
    let mut ratios = vec![0.0; norms.len()];
    let mut not_smaller = 0.0;
    for unit in order {
        let square = norms[unit] * norms[unit];
        not_smaller += square;
        ratios[unit] = if not_smaller > 0.0 {
            square / not_smaller
        } else {
            0.0
        };
    }
    ratios
}

#[cfg(test)]
mod tests {
    use super::ratios;

    #[test]
    fn each_is_compared_with_those_not_smaller() {
        // Squares 4, 1, 9: 4 of 13, 1 of 14, 9 of 9.
        assert_eq!(ratios(&[2.0, 1.0, 3.0]), [4.0 / 13.0, 1.0 / 14.0, 1.0]);
        assert_eq!(ratios(&[0.0, 0.0]), [0.0, 0.0]);
    }
}
