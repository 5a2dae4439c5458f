//! Whether inputs look like those that the model was trained on: normalisations and quantizations keep the measure of what
//! they were made with.

use std::collections::{BTreeMap, BTreeSet};

use crate::inputs::Batches;
use crate::model::{Index, Model, NodeId, TensorRef, ValueId, extract_subgraph};
use crate::ops::{self, Flow};
use crate::run::{Runtime, Tensors};

/// Inputs that are looked at, spread over all.
const LOOKED_AT: usize = 16;
/// Nodes between an input and the measure, at most.
const NEAR: usize = 12;
/// Measures that are looked at, the nearest to the inputs.
const MEASURES: usize = 2;
/// By what factor a variance may be off, and by how many deviations a mean, for the middle one of the channels.
const VARIANCE: f64 = 25.0;
const MEAN: f64 = 4.0;
/// The share of numbers that may lie outside of a quantized range, and the least share of the range that they should fill.
const OUTSIDE: f64 = 0.2;
const FILLED: f64 = 1.0 / 32.0;
/// Prepared numbers beyond this, or all below its inverse, were scaled twice or not at all.
const LARGE: f64 = 50.0;

/// What a node knows of the numbers that it was made for.
enum Measure {
    /// Mean and variance of each channel.
    Moments { mean: Vec<f64>, variance: Vec<f64> },
    /// The range that can be told apart.
    Range { low: f64, high: f64 },
    /// A constant that is subtracted, the middle one.
    Subtracted(f64),
    /// A constant that is divided by.
    Divided(f64),
}

/// Why the inputs do not seem to be what the model was made for, one sentence each. Nothing where it cannot be found out.
pub fn doubts(model: &Model, inputs: &dyn Batches, runtime: &dyn Runtime) -> Vec<String> {
    let measures = measures(model);
    let Ok(Some(example)) = inputs.example() else {
        return Vec::new();
    };
    let names: BTreeSet<String> = measures
        .iter()
        .map(|(_, value, _)| model.index().value(*value).name.clone())
        .collect();
    let taps: Vec<String> = names
        .into_iter()
        .filter(|name| !example.contains_key(name))
        .collect();
    let session = match taps.is_empty() {
        true => None,
        false => {
            let part = extract_subgraph(model, &taps, &BTreeMap::new());
            match part
                .ok()
                .and_then(|part| runtime.prepare_variant(&part, &example).ok())
            {
                Some(session) => Some(session),
                None => return Vec::new(),
            }
        }
    };
    let count = inputs.count();
    let mut seen: Vec<Tensors> = Vec::new();
    for at in 0..count.min(LOOKED_AT) {
        let Ok(mut tensors) = inputs.fetch(at * count / count.min(LOOKED_AT)) else {
            return Vec::new();
        };
        if let Some(session) = &session {
            let Ok(outputs) = session.run(&tensors) else {
                return Vec::new();
            };
            tensors.extend(taps.iter().cloned().zip(outputs));
        }
        seen.push(tensors);
    }
    let mut doubts = Vec::new();
    for (node, value, measure) in &measures {
        let name = &model.index().value(*value).name;
        let tensors: Vec<&TensorRef> = seen
            .iter()
            .filter_map(|tensors| tensors.get(name))
            .collect();
        doubts.extend(
            measure
                .doubt(&tensors)
                .map(|doubt| format!("'{}' {doubt}", model.node_label(*node))),
        );
    }
    doubts.truncate(1);
    doubts
}

/// Nodes that keep a measure of what comes to them from the inputs without passing another such, and what they read.
fn measures(model: &Model) -> Vec<(NodeId, ValueId, Measure)> {
    let index = model.index();
    let main = index.graph(Index::MAIN);
    let mut near: BTreeMap<ValueId, usize> = main.inputs.iter().map(|input| (*input, 0)).collect();
    // What is an input, but for factors and summands.
    let mut affine: BTreeSet<ValueId> = main.inputs.iter().copied().collect();
    let mut found = Vec::new();
    for node in &main.nodes {
        let entry = index.node(*node);
        let varying: Vec<ValueId> = entry
            .inputs
            .iter()
            .flatten()
            .copied()
            .filter(|input| model.constant(*input).is_none())
            .collect();
        let Some(distance) = varying
            .iter()
            .map(|input| near.get(input).copied())
            .collect::<Option<Vec<_>>>()
            .and_then(|all| all.into_iter().max())
        else {
            continue;
        };
        let first = entry.inputs.first().copied().flatten();
        let measure = first
            .filter(|first| varying.contains(first))
            .and_then(|first| Some((first, measure(model, *node, affine.contains(&first))?)));
        let ends = matches!(
            &measure,
            Some((_, Measure::Moments { .. } | Measure::Range { .. }))
        );
        if let Some((value, measure)) = measure {
            found.push((*node, value, measure));
        }
        if ends || distance >= NEAR || found.len() >= MEASURES {
            continue;
        }
        let flow = ops::flow(model.node(*node));
        for output in entry.outputs.iter().flatten() {
            near.insert(*output, distance + 1);
            if matches!(
                flow,
                Flow::Sub
                    | Flow::Add
                    | Flow::Mul
                    | Flow::Div
                    | Flow::Converted
                    | Flow::Permuted
                    | Flow::Same
            ) && varying.iter().all(|input| affine.contains(input))
            {
                affine.insert(*output);
            }
        }
    }
    found.truncate(MEASURES);
    found
}

fn measure(model: &Model, node: NodeId, affine: bool) -> Option<Measure> {
    let (message, entry) = (model.node(node), model.index().node(node));
    if !message.domain().is_empty() {
        return None;
    }
    let input = |at: u32| model.constant(entry.inputs.get(at as usize).copied().flatten()?);
    if let Some(statistics) = ops::meaning(message).statistics {
        return Some(Measure::Moments {
            mean: input(statistics.mean)?.to_f64()?,
            variance: input(statistics.variance)?.to_f64()?,
        });
    }
    match ops::flow(message) {
        Flow::Quantized => {
            let (scale, zero) = (input(1)?.to_f64()?, input(2));
            let [scale] = scale[..] else { return None };
            let (least, most) = match zero.as_ref().map(|zero| zero.dtype) {
                None | Some(crate::proto::Dtype::Uint8) => (0.0, 255.0),
                Some(crate::proto::Dtype::Int8) => (-128.0, 127.0),
                _ => return None,
            };
            let zero = zero
                .and_then(|zero| zero.to_f64()?.first().copied())
                .unwrap_or(0.0);
            Some(Measure::Range {
                low: (least - zero) * scale,
                high: (most - zero) * scale,
            })
        }
        flow @ (Flow::Sub | Flow::Div | Flow::Mul) if affine => {
            let mut numbers = input(1)?.to_f64()?;
            numbers.sort_by(f64::total_cmp);
            let middle = numbers
                .get(numbers.len() / 2)
                .copied()
                .filter(|middle| middle.is_finite() && *middle != 0.0)?;
            Some(match flow {
                Flow::Sub => Measure::Subtracted(middle),
                Flow::Div => Measure::Divided(middle),
                _ => Measure::Divided(1.0 / middle),
            })
        }
        _ => None,
    }
}

impl Measure {
    /// Why the numbers that come to the node do not seem to be what it was made for.
    fn doubt(&self, tensors: &[&TensorRef]) -> Option<String> {
        let numbers: Vec<f64> = tensors
            .iter()
            .filter(|tensor| tensor.dtype.is_float())
            .filter_map(|tensor| tensor.to_f64())
            .flatten()
            .collect();
        let (low, high) = numbers
            .iter()
            .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), number| {
                (low.min(*number), high.max(*number))
            });
        if low >= high {
            return None;
        }
        let largest = low.abs().max(high.abs());
        match self {
            Measure::Moments { mean, variance } => moments(tensors, mean, variance),
            Measure::Range {
                low: least,
                high: most,
            } => {
                let span = most - least;
                let outside = numbers
                    .iter()
                    .filter(|number| {
                        **number < least - span * 0.05 || **number > most + span * 0.05
                    })
                    .count();
                let share = outside as f64 / numbers.len() as f64;
                if share > OUTSIDE {
                    return Some(format!(
                        "holds {least:.3} to {most:.3}, and {:.0} % of what comes to it lies outside",
                        share * 100.0
                    ));
                }
                let filled = (high.min(*most) - low.max(*least)) / span;
                (filled < FILLED)
                    .then(|| format!("holds {least:.3} to {most:.3}, and what comes to it lies between {low:.3} and {high:.3}"))
            }
            Measure::Subtracted(number) => {
                let off = (low - number).max(number - high);
                (off > 2.0 * (high - low)).then(|| {
                    format!("subtracts {number:.3} from numbers between {low:.3} and {high:.3}")
                })
            }
            Measure::Divided(number) => {
                let after = largest / number.abs();
                let wrong = after > LARGE && number.abs() < 1.0
                    || after < 1.0 / LARGE && number.abs() > 1.0;
                wrong.then(|| {
                    format!("divides numbers between {low:.3} and {high:.3} by {number:.3}")
                })
            }
        }
    }
}

/// Channels of [n, c, …] against the moments of their training.
fn moments(tensors: &[&TensorRef], mean: &[f64], variance: &[f64]) -> Option<String> {
    let channels = mean.len();
    let mut sums = vec![(0.0, 0.0, 0.0); channels];
    for tensor in tensors {
        if tensor.dims.get(1) != Some(&channels) || channels == 0 {
            return None;
        }
        let inner = tensor.dims.get(2..)?.iter().product::<usize>().max(1);
        for (row, chunk) in tensor.to_f64()?.chunks(inner).enumerate() {
            let (count, sum, squares) = &mut sums[row % channels];
            *count += chunk.len() as f64;
            *sum += chunk.iter().sum::<f64>();
            *squares += chunk.iter().map(|number| number * number).sum::<f64>();
        }
    }
    let mut ratios = Vec::new();
    let mut shifts = Vec::new();
    for ((count, sum, squares), (mean, variance)) in sums.iter().zip(mean.iter().zip(variance)) {
        // Channels that training found silent measure nothing.
        if *variance <= 1e-10 || *count < 2.0 {
            continue;
        }
        let found = sum / count;
        ratios.push((squares / count - found * found).max(0.0) / variance);
        shifts.push((found - mean).abs() / variance.sqrt());
    }
    let middle = |list: &mut Vec<f64>| {
        list.sort_by(f64::total_cmp);
        list.get(list.len() / 2).copied()
    };
    let (ratio, shift) = (middle(&mut ratios)?, middle(&mut shifts)?);
    if !(1.0 / VARIANCE..=VARIANCE).contains(&ratio) {
        return Some(format!(
            "was trained on numbers whose variance is {:.1e} times that of what comes to it",
            1.0 / ratio
        ));
    }
    (shift > MEAN).then(|| format!("was trained on numbers whose mean lies {shift:.0} deviations from that of what comes to it"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::text;
    use crate::run::TractRuntime;

    fn found(graph: &str, numbers: impl Fn(usize) -> f32) -> Vec<String> {
        let model = text::model(graph).unwrap();
        let input = |run: usize| {
            let numbers: Vec<f32> = (0..3 * 16).map(|at| numbers(at + 7 * run)).collect();
            Tensors::from_iter([(
                "x".to_owned(),
                TensorRef::from_f32(vec![1, 3, 4, 4], &numbers),
            )])
        };
        doubts(
            &model,
            &(0..8).map(input).collect::<Vec<_>>(),
            &TractRuntime::new(true),
        )
    }

    /// Numbers from 0 to 1.
    fn unit(at: usize) -> f32 {
        ((at * 37) % 101) as f32 / 100.0
    }

    #[test]
    fn a_normalisation_tells_what_it_was_trained_on() {
        let graph = "opset 17\ninput x f32[1,3,4,4]\nconst w f32[4,3,1,1] = 1,0,0,0,1,0,0,0,1,1,1,1\nconst s f32[4] = 1\nconst b f32[4] = 0
            const m f32[4] = 0\nconst v f32[4] = 1\nc = Conv(x, w)\nd = BatchNormalization(c, s, b, m, v)\ny = Relu(d)\noutput y";
        let normal = |at: usize| (unit(at) - 0.5) / 0.29;
        assert_eq!(found(graph, normal), Vec::<String>::new());
        assert!(
            found(graph, |at| unit(at) * 255.0)[0]
                .contains("'d' was trained on numbers whose variance")
        );
        assert_eq!(found(graph, |at| normal(at) + 30.0).len(), 1);
    }

    #[test]
    fn scales_and_constants_tell_what_they_are_for() {
        let quantized = "opset 17\ninput x f32[1,3,4,4]\nconst s f32[] = 0.02\nconst z u8[] = 128\nq = QuantizeLinear(x, s, z)
            d = DequantizeLinear(q, s, z)\ny = Relu(d)\noutput y";
        assert_eq!(
            found(quantized, |at| 4.0 * unit(at) - 2.0),
            Vec::<String>::new()
        );
        assert!(found(quantized, |at| 255.0 * unit(at))[0].contains("lies outside"));
        assert!(found(quantized, |at| 0.01 * unit(at))[0].contains("lies between"));
        let own = "opset 17\ninput x f32[1,3,4,4]\nconst m f32[3,1,1] = 123.7,116.3,103.5\nconst s f32[] = 58\na = Sub(x, m)\ny = Div(a, s)\noutput y";
        assert_eq!(found(own, |at| 255.0 * unit(at)), Vec::<String>::new());
        assert!(
            found(own, unit)[0].contains("subtracts 116.300 from numbers between 0.000 and 1.000")
        );
        let bytes = "opset 17\ninput x f32[1,3,4,4]\nconst s f32[] = 255\ny = Div(x, s)\noutput y";
        assert_eq!(
            (
                found(bytes, |at| 255.0 * unit(at)).len(),
                found(bytes, unit).len()
            ),
            (0, 1)
        );
    }
}
