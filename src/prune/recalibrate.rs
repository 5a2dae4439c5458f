//! Curves corrected by measurements where the targets lead.

use rayon::prelude::*;

use super::PruneError;
use super::group_error::GroupErrorModel;
use super::paths::Curves;
use super::rounds::Rounds;
use crate::allocate::Target;
use crate::analysis::Selection;
use crate::evaluate::{Stage, Trunk};
use crate::progress::Phase;

/// By how much a curve may be corrected.
const SMALLEST: f64 = 0.1;
const LARGEST: f64 = 10.0;

impl Rounds<'_> {
    /// Single groups were measured with all others whole. Here each is measured where the targets lead: what giving back
    /// its last step would gain corrects its curve, and the way down is found again. The better of the two ways stays.
    pub(super) fn reweigh(
        &self,
        plan: &mut Curves,
        quality: &GroupErrorModel,
        targets: &[Target],
    ) -> Result<(), PruneError> {
        let prepared = quality.prepared();
        let before = plan.curves.clone();
        let path = plan.path(prepared, targets);
        let Ok(choice) = path.meet(targets) else {
            return Ok(());
        };
        let now = quality.drift(&plan.selection(prepared, &choice), self.data, self.bench)?;
        let mut factors = vec![1.0; plan.matched.len()];
        let cut: Vec<usize> = (0..plan.matched.len())
            .filter(|place| !choice.removed[plan.matched[*place].1].is_empty())
            .collect();
        self.work
            .progress
            .begin(Phase::Sensitivity, cut.len() as u64);
        // How many units are gone with the last step given back, and the choice with it.
        let given_back = |place: usize| -> (usize, Selection) {
            let group = plan.matched[place].1;
            let (units, gone) = (plan.curves[place].order.len(), choice.removed[group].len());
            let align = plan.widths[place].align.max(1) as usize;
            let back = units
                - ((units - gone) / align + 1)
                    .saturating_mul(align)
                    .min(units);
            let mut less = choice.clone();
            less.removed[group] = path.alone(place, back).removed[group].clone();
            (back, plan.selection(prepared, &less))
        };
        let (all, trunk) = (plan.selection(prepared, &choice), Trunk::new(prepared));
        let model = quality.cut(&all)?;
        let forks: Vec<usize> = cut
            .iter()
            .map(|place| trunk.fork(&all, &given_back(*place).1))
            .collect();
        let mut stage = Stage::default();
        for (fork, members) in trunk.stages(&forks) {
            stage.advance(fork, &trunk, &model, self.data, self.runtime, self.work)?;
            let factor = |place: usize| -> Result<Option<f64>, PruneError> {
                if self.work.progress.stop() {
                    return Err(PruneError::Cancelled);
                }
                let (back, less) = given_back(place);
                let drift = stage.drift(&quality.cut(&less)?, self.data, self.bench)?;
                let foreseen = plan.curves[place].error
                    [choice.removed[plan.matched[place].1].len()]
                    - plan.curves[place].error[back];
                self.work.progress.advance(1);
                // Differences of measurements are noisy: go half of the way.
                Ok((foreseen > 0.0).then(|| {
                    ((now * now - drift * drift) / foreseen)
                        .clamp(SMALLEST, LARGEST)
                        .sqrt()
                }))
            };
            let found: Vec<Option<f64>> = members
                .par_iter()
                .map(|at| factor(cut[*at]))
                .collect::<Result<_, _>>()?;
            members
                .iter()
                .zip(found)
                .for_each(|(at, found)| factors[cut[*at]] = found.unwrap_or(1.0));
        }
        // What is not cut was foreseen as well as the others on the whole.
        let typical = median(
            factors
                .iter()
                .copied()
                .filter(|factor| *factor != 1.0)
                .collect(),
        );
        for (curve, factor) in plan.curves.iter_mut().zip(&factors) {
            let factor = if *factor == 1.0 { typical } else { *factor };
            curve.error.iter_mut().for_each(|error| *error *= factor);
        }
        let again = plan.path(prepared, targets).meet(targets);
        let better = match again {
            Ok(choice) => {
                quality.drift(&plan.selection(prepared, &choice), self.data, self.bench)? < now
            }
            Err(_) => false,
        };
        if !better {
            plan.curves = before;
        }
        tracing::debug!(
            now,
            better,
            ?factors,
            "curves measured where the targets lead"
        );
        Ok(())
    }
}

fn median(mut list: Vec<f64>) -> f64 {
    list.sort_by(f64::total_cmp);
    list.get(list.len() / 2).copied().unwrap_or(1.0)
}
