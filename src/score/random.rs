//! No knowledge at all: the baseline that any score must beat, and the plans that exactness is tested with.

use rand::Rng;

use super::{Curve, Evidence, Score};
use crate::analysis::Group;
use crate::rng::rng;

/// Uniform random saliencies.
#[derive(Clone, Copy, Debug)]
pub struct Random {
    /// The same seed gives the same numbers for the same groups.
    pub seed: u64,
}

impl Score for Random {
    fn score(&self, _: Evidence, groups: &[Group]) -> Vec<Vec<f64>> {
        let group = |group: &Group| {
            let mut rng = rng(self.seed, &group.id);
            group.units.iter().map(|_| rng.random::<f64>()).collect()
        };
        groups.iter().map(group).collect()
    }

    fn curves(&self, evidence: Evidence, groups: &[Group]) -> Vec<Curve> {
        self.score(evidence, groups)
            .iter()
            .map(|saliency| Curve::from_energy(saliency))
            .collect()
    }
}
