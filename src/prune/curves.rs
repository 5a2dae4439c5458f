//! What calibration inputs tell of each group: error curves, scaled to what the group does to the model's outputs.

use rayon::prelude::*;

use super::PruneError;
use super::group_error::GroupErrorModel;
use super::request::Request;
use crate::allocate::{Choice, Width};
use crate::analysis::{Group, Selection};
use crate::calibrate::{Dataset, MaskDerivatives};
use crate::evaluate::{Baseline, RunSetup, Stage, Trunk};
use crate::progress::{Phase, Work};
use crate::score::{ByReaders, Calibrated, Curve, Evidence, readers, swap_units};

/// Shares of a group's units that go when its effect is measured.
const LEVELS: [f64; 2] = [0.25, 0.5];

impl GroupErrorModel<'_> {
    /// One curve for each candidate group, by the score asked for, and what the user should know of them.
    pub fn curves(
        &self,
        candidates: &[usize],
        request: &Request,
        derivatives: Option<&MaskDerivatives>,
        work: &Work,
    ) -> (Vec<Curve>, Option<String>) {
        work.progress.begin(Phase::Score, candidates.len() as u64);
        let evidence = Evidence {
            model: &self.prepared.working,
            analysis: &self.prepared.analysis,
        };
        let calibrated = Calibrated {
            evidence,
            views: &self.views,
            statistics: Some(&self.statistics),
            derivatives,
        };
        let groups: Vec<Group> = candidates
            .iter()
            .map(|group| self.prepared.analysis.groups[*group].clone())
            .collect();
        let scorer = request.score.score();
        let mut curves = scorer.curves(evidence, &groups);
        let mut silent = scorer.silent(evidence, &groups);
        for (at, (group, curve)) in groups.iter().zip(&mut curves).enumerate() {
            match scorer.by_readers(&calibrated, group) {
                ByReaders::Curve(found) => *curve = found,
                ByReaders::Silent => silent.push(at),
                ByReaders::Unused => {}
            }
            work.progress.advance(1);
        }
        let silent: Vec<&str> = silent
            .into_iter()
            .filter_map(|at| Some(groups.get(at)?.id.as_str()))
            .collect();
        (curves, request.remark(&silent))
    }

    /// Scales curves to the square of the output's drift when the group alone is cut, the readers making up for it.
    pub fn scale(
        &self,
        candidates: &[usize],
        curves: &mut [Curve],
        widths: &[Width],
        bench: &Baseline,
        setup: RunSetup,
    ) -> Result<(), PruneError> {
        let (data, work) = (setup.data, setup.work);
        work.progress
            .begin(Phase::Sensitivity, candidates.len() as u64);
        // What the model has lost already counts for no group.
        let before = bench.quick_drift(&self.prepared.working, data)?;
        let trunk = Trunk::new(self.prepared);
        let whole = Selection::default();
        let forks: Vec<usize> = candidates
            .iter()
            .map(|group| trunk.fork(&whole, &self.alone(*group, &[0])))
            .collect();
        let mut stage = Stage::default();
        for (place, members) in trunk.stages(&forks) {
            stage.advance(place, &trunk, &self.prepared.working, setup)?;
            // A model is made ready on one core: two at a time keep all busy.
            let found: Vec<Sensitivity> = members
                .par_iter()
                .map(|at| {
                    let drift = |order: &[u32]| -> Result<f64, PruneError> {
                        let drift = stage.drift(&self.cut(&self.alone(candidates[*at], order))?, data, bench)?;
                        Ok((drift * drift - before * before).max(0.0))
                    };
                    if work.progress.stop() {
                        return Err(PruneError::Cancelled);
                    }
                    let found = Sensitivity::measure(&curves[*at], &widths[*at], drift)?;
                    tracing::debug!(gone = ?found.whole, factor = ?found.factor, group = self.prepared.analysis.groups[candidates[*at]].id, "measured");
                    work.progress.advance(1);
                    Ok(found)
                })
                .collect::<Result<_, _>>()?;
            members
                .into_iter()
                .zip(found)
                .for_each(|(at, found)| found.apply(&mut curves[at]));
        }
        Ok(())
    }

    /// The selection of some units of one group.
    fn alone(&self, group: usize, units: &[u32]) -> Selection {
        let mut removed = vec![Vec::new(); self.prepared.analysis.groups.len()];
        removed[group] = units.to_vec();
        removed[group].sort_unstable();
        self.prepared.select(&removed)
    }

    /// The same choice with units swapped where the readers then lose less, if that moves the outputs less on inputs that
    /// nothing was fitted to.
    pub fn swapped(
        &self,
        choice: Choice,
        request: &Request,
        data: &Dataset,
        bench: &Baseline,
    ) -> Result<Choice, PruneError> {
        if !request.score.score().swaps() {
            return Ok(choice);
        }
        let evidence = Evidence {
            model: &self.prepared.working,
            analysis: &self.prepared.analysis,
        };
        let calibrated = Calibrated {
            evidence,
            views: &self.views,
            statistics: Some(&self.statistics),
            derivatives: None,
        };
        let mut other = choice.clone();
        for (group, removed) in self.prepared.analysis.groups.iter().zip(&mut other.removed) {
            // Units of several classes may not cost the same.
            let alike = group.units.iter().all(|unit| unit.len() == 1) && group.classes.len() == 1;
            if !alike || removed.is_empty() || removed.len() == group.units.len() {
                continue;
            }
            if let Some(better) =
                swap_units(&readers(&calibrated, group), removed, group.units.len())
            {
                *removed = better;
            }
        }
        if other == choice {
            return Ok(choice);
        }
        let drift =
            |choice: &Choice| self.drift(&self.prepared.select(&choice.removed), data, bench);
        let (before, after) = (drift(&choice)?, drift(&other)?);
        tracing::debug!(before, after, "units swapped");
        Ok(if after < before { other } else { choice })
    }
}

/// What a group does to the outputs, against what its curve foresees.
struct Sensitivity {
    /// What the curve's errors are to be multiplied by.
    factor: Option<f64>,
    /// The square of the drift with all units gone, where that may be.
    whole: Option<f64>,
}

impl Sensitivity {
    /// `drift` gives the square of the drift with some units gone.
    fn measure(
        curve: &Curve,
        width: &Width,
        drift: impl Fn(&[u32]) -> Result<f64, PruneError>,
    ) -> Result<Self, PruneError> {
        let (align, units) = (width.align.max(1) as usize, curve.order.len());
        let (mut measured, mut foreseen) = (0.0, 0.0);
        for level in LEVELS {
            let kept = (((units as f64 * (1.0 - level)).round() as usize).max(1))
                .next_multiple_of(align)
                .min(units);
            if kept == units {
                continue;
            }
            measured += drift(&curve.order[..units - kept])?;
            foreseen += curve.error[units - kept];
        }
        let factor = (foreseen > 0.0 && measured.is_finite()).then(|| measured / foreseen);
        // What a whole branch does is not to be told from what parts of it do.
        let whole = if width.whole {
            Some(drift(&curve.order)?)
        } else {
            None
        };
        Ok(Sensitivity { factor, whole })
    }

    fn apply(&self, curve: &mut Curve) {
        if let Some(factor) = self.factor {
            curve.error.iter_mut().for_each(|error| *error *= factor);
        }
        if let Some((gone, last)) = self
            .whole
            .filter(|gone| gone.is_finite())
            .zip(curve.error.last_mut())
        {
            *last = gone;
            curve
                .error
                .iter_mut()
                .for_each(|error| *error = error.min(gone));
        }
    }
}
