//! A model in tract's form, made from a message without its weights, which are put in afterwards.

use std::collections::HashMap;

use prost::Message;
use tract_onnx::prelude::{InferenceFact, OutletId, TractResult};
use tract_onnx::tract_hir::infer::{InferenceModel, InferenceOp};
use tract_onnx::tract_hir::internal::bail;
use tract_onnx::tract_hir::ops::konst::Const;

use super::tensor::datum_type;
use super::weights::Weights;
use crate::model::TensorRef;
use crate::proto::{Dtype, GraphProto, ModelProto, TensorProto, ValueInfoProto};

/// Constants of more bytes than this are put in after parsing.
const LARGE: usize = 1 << 10;

/// A parsed model and where its values are.
pub(super) struct Parsed {
    pub(super) model: InferenceModel,
    pub(super) outlets: HashMap<String, OutletId>,
}

/// Parses with the weights shared.
pub(super) fn parse(proto: &ModelProto, weights: &Weights) -> TractResult<Parsed> {
    let (skeleton, large) = strip(proto);
    let mut parsed = parse_skeleton(&skeleton)?;
    for tensor in &large {
        let Some(outlet) = parsed.outlets.get(tensor.name()).copied() else {
            continue;
        };
        let tensor = weights.tensor(&TensorRef::from_proto(tensor)?)?;
        let node = parsed.model.node_mut(outlet.node);
        let Some(output) = node.outputs.get_mut(0) else {
            bail!("a source without an output")
        };
        output.fact = InferenceFact::dt_shape(tensor.datum_type(), tensor.shape());
        node.op = Box::new(Const::new(tensor)?) as Box<dyn InferenceOp>;
        parsed.model.inputs.retain(|input| *input != outlet);
    }
    Ok(parsed)
}

/// Parses with large constants left as inputs of known shape: for inferring only.
pub(super) fn parse_hollow(proto: &ModelProto) -> TractResult<Parsed> {
    parse_skeleton(&strip(proto).0)
}

fn parse_skeleton(skeleton: &ModelProto) -> TractResult<Parsed> {
    let message = tract_onnx::pb::ModelProto::decode(skeleton.encode_to_vec().as_slice())?;
    let parsed = tract_onnx::onnx()
        .with_ignore_value_info(true)
        .parse(&message, None)?;
    if !parsed.unresolved_inputs.is_empty() {
        bail!("nothing gives {}", parsed.unresolved_inputs.join(", "));
    }
    Ok(Parsed {
        model: parsed.model,
        outlets: parsed.outlets_by_name,
    })
}

/// A copy whose large constants are inputs, and those constants.
fn strip(proto: &ModelProto) -> (ModelProto, Vec<TensorProto>) {
    let Some(graph) = &proto.graph else {
        return (proto.clone(), Vec::new());
    };
    let is_large = |tensor: &&TensorProto| {
        tensor
            .raw_data
            .as_ref()
            .is_some_and(|raw| raw.len() > LARGE)
            && Dtype::from_code(tensor.data_type()).is_some_and(|dtype| datum_type(dtype).is_some())
    };
    let large: Vec<TensorProto> = graph.initializer.iter().filter(is_large).cloned().collect();
    let mut input = graph.input.clone();
    input.extend(large.iter().map(declare));
    let graph = GraphProto {
        node: graph.node.clone(),
        name: graph.name.clone(),
        initializer: graph
            .initializer
            .iter()
            .filter(|tensor| !is_large(tensor))
            .cloned()
            .collect(),
        input,
        output: graph.output.clone(),
        ..Default::default()
    };
    let skeleton = ModelProto {
        ir_version: proto.ir_version,
        opset_import: proto.opset_import.clone(),
        graph: Some(graph),
        ..Default::default()
    };
    (skeleton, large)
}

fn declare(tensor: &TensorProto) -> ValueInfoProto {
    ValueInfoProto::tensor(tensor.name(), tensor.data_type(), Some(&tensor.dims))
}

/// The model with its inputs and outputs in the order of these names.
pub(super) fn select(
    parsed: Parsed,
    inputs: &[String],
    outputs: &[String],
) -> TractResult<InferenceModel> {
    let Parsed { mut model, outlets } = parsed;
    let find = |name: &String| match outlets.get(name) {
        Some(outlet) => Ok(*outlet),
        None => bail!("nothing gives '{name}'"),
    };
    let inputs = inputs.iter().map(find).collect::<TractResult<Vec<_>>>()?;
    let outputs = outputs.iter().map(find).collect::<TractResult<Vec<_>>>()?;
    model.set_input_outlets(&inputs)?;
    model.select_output_outlets(&outputs)?;
    Ok(model)
}
