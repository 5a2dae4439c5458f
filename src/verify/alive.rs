//! The same graph with other weights, under which every unit has something to say.

use std::collections::BTreeMap;
use std::sync::Arc;

use rand::Rng;
use rayon::prelude::*;

use crate::analysis::port_value;
use crate::model::{Model, NodeId, Origin, TensorRef, ValueId};
use crate::ops::{Flow, flow, meaning};
use crate::proto::Dtype;
use crate::relation::{Port, Relation};
use crate::rng::rng;

/// Constants with larger numbers than this are no weights (masks of attention).
const LARGEST: f64 = 1e4;
/// How far a search for the constant behind a value goes.
const DEPTH: usize = 8;

/// What a constant is there for.
#[derive(Clone, Copy, Debug, PartialEq)]
enum UnitRole {
    /// The matrix of a product that sums over so many terms.
    Matrix(f64),
    /// Scales or shifts.
    Vector,
}

/// A copy of a model with random weights: matrices such that activations stay near one, scales and variances positive where
/// they were, biases small. Scalars, whole numbers that are no weights, and what is not understood stay. Shapes, types and
/// contents that shapes are computed from are the same, so that a plan for the model is one for the copy.
pub(super) fn alive(model: &Model, relations: &[Arc<Relation>]) -> Model {
    let mut copy = model.clone();
    let drawn: Vec<(ValueId, TensorRef)> = roles(model, relations)
        .into_par_iter()
        .filter_map(|(value, role)| {
            let tensor = TensorRef::from_proto(model.tensor_proto(value)?).ok()?;
            Some((
                value,
                draw(&tensor, role, &model.index().value(value).name)?,
            ))
        })
        .collect();
    for (value, tensor) in drawn {
        if let Some(target) = copy.tensor_proto_mut(value) {
            *target = tensor.to_proto(target.name.as_deref().unwrap_or_default());
        }
    }
    copy
}

fn roles(model: &Model, relations: &[Arc<Relation>]) -> BTreeMap<ValueId, UnitRole> {
    let mut roles = BTreeMap::new();
    for (node, entry) in model.index().nodes() {
        let relation = &relations[node.index()];
        let mut is_whole = false;
        let mut matrices = Vec::new();
        for term in &relation.terms {
            let extent = |label: &crate::relation::LabelId| {
                relation.label(*label).extent.count().unwrap_or(1) as f64
            };
            let fan: f64 = term.summed.iter().map(extent).product();
            for port in [term.weight, Some(term.data)].into_iter().flatten() {
                let mut constants = Vec::new();
                constants_behind(model, port_value(model, node, port), DEPTH, &mut constants);
                for value in constants {
                    is_whole |= dtype(model, value).is_some_and(|dtype| !dtype.is_float());
                    roles.insert(value, UnitRole::Matrix(fan));
                }
                matrices.push(port);
            }
        }
        let known = meaning(model.node(node));
        let scales =
            is_affine(known.flow) || known.normalises || (!relation.terms.is_empty() && !is_whole);
        let table = (known.flow == Flow::Picked).then_some(0);
        for (at, value) in entry.inputs.iter().enumerate() {
            let Some(value) = value.filter(|value| model.tensor_proto(*value).is_some()) else {
                continue;
            };
            if matrices.contains(&Port::In(at as u32))
                || !dtype(model, value).is_some_and(Dtype::is_float)
            {
                continue;
            }
            if scales {
                roles.entry(value).or_insert(UnitRole::Vector);
            } else if table == Some(at) {
                // A row of a table is taken as it is.
                roles.entry(value).or_insert(UnitRole::Matrix(2.0));
            }
        }
    }
    roles
}

/// The constants that a value is put together from.
fn constants_behind(model: &Model, value: Option<ValueId>, depth: usize, found: &mut Vec<ValueId>) {
    let Some(value) = value else { return };
    if model.tensor_proto(value).is_some() {
        found.push(value);
        return;
    }
    let Origin::Output(node, _) = model.index().value(value).origin else {
        return;
    };
    if depth > 0 {
        carried(model, node)
            .into_iter()
            .for_each(|value| constants_behind(model, Some(value), depth - 1, found));
    }
}

/// Operators of which constants shift or scale what is computed.
fn is_affine(flow: Flow) -> bool {
    matches!(
        flow,
        Flow::Add | Flow::Sub | Flow::Mul | Flow::Div | Flow::Leaky
    )
}

/// What an operator hands on entry by entry, so that a weight stays one behind it: its first input, or all that it joins.
fn carried(model: &Model, node: NodeId) -> Vec<ValueId> {
    let inputs = model.index().node(node).inputs.iter().flatten().copied();
    match flow(model.node(node)) {
        Flow::Joined => inputs.collect(),
        Flow::Same
        | Flow::Converted
        | Flow::Reshaped
        | Flow::Permuted
        | Flow::Moved
        | Flow::Dequantized => inputs.take(1).collect(),
        _ => Vec::new(),
    }
}

fn dtype(model: &Model, value: ValueId) -> Option<Dtype> {
    Dtype::from_code(model.tensor_proto(value)?.data_type())
}

/// Numbers for a constant; `None` where it stays as it is.
fn draw(tensor: &TensorRef, role: UnitRole, name: &str) -> Option<TensorRef> {
    if tensor.elements() < 2 {
        return None;
    }
    let mut rng = rng(0, name);
    if !tensor.dtype.is_float() {
        return matches!(role, UnitRole::Matrix(_))
            .then(|| whole(tensor, &mut rng))
            .flatten();
    }
    let (mut least, mut most) = (f64::INFINITY, f64::NEG_INFINITY);
    for number in tensor.to_f32()? {
        // What is no number is neither.
        least = if number.is_nan() {
            f64::NEG_INFINITY
        } else {
            least.min(f64::from(number))
        };
        most = most.max(f64::from(number));
    }
    if least < -LARGEST || most > LARGEST {
        return None;
    }
    let mut draw = || match role {
        UnitRole::Matrix(fan) => {
            rng.random_range(-1.0f32..1.0) * (6.0 / fan.max(1.0)).sqrt() as f32
        }
        UnitRole::Vector if least >= 0.0 && most > 0.0 => rng.random_range(0.5..1.5),
        UnitRole::Vector => {
            rng.random_range(0.05..0.5) * if rng.random::<bool>() { 1.0 } else { -1.0 }
        }
    };
    let numbers = (0..tensor.elements()).map(|_| draw());
    let bytes: Vec<u8> = match tensor.dtype {
        Dtype::Float => numbers.flat_map(f32::to_le_bytes).collect(),
        Dtype::Double => numbers
            .flat_map(|number| f64::from(number).to_le_bytes())
            .collect(),
        Dtype::Float16 => numbers
            .flat_map(|number| half::f16::from_f32(number).to_le_bytes())
            .collect(),
        Dtype::Bfloat16 => numbers
            .flat_map(|number| half::bf16::from_f32(number).to_le_bytes())
            .collect(),
        _ => return None,
    };
    Some(TensorRef {
        bytes: bytes.into(),
        ..tensor.clone()
    })
}

/// Whole numbers round the middle of what the type holds. Only types of up to a byte are weights.
fn whole(tensor: &TensorRef, rng: &mut impl Rng) -> Option<TensorRef> {
    let mut bytes = tensor.bytes.to_vec();
    match tensor.dtype {
        Dtype::Int8 => bytes
            .iter_mut()
            .for_each(|byte| *byte = rng.random_range(-64i8..=64) as u8),
        Dtype::Uint8 => bytes
            .iter_mut()
            .for_each(|byte| *byte = rng.random_range(64..=192)),
        Dtype::Int4 | Dtype::Uint4 | Dtype::Int2 | Dtype::Uint2 => {
            bytes.iter_mut().for_each(|byte| *byte = rng.random())
        }
        _ => return None,
    }
    Some(TensorRef {
        bytes: bytes.into(),
        ..tensor.clone()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analysis::{Options, analyse};
    use crate::model::text;

    #[test]
    fn weights_are_drawn_and_what_steers_the_graph_stays() {
        let model = text::model(
            "input x f32[n,2,4,4]\nconst w f32[8,2,3,3] = 0\nconst b f32[8] = -9, -9, -9, -9, -9, -9, -9, -9\nconst g f32[8] = 0\n\
             const var f32[8] = positive\nconst half f32[] = 0.5\nconst to i64[2] = 0, -1\nconst v f32[5,32] = 0\n\
             h = Conv(x, w, b)\nn = BatchNormalization(h, g, g, b, var)\nr = Relu(n)\ns = Mul(r, half)\n\
             f = Reshape(s, to)\nt = Transpose(v) {perm=[1,0]}\ny = MatMul(f, t)\noutput y f32[n,5]",
        )
        .unwrap();
        let analysis = analyse(&model, &Options::default());
        let copy = alive(&model, &analysis.relations);
        let numbers = |model: &Model, name: &str| {
            model
                .constant(model.index().main_value(name).unwrap())
                .unwrap()
        };
        for name in ["half", "to"] {
            assert_eq!(numbers(&copy, name), numbers(&model, name), "{name}");
        }
        for name in ["w", "b", "g", "var", "v"] {
            let (before, after) = (numbers(&model, name), numbers(&copy, name));
            assert!(before != after && before.dims == after.dims, "{name}");
        }
        let var = numbers(&copy, "var").to_f64().unwrap();
        assert!(var.iter().all(|number| (0.5..1.5).contains(number)));
        let v = numbers(&copy, "v").to_f64().unwrap();
        let spread = (v.iter().map(|number| number * number).sum::<f64>() / v.len() as f64).sqrt();
        assert!(
            (0.2..0.3).contains(&spread),
            "{spread}: sums of 32 stay near one"
        );
        assert_eq!(
            alive(&model, &analysis.relations).proto,
            copy.proto,
            "drawn by name"
        );
    }
}
