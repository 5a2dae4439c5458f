//! What calibration inputs tell of each group: error curves, scaled to what the group does to the model's outputs.

use rayon::prelude::*;

use super::PruneError;
use super::group_error::GroupErrorModel;
use super::request::Request;
use crate::allocate::{Choice, Width};
use crate::analysis::{Group, Kind, Selection};
use crate::calibrate::{Dataset, MaskDerivatives};
use crate::evaluate::{Baseline, RunSetup, Stage, Trunk};
use crate::progress::{Phase, Work};
use crate::score::{ByReaders, Calibrated, Curve, Evidence, Needs, readers, swap_units};

/// Shares of a group's units that go when its effect is measured.
const LEVELS: [f64; 2] = [0.25, 0.5];
/// Experts of one layer, at most, of which each is taken out alone to see what it does.
const MOST_EXPERTS: usize = 256;

/// Whether what goes with each unit of a group is measured: of experts a router chooses some, which no product tells. A score by
/// weights says by itself what goes first.
fn is_measured_alone(request: &Request, group: &Group) -> bool {
    let few = group.kind == Kind::Experts && group.units.len() <= MOST_EXPERTS;
    few && request.score.needs() != Needs::Weights
}

impl GroupErrorModel<'_> {
    /// One curve for each candidate group, by the score asked for, and what the user should know of them. `scaled`: whether
    /// [`scale`](Self::scale) follows.
    pub fn curves(
        &self,
        candidates: &[usize],
        request: &Request,
        (derivatives, scaled): (Option<&MaskDerivatives>, bool),
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
            .filter_map(|at| groups.get(at))
            .filter(|group| !(scaled && is_measured_alone(request, group)))
            .map(|group| group.id.as_str())
            .collect();
        (curves, request.remark(&silent))
    }

    /// Scales curves to the square of the output's drift when the group alone is cut, the readers making up for it. Experts get
    /// curves of what each does to the outputs.
    pub fn scale(
        &self,
        candidates: &[usize],
        (curves, widths): (&mut [Curve], &[Width]),
        request: &Request,
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
                    let group = &self.prepared.analysis.groups[candidates[*at]];
                    let measure = match is_measured_alone(request, group) {
                        true => Sensitivity::alone,
                        false => Sensitivity::measure,
                    };
                    let found = measure((&curves[*at], group.least), &widths[*at], &drift)?;
                    tracing::debug!(gone = ?found.whole, factor = ?found.factor, group = group.id, "measured");
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
    /// The curve of what each unit does alone, where that was measured.
    alone: Option<Curve>,
}

impl Sensitivity {
    /// By the curve of what each unit does alone.
    fn alone(
        (curve, least): (&Curve, usize),
        width: &Width,
        drift: &dyn Fn(&[u32]) -> Result<f64, PruneError>,
    ) -> Result<Self, PruneError> {
        let units = 0..curve.order.len() as u32;
        let losses: Vec<f64> = units.map(|unit| drift(&[unit])).collect::<Result<_, _>>()?;
        if !losses.iter().all(|loss| loss.is_finite()) {
            return Self::measure((curve, least), width, drift);
        }
        let alone = Curve::from_losses(&losses);
        let found = Self::measure((&alone, least), width, drift)?;
        Ok(Sensitivity {
            alone: Some(alone),
            ..found
        })
    }

    /// `drift` gives the square of the drift with some units gone; so many stay `least`.
    fn measure(
        (curve, least): (&Curve, usize),
        width: &Width,
        drift: &dyn Fn(&[u32]) -> Result<f64, PruneError>,
    ) -> Result<Self, PruneError> {
        let (align, units) = (width.align.max(1) as usize, curve.order.len());
        let (mut measured, mut foreseen) = (0.0, 0.0);
        for level in LEVELS {
            let kept = (((units as f64 * (1.0 - level)).round() as usize).max(least))
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
        Ok(Sensitivity {
            factor,
            whole,
            alone: None,
        })
    }

    fn apply(self, curve: &mut Curve) {
        if let Some(alone) = self.alone {
            *curve = alone;
        }
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
