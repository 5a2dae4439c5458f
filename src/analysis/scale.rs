//! Numbers that a cut multiplies: results of nodes, and constants that they read.

use super::demand::Operands;
use super::infer::Facts;
use super::patch::float_tensor;
use crate::model::{Model, NodeId, TensorRef, ValueId};
use crate::ops::make;
use crate::proto::NodeProto;

impl Operands {
    /// Puts a node behind another that multiplies its first output by a number. False if that is no float.
    pub(super) fn scale_result(
        &mut self,
        model: &mut Model,
        original: &Model,
        facts: &Facts,
        node: NodeId,
        factor: f64,
    ) -> bool {
        let entry = original.index().node(node);
        let Some(output) = entry.output(0) else {
            return true;
        };
        let Some(dtype) = facts.of(output).dtype else {
            return false;
        };
        let like = TensorRef {
            dtype,
            dims: Vec::new(),
            bytes: Default::default(),
        };
        let Some(scale) = float_tensor(&like, std::iter::once(factor)) else {
            return false;
        };
        let name = original.index().value(output).name.clone();
        let (scale, _) = self.initializer(model, entry.graph, &format!("{name}_scale"), &scale);
        let unscaled = self.fresh(&name);
        let message = model.node_mut(node);
        if let Some(output) = message.output.first_mut() {
            *output = unscaled.clone();
        }
        let scaling = NodeProto {
            name: Some(self.fresh(original.node_label(node))),
            ..make::mul(&unscaled, &scale, &name)
        };
        self.inserts.push((entry.graph, entry.position, scaling));
        true
    }

    /// Multiplies a constant input by a number, in a copy of its own if others read it. False if it is no float constant.
    pub(super) fn scale(
        &mut self,
        model: &mut Model,
        node: NodeId,
        input: u32,
        value: ValueId,
        factor: f64,
    ) -> bool {
        let Some(tensor) = model
            .tensor_proto(value)
            .and_then(|tensor| TensorRef::from_proto(tensor).ok())
        else {
            // Trials shrink dims without cutting bytes; that the constant exists is all they need to know.
            return model.tensor_proto(value).is_some();
        };
        let Some(elements) = tensor.to_f64() else {
            return false;
        };
        let Some(scaled) = float_tensor(&tensor, elements.iter().map(|element| element * factor))
        else {
            return false;
        };
        let entry = model.index().value(value);
        let (graph, name) = (entry.graph, entry.name.clone());
        let (name, fact) = self.initializer(model, graph, &name, &scaled);
        model.node_mut(node).input[input as usize] = name;
        self.replaced.insert((node, input), fact);
        true
    }
}
