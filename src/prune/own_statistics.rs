//! Normalisations by the statistics of the inputs at hand.
//!
//! A batch normalisation subtracts means and divides by deviations that training saw. Made-up inputs have others, layer after
//! layer, so that activations end up where no real input takes them. Normalised by statistics of their own, each channel has the
//! mean and the scale that training gave it, and what is measured and fitted behind it speaks of real inputs as well.

use super::PruneError;
use super::stages::StandIn;
use crate::calibrate::Dataset;
use crate::evaluate::{Baseline, EvaluateError};
use crate::inputs::{GatherError, run_in_order};
use crate::model::{Index, Model, TensorRef, ValueId};
use crate::ops::meaning;
use crate::progress::{Phase, Work};
use crate::run::{Chosen, Runtime, Tensors};
use crate::workspace::Workspace;

/// Inputs that statistics are taken of.
const RUNS: usize = 32;
/// Passes at most: each is right for one normalisation more in a row, and nearly right for those behind.
const PASSES: usize = 8;
/// What deviations may still change by, as a share, when passes end.
const SETTLED: f64 = 0.02;
/// A channel whose variance is less than this share of that in training is silent on made-up inputs, and keeps what it had.
const SILENT: f64 = 1e-4;

/// One normalisation: what it reads, and where its statistics are stored.
struct Normalisation {
    data: String,
    mean: ValueId,
    variance: ValueId,
}

/// A model whose normalisations have other statistics than in the file.
#[derive(Debug)]
pub(super) struct OwnStatistics {
    pub model: Model,
    /// Names of the constants that were changed.
    names: Vec<String>,
}

impl OwnStatistics {
    /// The model with statistics of some inputs; `None` where nothing is normalised by stored ones, or it does not run.
    pub fn take(
        model: &Model,
        data: &Dataset,
        runtime: &dyn Runtime,
        work: &Work,
    ) -> Result<Option<Self>, PruneError> {
        let found = normalisations(model);
        let Some(example) = data.inputs.example()?.filter(|_| !found.is_empty()) else {
            return Ok(None);
        };
        let mut own = model.clone();
        let runs: Vec<usize> = (0..data.inputs.count().min(RUNS)).collect();
        work.progress
            .begin(Phase::Calibrate, (PASSES * runs.len()) as u64);
        for _ in 0..PASSES.min(found.len()) {
            let Some(sums) = pass(&own, &found, (data, &example, &runs), runtime, work)? else {
                return Ok(None);
            };
            let changes = found.iter().zip(&sums);
            let changed = changes
                .filter_map(|(normalisation, sums)| normalisation.store(model, &mut own, sums))
                .fold(0.0, f64::max);
            if changed < SETTLED {
                break;
            }
        }
        own.reindex()?;
        let name = |value: &ValueId| model.index().value(*value).name.clone();
        let names = found
            .iter()
            .flat_map(|one| [name(&one.mean), name(&one.variance)]);
        Ok(Some(OwnStatistics {
            names: names.collect(),
            model: own,
        }))
    }

    /// Gives a pruned form of the model the statistics of a cut of the original back.
    pub fn restore(&self, pruned: &mut Model, cut: &Model) {
        for name in &self.names {
            let value = |model: &Model| model.index().main_values().get(name.as_str()).copied();
            let Some(stored) = value(cut).and_then(|value| cut.constant(value)) else {
                continue;
            };
            if let Some(tensor) = value(pruned).and_then(|value| pruned.tensor_proto_mut(value)) {
                *tensor = stored.to_proto(name);
            }
        }
    }

    /// What stands in for the original where something is measured or fitted; `None`: it does not run.
    pub fn stand_in<'a>(
        self,
        data: &Dataset,
        workspace: Workspace,
        runtime: &'a dyn Runtime,
        work: &Work,
    ) -> Result<Option<StandIn<'a>>, PruneError> {
        let Some(example) = data.inputs.example()? else {
            return Ok(None);
        };
        let session = runtime.prepare_variant(&self.model, &example);
        let chosen = Chosen { runtime, session };
        let baseline = match Baseline::new(&self.model, data, chosen, true, work) {
            Err(EvaluateError::Original(GatherError::Run(_))) => return Ok(None),
            other => other?,
        };
        Ok(baseline.failure().is_none().then_some(StandIn {
            own: self,
            workspace,
            baseline,
        }))
    }
}

impl Normalisation {
    /// Stores moments, and says by what share deviations changed, for the middle one of the channels.
    fn store(&self, original: &Model, own: &mut Model, sums: &[Moments]) -> Option<f64> {
        let stored = |value: ValueId| original.constant(value)?.to_f64();
        let (mut mean, mut variance) = (stored(self.mean)?, stored(self.variance)?);
        let before = own.constant(self.variance)?.to_f64()?;
        if sums.len() != mean.len() || sums.len() != variance.len() {
            return None;
        }
        for (channel, sums) in sums.iter().enumerate() {
            let found = sums.variance();
            if found > SILENT * variance[channel] && found.is_finite() {
                (mean[channel], variance[channel]) = (sums.mean(), found);
            }
        }
        let mut changes: Vec<f64> = variance
            .iter()
            .zip(&before)
            .map(|(after, before)| ((after / before.max(f64::MIN_POSITIVE)).sqrt() - 1.0).abs())
            .collect();
        changes.sort_by(f64::total_cmp);
        for (value, numbers) in [(self.mean, mean), (self.variance, variance)] {
            let name = original.index().value(value).name.clone();
            let dims = original.constant(value)?.dims;
            let numbers: Vec<f32> = numbers.iter().map(|number| *number as f32).collect();
            let tensor = TensorRef::from_f32(dims, &numbers);
            *own.tensor_proto_mut(value)? = tensor.to_proto(&name);
        }
        changes.get(changes.len() / 2).copied()
    }
}

/// Sums of one channel.
#[derive(Clone, Debug, Default)]
struct Moments {
    count: f64,
    sum: f64,
    squares: f64,
}

impl Moments {
    fn mean(&self) -> f64 {
        self.sum / self.count
    }

    fn variance(&self) -> f64 {
        self.squares / self.count - self.mean().powi(2)
    }
}

/// The normalisations of the main graph by constants of their own, in single precision.
fn normalisations(model: &Model) -> Vec<Normalisation> {
    let index = model.index();
    let one = |node: &crate::model::NodeId| {
        let statistics = meaning(model.node(*node)).statistics?;
        let input = |at: u32| index.node(*node).inputs.get(at as usize).copied().flatten();
        let own = |at: u32| {
            let value = input(at)?;
            let stored = model.tensor_proto(value)?;
            let alone = index.value(value).readers.len() == 1;
            (alone && TensorRef::from_proto(stored).ok()?.dtype == crate::proto::Dtype::Float)
                .then_some(value)
        };
        let data = input(0).filter(|data| model.constant(*data).is_none())?;
        Some(Normalisation {
            data: index.value(data).name.clone(),
            mean: own(statistics.mean)?,
            variance: own(statistics.variance)?,
        })
    };
    index
        .graph(Index::MAIN)
        .nodes
        .iter()
        .filter_map(one)
        .collect()
}

/// Moments of what each normalisation reads, channel by channel; `None` where the model does not run so.
fn pass(
    model: &Model,
    found: &[Normalisation],
    (data, example, runs): (&Dataset, &Tensors, &[usize]),
    runtime: &dyn Runtime,
    work: &Work,
) -> Result<Option<Vec<Vec<Moments>>>, PruneError> {
    let mut taps: Vec<String> = found.iter().map(|one| one.data.clone()).collect();
    taps.sort();
    taps.dedup();
    taps.retain(|tap| !example.contains_key(tap));
    let Ok(session) = runtime.prepare(model, example, &taps) else {
        return Ok(None);
    };
    let outputs = model.index().graph(Index::MAIN).outputs.len();
    let mut sums: Vec<Vec<Moments>> = vec![Vec::new(); found.len()];
    let ran = run_in_order(&*session, &*data.inputs, runs, work, |_, results| {
        for result in &results {
            for (one, sums) in found.iter().zip(&mut sums) {
                let tap = taps.iter().position(|tap| *tap == one.data);
                if let Some(tensor) = tap.and_then(|tap| result.get(outputs + tap)) {
                    add(sums, tensor);
                }
            }
        }
        Ok(())
    });
    match ran {
        Err(GatherError::Run(_)) => Ok(None),
        other => other.map(|()| Some(sums)).map_err(PruneError::from),
    }
}

/// Adds the numbers of [n, channels, …].
fn add(sums: &mut Vec<Moments>, tensor: &TensorRef) {
    let (Some(channels), Some(numbers)) = (tensor.dims.get(1).copied(), tensor.to_f32()) else {
        return;
    };
    sums.resize(channels, Moments::default());
    let inner = tensor.dims[2..].iter().product::<usize>().max(1);
    for (row, chunk) in numbers.chunks(inner).enumerate() {
        let Some(sums) = sums.get_mut(row % channels.max(1)) else {
            return;
        };
        sums.count += chunk.len() as f64;
        sums.sum += chunk.iter().map(|x| f64::from(*x)).sum::<f64>();
        sums.squares += chunk.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::text;
    use crate::run::TractRuntime;

    const GRAPH: &str = "opset 17\ninput x f32[1,2,6,6]\nconst w f32[3,2,1,1] = 1,0,0,1,1,-1\nconst v f32[2,3,1,1] = 1,1,0,0,1,1
        const s f32[3] = 1\nconst b f32[3] = 0.5\nconst m f32[3] = 9\nconst d f32[3] = 400
        const t f32[2] = 2\nconst c f32[2] = 0\nconst n f32[2] = 0\nconst e f32[2] = 1
        p = Conv(x, w)\nq = BatchNormalization(p, s, b, m, d)\nr = Relu(q)
        u = Conv(r, v)\ny = BatchNormalization(u, t, c, n, e)\noutput y";

    #[test]
    fn every_normalisation_gets_the_moments_of_what_it_reads() {
        let model = text::model(GRAPH).unwrap();
        let input = |run: usize| {
            let number = |at: usize| ((at * 37 + run * 11) % 101) as f32 / 25.0 - 1.0;
            let numbers: Vec<f32> = (0..72).map(number).collect();
            Tensors::from_iter([(
                "x".to_owned(),
                TensorRef::from_f32(vec![1, 2, 6, 6], &numbers),
            )])
        };
        let inputs: Vec<Tensors> = (0..12).map(input).collect();
        let data = Dataset::new(std::sync::Arc::new(inputs.clone()));
        let (runtime, work) = (TractRuntime::new(true), Work::new(&()));
        let own = OwnStatistics::take(&model, &data, &runtime, &work)
            .unwrap()
            .unwrap();
        let session = runtime.prepare(&own.model, &inputs[0], &[]).unwrap();
        let mut sums = Vec::new();
        for input in &inputs {
            add(&mut sums, &session.run(input).unwrap()[0]);
        }
        for channel in &sums {
            assert!(channel.mean().abs() < 0.01, "{channel:?}");
            assert!((channel.variance() / 4.0 - 1.0).abs() < 0.01, "{channel:?}");
        }
        let (mut pruned, stored) = (own.model.clone(), |model: &Model| {
            model
                .constant(model.index().main_values()["d"])
                .unwrap()
                .to_f32()
                .unwrap()
        });
        assert_ne!(stored(&pruned), stored(&model));
        own.restore(&mut pruned, &model);
        assert_eq!(stored(&pruned), stored(&model));
    }

    #[test]
    fn nothing_stands_in_for_a_model_without_stored_statistics() {
        let model = text::model("input x f32[1,2]\ny = Relu(x)\noutput y").unwrap();
        let data = Dataset::made_up(&model, 4, 0).unwrap();
        let own = OwnStatistics::take(&model, &data, &TractRuntime::new(true), &Work::new(&()));
        assert!(own.unwrap().is_none());
    }
}
