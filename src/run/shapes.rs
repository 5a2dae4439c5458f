//! One session for inputs of several shapes: the model is made ready for each.

use super::{RunError, Session, Tensors};
use crate::model::{Model, TensorRef};
use crate::proto::ValueInfoProto;

/// Extents of inputs, by name.
pub type InputDims = Vec<(String, Vec<usize>)>;

/// A session for each of some shapes.
struct SessionsByShape(Vec<(InputDims, Box<dyn Session>)>);

/// A session for inputs of the shapes of any of the examples, made by `prepare` of the model and one example. Where the model
/// declares the extents of another example, those of this one are declared. Errors: those of `prepare`.
pub fn for_shapes<E>(
    model: &Model,
    examples: &[Tensors],
    mut prepare: impl FnMut(&Model, &Tensors) -> Result<Box<dyn Session>, E>,
) -> Result<Box<dyn Session>, E> {
    let none = Tensors::new();
    let Some((first, others)) = examples.split_first() else {
        return prepare(model, &none);
    };
    let session = prepare(model, first)?;
    if others.is_empty() {
        return Ok(session);
    }
    let mut sessions = vec![(dims(first), session)];
    for example in others {
        let session = prepare(&declaring(model, example), example)?;
        sessions.push((dims(example), session));
    }
    Ok(Box::new(SessionsByShape(sessions)))
}

/// The extents of some inputs.
pub fn dims(inputs: &Tensors) -> InputDims {
    inputs
        .iter()
        .map(|(name, tensor)| (name.clone(), tensor.dims.clone()))
        .collect()
}

/// A copy of the model that declares the extents of an example where it declared others.
fn declaring(model: &Model, example: &Tensors) -> Model {
    let mut copy = model.clone();
    let inputs = copy
        .proto
        .graph
        .iter_mut()
        .flat_map(|graph| &mut graph.input);
    for input in inputs {
        let name = input.name().to_owned();
        if let Some(tensor) = example.get(&name)
            && !takes(input, tensor)
        {
            *input = ValueInfoProto::like(&name, tensor);
        }
    }
    copy
}

/// Whether a declaration leaves the extents of a tensor open, or says the same.
fn takes(input: &ValueInfoProto, tensor: &TensorRef) -> bool {
    crate::analysis::declared(input).shape.is_none_or(|shape| {
        shape.len() == tensor.dims.len()
            && shape
                .iter()
                .zip(&tensor.dims)
                .all(|(dim, extent)| dim.count().is_none_or(|count| count == *extent))
    })
}

impl SessionsByShape {
    /// The session for inputs of these shapes; the first, which refuses them, where there is none.
    fn of(&self, inputs: &Tensors) -> Option<&dyn Session> {
        let fits = |shapes: &[(String, Vec<usize>)]| {
            shapes
                .iter()
                .all(|(name, dims)| inputs.get(name).is_some_and(|input| input.dims == *dims))
        };
        let found = self.0.iter().find(|(shapes, _)| fits(shapes));
        found.or(self.0.first()).map(|(_, session)| &**session)
    }
}

impl Session for SessionsByShape {
    fn run(&self, inputs: &Tensors) -> Result<Vec<TensorRef>, RunError> {
        match self.of(inputs) {
            Some(session) => session.run(inputs),
            None => Err(RunError("the model is ready for no shape".to_owned())),
        }
    }

    fn time(&self, inputs: &Tensors) -> Result<f64, RunError> {
        match self.of(inputs) {
            Some(session) => session.time(inputs),
            None => Err(RunError("the model is ready for no shape".to_owned())),
        }
    }

    fn noise(&self) -> f64 {
        self.0
            .iter()
            .map(|(_, session)| session.noise())
            .fold(0.0, f64::max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::text;
    use crate::run::{Runtime, TractRuntime};

    #[test]
    fn a_model_runs_on_inputs_of_each_shape() {
        let model = text::model("input x f32[1,4]\ny = Relu(x)\noutput y").unwrap();
        let input = |extent: usize| {
            let numbers: Vec<f32> = (0..extent).map(|at| at as f32 - 1.5).collect();
            Tensors::from_iter([(
                "x".to_owned(),
                TensorRef::from_f32(vec![1, extent], &numbers),
            )])
        };
        let runtime = TractRuntime::new(true);
        let session = for_shapes(&model, &[input(4), input(3)], |model, example| {
            runtime.prepare(model, example, &[])
        })
        .unwrap();
        for extent in [3, 4] {
            assert_eq!(session.run(&input(extent)).unwrap()[0].dims, [1, extent]);
        }
        assert!(session.run(&input(5)).is_err());
    }
}
