//! Padding that no output can tell of, found by running the model.
//!
//! An input of zeros and ones says which positions of the others count where the model gives the same without those behind the
//! last one, and something else where one more is switched off. Names say nothing here.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::changed::SequencePadding;
use super::dataset::{Apart, Dataset};
use super::sequences::SequenceAxes;
use crate::analysis::declared;
use crate::facts::Dim;
use crate::inputs::{Batches, DataError, SequenceInputs, TrimmedBatches, trim, widths};
use crate::model::{Index, Model, TensorRef};
use crate::run::{Chosen, Runtime, Tensors, choose};

/// Widths that inputs are cut to, at most: the model is made ready for each.
const WIDTHS: usize = 4;
/// Bytes of weights that may be ready at once, in all widths.
const READY: usize = 512 << 20;
/// Difference of outputs, as a share of their largest, that is rounding.
const ROUNDING: f64 = 1e-4;
/// Difference that is more than rounding.
const MOVED: f64 = 1e-6;

/// The same inputs without padding; `None` where there is none, or where it cannot be told from what counts. Made-up inputs
/// are left as they are. Errors: inputs that cannot be read.
pub fn trimmed(
    model: &Model,
    data: &Dataset,
    runtime: &dyn Runtime,
) -> Result<Option<Dataset>, DataError> {
    if data.synthetic {
        return Ok(None);
    }
    let Some(example) = data.inputs.example()? else {
        return Ok(None);
    };
    for (mask, axes) in candidates(model, &example) {
        let Some(lengths) = lengths(&*data.inputs, &mask)? else {
            continue;
        };
        let candidate = MaskCandidate {
            model,
            inputs: &*data.inputs,
            mask: &mask,
            axes: &axes,
            lengths: &lengths,
        };
        if candidate.is_mask(runtime)? {
            return candidate.cut(data);
        }
    }
    Ok(None)
}

/// Inputs of zeros and ones, and the axes of all inputs that are as long and left open by the model.
fn candidates(model: &Model, example: &Tensors) -> Vec<(String, SequenceInputs)> {
    let graph = model.graph(Index::MAIN);
    let shapes: BTreeMap<&str, Vec<Dim>> = graph
        .input
        .iter()
        .filter_map(|input| Some((input.name(), declared(input).shape?)))
        .collect();
    let open = |name: &str, axis: usize| {
        let dim = shapes.get(name)?.get(axis)?;
        dim.num().is_none().then_some(dim)
    };
    let mut found = Vec::new();
    for (mask, tensor) in example {
        let ([_, width], Some(dim)) = (&tensor.dims[..], open(mask, 1)) else {
            continue;
        };
        if ends(tensor).is_none() {
            continue;
        }
        let along = |alike: &dyn Fn(&Dim) -> bool| -> SequenceInputs {
            let axis = |(name, tensor): (&String, &TensorRef)| {
                let fits = |axis: &usize| {
                    tensor.dims[*axis] == *width && open(name, *axis).is_some_and(alike)
                };
                Some((name.clone(), (1..tensor.dims.len()).find(fits)?))
            };
            example.iter().filter_map(axis).collect()
        };
        // Some exporters give each input a symbol of its own.
        let axes = [along(&|other| other == dim), along(&|_| true)];
        found.extend(
            axes.into_iter()
                .find(|axes| axes.len() > 1)
                .map(|axes| (mask.clone(), axes)),
        );
    }
    found
}

/// Where the last one of any row stands, counted from 1, in a tensor of zeros and ones; `None`: it is none, or a row has no one.
fn ends(mask: &TensorRef) -> Option<usize> {
    let [_, width] = mask.dims[..] else {
        return None;
    };
    let numbers = mask.to_f32().filter(|_| width > 0)?;
    let is_mask = numbers.iter().all(|number| [0.0, 1.0].contains(number));
    let end = |row: &[f32]| row.iter().rposition(|number| *number == 1.0);
    let ends: Option<Vec<usize>> = numbers.chunks(width).map(end).collect();
    ends.filter(|_| is_mask)?
        .into_iter()
        .max()
        .map(|end| end + 1)
}

/// How many positions of each run a mask lets count; `None` where it is no mask.
fn lengths(inputs: &dyn Batches, mask: &str) -> Result<Option<Vec<usize>>, DataError> {
    let mut all = Vec::with_capacity(inputs.count());
    for run in 0..inputs.count() {
        match inputs.fetch(run)?.get(mask).and_then(ends) {
            Some(length) => all.push(length),
            None => return Ok(None),
        }
    }
    Ok(Some(all))
}

/// An input that may say which positions count.
struct MaskCandidate<'a> {
    model: &'a Model,
    inputs: &'a dyn Batches,
    mask: &'a str,
    axes: &'a SequenceInputs,
    /// By run.
    lengths: &'a [usize],
}

impl MaskCandidate<'_> {
    /// Whether the outputs of the shortest run and of one in the middle are the same without padding, and others where one
    /// more position is switched off.
    fn is_mask(&self, runtime: &dyn Runtime) -> Result<bool, DataError> {
        let mut runs: Vec<usize> = (0..self.lengths.len())
            .filter(|run| self.lengths[*run] > 1)
            .collect();
        runs.sort_by_key(|run| self.lengths[*run]);
        let middle = runs.get(runs.len() / 2).copied();
        let mut is_padded = false;
        for run in runs.first().copied().into_iter().chain(middle) {
            let inputs = self.inputs.fetch(run)?;
            match self.tells(&inputs, self.lengths[run], runtime) {
                Some(padded) => is_padded |= padded,
                None => return Ok(false),
            }
        }
        Ok(is_padded)
    }

    /// Whether one run has padding; `None`: not such that the outputs are the same without.
    fn tells(&self, inputs: &Tensors, length: usize, runtime: &dyn Runtime) -> Option<bool> {
        let width = *inputs.get(self.mask)?.dims.get(1)?;
        if length == width {
            return Some(false);
        }
        let axes = SequenceAxes::found(self.model, inputs, self.axes)?;
        let outputs = &self.model.index().graph(Index::MAIN).outputs;
        let axes: Vec<Option<usize>> = outputs.iter().map(|output| axes.axis(*output)).collect();
        let mut short = inputs.clone();
        trim(&mut short, self.axes, length);
        let mut fewer = short.clone();
        let mask = fewer.get_mut(self.mask)?;
        *mask = without_last(mask)?;
        let Chosen { runtime, session } = choose(runtime, self.model, inputs);
        let ready = session.ok()?;
        let ready_short = runtime.prepare_variant(self.model, &short).ok()?;
        let whole = ready.run(inputs).ok()?;
        let [cut, fewer] = [&short, &fewer].map(|inputs| ready_short.run(inputs).ok());
        let (cut, fewer) = (cut?, fewer?);
        let moved = apart(&cut, &fewer, &axes, length - 1)?;
        (apart(&whole, &cut, &axes, length)? <= ROUNDING && moved > MOVED).then_some(true)
    }

    /// The inputs without padding.
    fn cut(&self, data: &Dataset) -> Result<Option<Dataset>, DataError> {
        let others = match &data.apart {
            Some(apart) => match lengths(&*apart.inputs, self.mask)? {
                Some(lengths) => lengths,
                None => return Ok(None),
            },
            None => Vec::new(),
        };
        let most = (READY / weights(self.model).max(1)).clamp(1, WIDTHS);
        let widths = widths(&[self.lengths, &others].concat(), most);
        let cut = |inputs: &Arc<dyn Batches>, lengths: &[usize]| -> Arc<dyn Batches> {
            let axes = self.axes.clone();
            Arc::new(TrimmedBatches::new(inputs.clone(), axes, lengths, &widths))
        };
        let stored: usize = match self.inputs.example()? {
            Some(example) => example.get(self.mask).map_or(0, |mask| mask.dims[1]),
            None => 0,
        };
        let padding = SequencePadding {
            mask: self.mask.to_owned(),
            whole: data.inputs.clone(),
            positions: (stored * self.lengths.len(), self.lengths.iter().sum()),
        };
        Ok(Some(Dataset {
            inputs: cut(&data.inputs, self.lengths),
            apart: data.apart.as_ref().map(|apart| Apart {
                inputs: cut(&apart.inputs, &others),
                ..apart.clone()
            }),
            padding: Some(padding),
            ..data.clone()
        }))
    }
}

/// Bytes of a model's constants.
fn weights(model: &Model) -> usize {
    let graph = model.graph(Index::MAIN);
    let bytes =
        |tensor: &crate::proto::TensorProto| tensor.raw_data.as_ref().map_or(0, |raw| raw.len());
    graph.initializer.iter().map(bytes).sum()
}

/// A mask with the last column switched off.
fn without_last(mask: &TensorRef) -> Option<TensorRef> {
    let row = mask.bytes.len() / mask.dims.first()?;
    let each = row / mask.dims.get(1)?;
    let mut bytes = mask.bytes.to_vec();
    for row in bytes.chunks_mut(row) {
        let from = row.len() - each;
        row[from..].fill(0);
    }
    Some(TensorRef {
        bytes: bytes.into(),
        ..mask.clone()
    })
}

/// The largest difference of two models' outputs, as a share of the largest number of each output, at the first `count`
/// positions along these axes. `None`: their extents are others.
fn apart(
    one: &[TensorRef],
    other: &[TensorRef],
    axes: &[Option<usize>],
    count: usize,
) -> Option<f64> {
    let mut most = 0.0f64;
    for ((one, other), axis) in one.iter().zip(other).zip(axes) {
        let first = |tensor: &TensorRef| match axis {
            Some(axis) => tensor.first_along(*axis, count),
            None => tensor.clone(),
        };
        let (one, other) = (first(one), first(other));
        if one.dims != other.dims {
            return None;
        }
        let (one, other) = (one.to_f64()?, other.to_f64()?);
        let largest = one
            .iter()
            .fold(f64::MIN_POSITIVE, |most, number| number.abs().max(most));
        for (one, other) in one.iter().zip(&other).filter(|(one, other)| one != other) {
            most = most.max((one - other).abs() / largest);
            if one.is_nan() || other.is_nan() {
                return None;
            }
        }
    }
    Some(most)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::text;
    use crate::run::TractRuntime;

    fn found(net: &str) -> Option<String> {
        let model = text::model(net).unwrap();
        let run = |length: usize| {
            let numbers: Vec<f32> = (0..6).map(|at| (at * 7 % 5) as f32 - 1.5).collect();
            let ones: Vec<f32> = (0..6).map(|at| f32::from(u8::from(at < length))).collect();
            Tensors::from_iter([
                ("a".to_owned(), TensorRef::from_f32(vec![1, 6], &numbers)),
                ("b".to_owned(), TensorRef::from_f32(vec![1, 6], &ones)),
            ])
        };
        let data = Dataset::new(Arc::new((2..6).map(run).collect::<Vec<_>>()));
        let cut = trimmed(&model, &data, &TractRuntime::new(true)).unwrap()?;
        let widths: Vec<usize> = (0..4)
            .map(|run| cut.inputs.fetch(run).unwrap()["a"].dims[1])
            .collect();
        assert_eq!(widths, [2, 3, 4, 5]);
        assert_eq!(cut.whole().fetch(0).unwrap()["a"].dims[1], 6);
        Some(cut.padding?.to_string())
    }

    #[test]
    fn a_mask_is_what_switches_positions_off() {
        let net = |middle: &str| {
            format!(
                "opset 13\ninput a f32[n,s]\ninput b f32[n,s]\nconst at i64[1] = 1\n{middle}\noutput y"
            )
        };
        let pooled = net("m = Mul(a, b)\ny = ReduceSum(m, at)");
        let remark = "positions that 'b' switches off do not count: 42 % of all";
        assert_eq!(found(&pooled).as_deref(), Some(remark));
        // What is behind still counts.
        assert_eq!(
            found(&net("m = Add(a, b)\ny = ReduceMean(m) {axes=[1]}")),
            None
        );
        // No position hears of another one: zeros are numbers like others.
        assert_eq!(found(&net("m = Mul(a, b)\ny = Relu(m)")), None);
        // The model takes one width alone.
        assert_eq!(found(&pooled.replace("[n,s]", "[n,6]")), None);
    }
}
