//! What an operator makes of bounds on its inputs, by what [`meaning`] says of it.

use super::interval::Interval;
use crate::analysis::{Analysis, port_value};
use crate::model::edit::NodeExt;
use crate::model::{Model, NodeId};
use crate::ops::{Flow, LinearMap, StoredStatistics, meaning};
use crate::proto::NodeProto;
use crate::relation::{Port, Relation};

/// What batch normalisation adds to variances where a node does not say.
const EPSILON: f64 = 1e-5;

/// What is known of one input where the output is looked at; `None` where the input is absent.
pub(super) type Look<'a> = dyn Fn(usize) -> Option<Interval> + 'a;

/// Bounds on the first output where it is computed from inputs within these bounds. Whatever is not understood is unknown.
pub(super) fn transfer(model: &Model, analysis: &Analysis, node: NodeId, look: &Look) -> Interval {
    let message = model.node(node);
    let known = meaning(message);
    let dtype = |port| {
        let value = port_value(model, node, port)?;
        analysis.facts.of(value).dtype
    };
    let is_real = dtype(Port::Out(0)).is_some_and(|dtype| dtype.is_float());
    if let Some(product) = known.product {
        return sum(message, &analysis.relations[node.index()], product, look)
            .filter(|_| is_real)
            .unwrap_or(Interval::ALL);
    }
    if known.recurrence.is_some() {
        return cell(message, look);
    }
    if let Some(first) = known.averages.first() {
        let read = known
            .averages
            .iter()
            .filter_map(|input| look(*input as usize));
        let is_zero = look(*first as usize).is_some() && read.into_iter().all(Interval::is_zero);
        return if is_zero {
            Interval::ZERO
        } else {
            Interval::ALL
        };
    }
    if let Some(function) = known.constant {
        let number = look(0).and_then(Interval::number);
        let result = number.and_then(|number| function(message, number));
        return result
            .filter(|result| is_real && result.is_finite())
            .map_or(Interval::ALL, Interval::point);
    }
    let found = match known.flow {
        Flow::Moved => moved(message, look, &|input| {
            dtype(Port::In(input)) == dtype(Port::Out(0))
        }),
        Flow::Quantized => look(0)
            .filter(|numbers| numbers.is_zero())
            .and_then(|_| message.input(2).map_or(Some(Interval::ZERO), |_| look(2))),
        flow if is_real => real(message, flow, known.statistics, look),
        flow => handed_on(message, flow, look),
    };
    found.unwrap_or(Interval::ALL)
}

/// What a node hands on of its inputs, of whatever type. `None`: it computes.
fn handed_on(message: &NodeProto, flow: Flow, look: &Look) -> Option<Interval> {
    match flow {
        Flow::Same | Flow::Reshaped | Flow::Permuted | Flow::Extreme | Flow::Picked => look(0),
        Flow::Joined => (0..message.input.len())
            .try_fold(Interval::NONE, |all, input| Some(all.hull(look(input)?))),
        Flow::Scattered => Some(look(0)?.hull(look(2)?)),
        Flow::Selected => Some(look(1)?.hull(look(2)?)),
        _ => None,
    }
}

/// What a node gives that moves the entries of its first input and may fill in zeros, or what another input or `value` says.
fn moved(message: &NodeProto, look: &Look, fills: &dyn Fn(u32) -> bool) -> Option<Interval> {
    let given = message
        .float("value")
        .map_or(Interval::ZERO, |value| Interval::point(f64::from(value)));
    let fill = (1..message.input.len())
        .filter(|input| fills(*input as u32))
        .filter_map(look)
        .fold(given.hull(Interval::ZERO), Interval::hull);
    Some(look(0)?.hull(fill))
}

/// What an operator of real numbers gives.
fn real(
    message: &NodeProto,
    flow: Flow,
    statistics: Option<StoredStatistics>,
    look: &Look,
) -> Option<Interval> {
    let all = |join: fn(Interval, Interval) -> Interval| {
        let mut inputs = (0..message.input.len()).map(look);
        let first = inputs.next()??;
        inputs.try_fold(first, |found, input| Some(join(found, input?)))
    };
    let zero = || look(0).filter(|numbers| numbers.is_zero());
    match flow {
        Flow::Converted => look(0),
        Flow::Dropped if message.input.len() < 3 => look(0),
        Flow::Dropped => zero(),
        // A mean over a window may count the zeros of its border.
        Flow::Averaged => Some(look(0)?.hull(Interval::ZERO)),
        Flow::Summed => all(Interval::add),
        Flow::Add => Some(look(0)?.add(look(1)?)),
        Flow::Sub => Some(look(0)?.sub(look(1)?)),
        Flow::Mul => Some(look(0)?.mul(look(1)?)),
        Flow::Div => Some(look(0)?.div(look(1)?)),
        Flow::Power => zero().filter(|_| look(1).is_some_and(|exponent| exponent.low > 0.0)),
        Flow::Magnitude => Some(look(0)?.magnitude().hull(Interval::ZERO).times(None)),
        Flow::Rectified => Some(look(0)?.max(Interval::ZERO)),
        Flow::Leaky => Some(
            look(0)?
                .max(Interval::ZERO)
                .hull(look(0)?.min(Interval::ZERO).mul(look(1)?)),
        ),
        Flow::Clipped => {
            let bound = |input: usize, name: &str| match message.input(input) {
                Some(_) => look(input),
                None => message
                    .float(name)
                    .map(|bound| Interval::point(f64::from(bound))),
            };
            let above = bound(1, "min").map_or(look(0), |least| Some(look(0)?.max(least)))?;
            Some(bound(2, "max").map_or(above, |most| above.min(most)))
        }
        Flow::Largest => all(Interval::max),
        Flow::Smallest => all(Interval::min),
        Flow::Dequantized => {
            let zero = message.input(2).map_or(Some(Interval::ZERO), |_| look(2))?;
            Some(look(0)?.sub(zero).mul(look(1)?))
        }
        Flow::Normalised => normalised(message, statistics?, look),
        _ => handed_on(message, flow, look),
    }
}

/// The state of a cell whose weights and first states are zero: it adds zero to a share of zero at every step.
fn cell(message: &NodeProto, look: &Look) -> Interval {
    /// All inputs but the data and the lengths of sequences.
    const READ: [usize; 6] = [1, 2, 3, 5, 6, 7];
    let is_zero = |input: &usize| look(*input).is_none_or(Interval::is_zero);
    if message.attribute("activations").is_none() && READ.iter().all(is_zero) {
        Interval::ZERO
    } else {
        Interval::ALL
    }
}

/// (x − mean) / √(variance + ε) · scale + shift, outside of training.
fn normalised(message: &NodeProto, at: StoredStatistics, look: &Look) -> Option<Interval> {
    if message
        .int("training_mode")
        .is_some_and(|training| training != 0)
    {
        return None;
    }
    let input = |input: u32| look(input as usize);
    let epsilon = message.float("epsilon").map_or(EPSILON, f64::from);
    let deviation = (input(at.variance)?.number()? + epsilon).sqrt();
    let centred = look(0)?.sub(input(at.mean)?);
    let scale = input(at.scale)?.div(Interval::point(deviation));
    Some(centred.mul(scale).add(input(at.shift)?))
}

/// A sum of products and a bias. Products with what a window covers beyond the border are 0.
fn sum(
    message: &NodeProto,
    relation: &Relation,
    product: LinearMap,
    look: &Look,
) -> Option<Interval> {
    let [term] = &relation.terms[..] else {
        return None;
    };
    if (term.data, term.weight) != (Port::In(0), Some(Port::In(1))) {
        return None;
    }
    let count = term
        .summed
        .iter()
        .map(|label| {
            relation
                .label(*label)
                .extent
                .count()
                .map(|count| count as f64)
        })
        .product();
    let factor = |name: &str| Interval::point(message.float(name).map_or(1.0, f64::from));
    let one = look(0)?.mul(look(1)?).hull(Interval::ZERO);
    let products = one.times(count).mul(factor("alpha"));
    let bias = product
        .bias
        .filter(|bias| message.input(bias.input as usize).is_some());
    Some(match bias {
        Some(bias) => {
            let factor = bias.factor.map_or(Interval::point(1.0), factor);
            products.add(look(bias.input as usize)?.mul(factor))
        }
        None => products,
    })
}
