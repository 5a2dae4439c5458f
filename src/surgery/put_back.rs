//! The way back: constants of a cut model in the shape that they had before.

use crate::analysis::{Analysis, Selection};
use crate::model::{Model, TensorRef, ValueId};

/// A model with some of its constants as a cut one has them: what stayed has the cut model's numbers, what went keeps its own.
/// A constant that the cut model has not, or in another shape than the selection gives, stays as it is.
pub fn put_back(
    model: &Model,
    analysis: &Analysis,
    selection: &Selection,
    constants: &[ValueId],
    cut: &Model,
) -> Model {
    let mut whole = model.clone();
    let by_name = cut.index().main_values();
    for value in constants {
        let name = model.index().value(*value).name.as_str();
        let part = by_name.get(name).and_then(|part| cut.constant(*part));
        let (Some(part), Some(before)) = (part, model.constant(*value)) else {
            continue;
        };
        let kept: Vec<Option<Vec<u32>>> = (0..before.dims.len())
            .map(|axis| analysis.kept_axis(*value, axis, selection))
            .collect();
        if let Some(tensor) = before.put_back(&kept, &part) {
            replace(&mut whole, *value, &tensor);
        }
    }
    whole
}

/// Puts a tensor in the place of a constant, which keeps its name and notes.
fn replace(model: &mut Model, value: ValueId, tensor: &TensorRef) {
    if let Some(target) = model.tensor_proto_mut(value) {
        let mut new = tensor.to_proto("");
        new.name = target.name.take();
        new.doc_string = target.doc_string.take();
        new.metadata_props = std::mem::take(&mut target.metadata_props);
        *target = new;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analysis::{Options, analyse};
    use crate::surgery::apply;

    #[test]
    fn a_cut_of_what_was_put_back_is_the_cut_model() {
        let text = "opset 13\ninput x f32[1,4]\nconst a f32[4,6]\nconst b f32[6,3]\n\
                    h = MatMul(x, a)\nr = Relu(h)\ny = MatMul(r, b)\noutput y\n";
        let model = crate::model::text::model(text).unwrap();
        let analysis = analyse(&model, &Options::default());
        let selection = analysis.select([(0, [1u32, 4].as_slice())]);
        let mut cut = apply(&model, &analysis, &selection, &[]).unwrap();
        let values = cut.index().main_values();
        let (a, b) = (values["a"], values["b"]);
        replace(&mut cut, a, &TensorRef::from_f32(vec![4, 4], &[7.0; 16]));
        replace(&mut cut, b, &TensorRef::from_f32(vec![4, 3], &[9.0; 12]));
        let values = model.index().main_values();
        let constants = [values["a"], values["b"]];
        let whole = put_back(&model, &analysis, &selection, &constants, &cut);
        let numbers = |model: &Model, value| model.constant(value).unwrap().to_f32().unwrap();
        let (before, after) = (numbers(&model, constants[0]), numbers(&whole, constants[0]));
        for (at, (before, after)) in before.iter().zip(&after).enumerate() {
            let gone = [1, 4].contains(&(at % 6));
            assert_eq!(*after, if gone { *before } else { 7.0 }, "element {at}");
        }
        let again = apply(&whole, &analysis, &selection, &[]).unwrap();
        assert_eq!(again.proto, cut.proto);
        // Of another selection nothing fits.
        let other = analysis.select([(0, [1u32].as_slice())]);
        let same = put_back(&model, &analysis, &other, &constants, &cut);
        assert_eq!(same.proto, model.proto);
    }
}
