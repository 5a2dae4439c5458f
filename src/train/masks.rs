//! Derivatives by masks on what products read, for scores: of random sums of the outputs, input by input.

use rand::Rng;

use super::TrainError;
use super::measure::ErrorMeasure;
use super::network::ForwardRun;
use super::student::Student;
use super::trainable::Trainable;
use crate::analysis::{Pins, infer};
use crate::calibrate::MaskDerivatives;
use crate::gradient::FloatArray;
use crate::inputs::Batches;
use crate::linear::Linear;
use crate::model::{Index, Model, TensorRef, ValueId};
use crate::progress::Work;
use crate::rng::rng;
use crate::run::{Runtime, Tensors};

/// Inputs that derivatives are taken on, at most.
const SAMPLES: usize = 256;

/// Derivatives of ε·y by masks on the columns of products, with y the outputs, each relative to how much it varies, and ε signs
/// drawn anew for each input. What has no derivative before it is not known. Errors: no output depends on a weight through
/// functions with derivatives, an input that cannot be read, a part that does not run, a stop asked for.
pub fn mask_derivatives(
    model: &Model,
    views: &[Linear],
    inputs: &dyn Batches,
    (runtime, seed): (&dyn Runtime, u64),
    work: &Work,
) -> Result<MaskDerivatives, TrainError> {
    let single = inputs.fetch(0)?;
    let names = outputs(model, &single)?;
    let student = Student::new(model, std::slice::from_ref(&single), &names, runtime)?;
    let variations: Vec<f64> = student
        .outputs(&single)?
        .iter()
        .map(|seen| ErrorMeasure::Squared.variation(seen))
        .collect();
    let count = inputs.count().min(SAMPLES);
    let network = student.network();
    let is_trained = |view: &&Linear| network.weights.contains(&view.weight.constant);
    let mut found = MaskDerivatives {
        samples: count,
        of: views
            .iter()
            .map(|view| Some(view).filter(is_trained).map(|_| Vec::new()))
            .collect(),
    };
    let mut gradients_in = model.clone();
    for sample in 0..count {
        if work.progress.stop() {
            return Err(TrainError::Cancelled);
        }
        let run = sample * inputs.count() / count;
        let given = student.given(&inputs.fetch(run)?)?;
        let forward = student.run(&given, true)?;
        let mut random = rng(seed, &format!("mask derivatives {run}"));
        let seeds = signs(&student, &forward, &variations, &mut random);
        let gradients = student.gradients(&forward, &given, seeds);
        // A view reads a gradient as it reads the weight: both lie in the file in the same way.
        let gradients = gradients.into_iter().zip(&student.weights);
        let gradients: Vec<FloatArray> = gradients
            .map(|(gradient, weight)| gradient.unwrap_or_else(|| FloatArray::zeros(&weight.dims)))
            .collect();
        network.store(&mut gradients_in, &gradients)?;
        for (view, numbers) in views.iter().zip(&mut found.of) {
            let columns = numbers
                .as_ref()
                .map(|_| by_columns(view, model, &gradients_in));
            match (numbers, columns.flatten()) {
                (Some(numbers), Some(columns)) => numbers.extend(columns),
                (numbers, _) => *numbers = None,
            }
        }
        work.progress.advance(1);
    }
    Ok(found)
}

/// A sign for each number of the outputs, as large as the output's variation says.
fn signs(
    student: &Student,
    forward: &ForwardRun,
    variations: &[f64],
    random: &mut impl Rng,
) -> Vec<(ValueId, FloatArray)> {
    let outputs = student.network().outputs.iter().zip(variations);
    let mut signs = |(output, variation): (&ValueId, &f64)| {
        let value = forward.value(*output)?;
        let size = (1.0 / (variation * value.data.len().max(1) as f64).sqrt()) as f32;
        let mut sign = || if random.random() { size } else { -size };
        let data = value.data.iter().map(|_| sign()).collect();
        Some((*output, FloatArray::new(value.dims.clone(), data)))
    };
    outputs.filter_map(&mut signs).collect()
}

/// Σ w · ∂/∂w over the weights of each column.
fn by_columns(view: &Linear, model: &Model, gradients: &Model) -> Option<Vec<f32>> {
    let (weights, gradients) = (view.matrix(model)?, view.matrix(gradients)?);
    let mut sums = vec![0.0; view.columns];
    for (weights, gradients) in weights
        .chunks(view.columns.max(1))
        .zip(gradients.chunks(view.columns.max(1)))
    {
        let pairs = weights.iter().zip(gradients);
        sums.iter_mut()
            .zip(pairs)
            .for_each(|(sum, (weight, gradient))| *sum += weight * gradient);
    }
    Some(sums.iter().map(|sum| *sum as f32).collect())
}

/// Outputs that weights have a part in. Errors: none.
fn outputs(model: &Model, single: &Tensors) -> Result<Vec<String>, TrainError> {
    let dims = |tensor: &TensorRef| tensor.dims.iter().map(|dim| *dim as i64).collect();
    let pins: Pins = single
        .iter()
        .map(|(name, tensor)| (name.clone(), dims(tensor)))
        .collect();
    let facts = infer(model, &pins);
    let trainable = Trainable::find(model, &facts);
    let all = model.index().graph(Index::MAIN).outputs.iter();
    let names: Vec<String> = all
        .filter(|output| trainable.depends(**output))
        .filter(|output| {
            facts
                .of(**output)
                .dtype
                .is_some_and(|dtype| dtype.is_float())
        })
        .map(|output| model.index().value(*output).name.clone())
        .collect();
    match names.is_empty() {
        true => Err(TrainError::NothingTrainable(trainable.stops)),
        false => Ok(names),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analysis::{Options, analyse};
    use crate::calibrate::Dataset;
    use crate::linear::views;
    use crate::model::{Limits, load};
    use crate::run::TractRuntime;

    #[test]
    fn they_are_those_of_finite_differences() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures");
        for name in ["digits_cnn.onnx", "digits_transformer.onnx"] {
            let model = load(&folder.join(name), Limits::default()).unwrap();
            let data = Dataset::read(&model, &folder.join("digits_calibration.npz"), Some(8));
            let inputs = data.unwrap().inputs;
            let runtime = TractRuntime::new(true);
            let analysis = analyse(&model, &Options::default());
            let views = views(&model, &analysis.relations);
            let on = (&runtime as &dyn Runtime, 3);
            let found = mask_derivatives(&model, &views, &*inputs, on, &Work::new(&())).unwrap();
            let single = inputs.fetch(0).unwrap();
            let names = outputs(&model, &single).unwrap();
            // The first sum, of the first input, with one column of a product scaled.
            let sum = |model: &Model| -> f64 {
                let student =
                    Student::new(model, std::slice::from_ref(&single), &names, &runtime).unwrap();
                let seen = student.outputs(&single).unwrap();
                let mut random = rng(3, "mask derivatives 0");
                let mut sum = 0.0;
                for seen in &seen {
                    let plain = Student::new(
                        &model_of(name),
                        std::slice::from_ref(&single),
                        &names,
                        &runtime,
                    )
                    .unwrap();
                    let variation =
                        ErrorMeasure::Squared.variation(&plain.outputs(&single).unwrap()[0]);
                    let size = 1.0 / (variation * seen.data.len() as f64).sqrt();
                    for number in &seen.data {
                        let sign = if random.random() { size } else { -size };
                        sum += f64::from(*number) * sign;
                    }
                }
                sum
            };
            let mut checked = 0;
            for (view, numbers) in views.iter().zip(&found.of) {
                let Some(numbers) = numbers.as_ref().filter(|_| view.weight.is_own()) else {
                    continue;
                };
                assert_eq!(numbers.len(), found.samples * view.columns);
                let column = view.columns / 2;
                let scaled = |factor: f64| {
                    let mut scaled = model.clone();
                    let mut matrix = view.matrix(&model).unwrap();
                    let own = matrix.iter_mut().skip(column).step_by(view.columns);
                    own.for_each(|weight| *weight *= factor);
                    view.set_matrix(&mut scaled, &matrix).unwrap();
                    sum(&scaled)
                };
                let difference = (scaled(1.001) - scaled(0.999)) / 0.002;
                let exact = f64::from(numbers[column]);
                assert!(
                    (difference - exact).abs() < 2e-2 * exact.abs().max(0.02),
                    "{name}: {difference} against {exact}"
                );
                checked += 1;
            }
            assert!(checked > 3, "{name}: {checked}");
        }
    }

    fn model_of(name: &str) -> Model {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures");
        load(&folder.join(name), Limits::default()).unwrap()
    }
}
