//! Curves corrected by measurements where the targets lead.

use rayon::prelude::*;

use super::PruneError;
use super::group_error::GroupErrorModel;
use super::paths::Curves;
use super::rounds::Rounds;
use crate::allocate::{Choice, Path, Target};
use crate::analysis::Selection;
use crate::evaluate::{Stage, Trunk};
use crate::progress::Phase;
use crate::workspace::Workspace;

/// By how much a curve may be corrected.
const SMALLEST: f64 = 0.1;
const LARGEST: f64 = 10.0;

/// Where the targets lead.
struct WayEnd<'a> {
    plan: &'a Curves,
    prepared: &'a Workspace,
    path: Path<'a>,
    choice: Choice,
}

impl WayEnd<'_> {
    /// The places of the groups that lose units.
    fn cut(&self) -> Vec<usize> {
        (0..self.plan.matched.len())
            .filter(|place| self.gone(*place) > 0)
            .collect()
    }

    /// How many units a group loses.
    fn gone(&self, place: usize) -> usize {
        self.choice.removed[self.plan.matched[place].1].len()
    }

    fn selection(&self) -> Selection {
        self.plan.selection(self.prepared, &self.choice)
    }

    /// How many units of a group are gone with its last step given back, and the choice with it.
    fn given_back(&self, place: usize) -> (usize, Selection) {
        let group = self.plan.matched[place].1;
        let (units, gone) = (self.plan.curves[place].order.len(), self.gone(place));
        let align = self.plan.widths[place].align.max(1) as usize;
        let back = units
            - ((units - gone) / align + 1)
                .saturating_mul(align)
                .min(units);
        let mut less = self.choice.clone();
        less.removed[group] = self.path.alone(place, back).removed[group].clone();
        (back, self.plan.selection(self.prepared, &less))
    }

    /// What a group's curve says of its last step. `back`: how many units are gone without it.
    fn foreseen(&self, place: usize, back: usize) -> f64 {
        let error = &self.plan.curves[place].error;
        error[self.gone(place)] - error[back]
    }
}

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
        let path = plan.path(prepared, targets);
        let Ok(choice) = path.meet(targets) else {
            return Ok(());
        };
        let now = quality.drift(&plan.selection(prepared, &choice), self.data, self.bench)?;
        let end = WayEnd {
            plan,
            prepared,
            path,
            choice,
        };
        let factors = self.factors(&end, quality, now)?;
        let before = plan.curves.clone();
        correct(plan, &factors);
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

    /// What each curve is to be multiplied by; 1 where nothing was measured. `now`: the drift at the end.
    fn factors(
        &self,
        end: &WayEnd,
        quality: &GroupErrorModel,
        now: f64,
    ) -> Result<Vec<f64>, PruneError> {
        let mut factors = vec![1.0; end.plan.matched.len()];
        let cut = end.cut();
        self.work
            .progress
            .begin(Phase::Sensitivity, cut.len() as u64);
        let (all, trunk) = (end.selection(), Trunk::new(end.prepared));
        let model = quality.cut(&all)?;
        let forks: Vec<usize> = cut
            .iter()
            .map(|place| trunk.fork(&all, &end.given_back(*place).1))
            .collect();
        let mut stage = Stage::default();
        for (fork, members) in trunk.stages(&forks) {
            stage.advance(fork, &trunk, &model, self.setup())?;
            let found: Vec<Option<f64>> = members
                .par_iter()
                .map(|at| self.factor(end, cut[*at], quality, now, &stage))
                .collect::<Result<_, _>>()?;
            members
                .iter()
                .zip(found)
                .for_each(|(at, found)| factors[cut[*at]] = found.unwrap_or(1.0));
        }
        Ok(factors)
    }

    /// The same for one group; `None` where its curve foresees nothing of its last step.
    fn factor(
        &self,
        end: &WayEnd,
        place: usize,
        quality: &GroupErrorModel,
        now: f64,
        stage: &Stage,
    ) -> Result<Option<f64>, PruneError> {
        if self.work.progress.stop() {
            return Err(PruneError::Cancelled);
        }
        let (back, less) = end.given_back(place);
        let drift = stage.drift(&quality.cut(&less)?, self.data, self.bench)?;
        let foreseen = end.foreseen(place, back);
        self.work.progress.advance(1);
        // Differences of measurements are noisy: go half of the way.
        Ok((foreseen > 0.0).then(|| {
            ((now * now - drift * drift) / foreseen)
                .clamp(SMALLEST, LARGEST)
                .sqrt()
        }))
    }
}

/// Multiplies curves by what was found. What is not cut was foreseen as well as the others on the whole.
fn correct(plan: &mut Curves, factors: &[f64]) {
    let typical = median(
        factors
            .iter()
            .copied()
            .filter(|factor| *factor != 1.0)
            .collect(),
    );
    for (curve, factor) in plan.curves.iter_mut().zip(factors) {
        let factor = if *factor == 1.0 { typical } else { *factor };
        curve.error.iter_mut().for_each(|error| *error *= factor);
    }
}

fn median(mut list: Vec<f64>) -> f64 {
    list.sort_by(f64::total_cmp);
    list.get(list.len() / 2).copied().unwrap_or(1.0)
}
