//! Inputs that a file declares without a rank, given one by the shapes that they are run with.

use super::infer::Pins;
use crate::model::Model;
use crate::proto::tensor_shape_proto::Dimension;
use crate::proto::type_proto::Value as TypeValue;
use crate::proto::{TensorShapeProto, ValueInfoProto};

/// The declared shape of an input that is a tensor.
fn shape(info: &mut ValueInfoProto) -> Option<&mut Option<TensorShapeProto>> {
    match info.r#type.as_mut()?.value.as_mut()? {
        TypeValue::TensorType(tensor) => Some(&mut tensor.shape),
        _ => None,
    }
}

/// The model in which every tensor input that is declared without a rank has as many axes, of any extent, as its pin, and the
/// names of these inputs. `None` where there is none.
pub fn ranked(model: &Model, pins: &Pins) -> Option<(Model, Vec<String>)> {
    let inputs = |model: &Model| {
        model
            .proto
            .graph
            .as_ref()
            .map(|graph| graph.input.clone())
            .unwrap_or_default()
    };
    let unranked = |mut info: ValueInfoProto| {
        let pinned = pins.contains_key(info.name());
        (pinned && shape(&mut info).is_some_and(|shape| shape.is_none()))
            .then(|| info.name().to_owned())
    };
    let names: Vec<String> = inputs(model).into_iter().filter_map(unranked).collect();
    if names.is_empty() {
        return None;
    }
    let mut model = model.clone();
    for info in inputs_named(&mut model, &names) {
        let axes = pins.get(info.name()).map_or(0, Vec::len);
        if let Some(shape) = shape(info) {
            *shape = Some(TensorShapeProto {
                dim: vec![Dimension::default(); axes],
            });
        }
    }
    Some((model, names))
}

fn inputs_named<'a>(
    model: &'a mut Model,
    names: &'a [String],
) -> impl Iterator<Item = &'a mut ValueInfoProto> {
    let inputs = model.proto.graph.iter_mut();
    inputs
        .flat_map(|graph| &mut graph.input)
        .filter(|info| names.iter().any(|name| name == info.name()))
}

/// Takes the rank of these inputs away again: what the file declares stays true for callers.
pub fn unranked(model: &mut Model, names: &[String]) {
    for info in inputs_named(model, names) {
        if let Some(shape) = shape(info) {
            *shape = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analysis::{Options, analyse};
    use crate::model::text;

    #[test]
    fn a_pin_gives_the_rank() {
        let mut message =
            text::message("input x f32[n,4]\nconst w f32[4,8]\nconst v f32[8,3]\nh = MatMul(x, w)\ny = MatMul(h, v)\noutput y").unwrap();
        message
            .graph
            .iter_mut()
            .flat_map(|graph| &mut graph.input)
            .for_each(|info| *shape(info).unwrap() = None);
        let model = Model::new(message, Default::default()).unwrap();
        assert!(analyse(&model, &Options::default()).groups.is_empty());
        let pins = Pins::from([("x".to_owned(), vec![2, 4])]);
        let (mut with, names) = ranked(&model, &pins).unwrap();
        assert_eq!(analyse(&with, &Options::default()).groups.len(), 1);
        unranked(&mut with, &names);
        assert_eq!(with.proto, model.proto);
        assert!(ranked(&model, &Pins::new()).is_none());
    }
}
