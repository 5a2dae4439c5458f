//! BatchNormalization folded into the linear operator before it.
//!
//! With s = γ / √(σ² + ε): weights of output channel m become s·w, its bias becomes s·(b − μ) + β. In f64, rounded once.

use std::collections::{BTreeSet, HashSet};

use super::edit;
use crate::model::Names;
use crate::model::edit::NodeExt;
use crate::model::{LoadError, Model, NodeId, Origin, TensorRef, ValueId};
use crate::ops::{BiasInput, WeightRows, meaning};
use crate::proto::{Dtype, NodeProto, TensorProto};

/// Folds all that can be folded exactly; returns how many. The linear operator's output takes the normalisation's name.
pub(super) fn fold(model: &mut Model) -> Result<usize, LoadError> {
    let annotated = edit::annotated(model);
    let mut folds = Vec::new();
    let mut producers = HashSet::new();
    for (id, _) in model.index().nodes() {
        if let Some(fold) = Fold::of(model, id, &annotated) {
            // One normalisation per operator and round: the next would have to see the new weights.
            if producers.insert(fold.producer) {
                folds.push(fold);
            }
        }
    }
    if folds.is_empty() {
        return Ok(0);
    }
    let count = folds.len();
    let mut names = Names::of(model);
    let removed: BTreeSet<NodeId> = folds.iter().map(|fold| fold.norm).collect();
    folds
        .into_iter()
        .for_each(|fold| fold.apply(model, &mut names));
    edit::remove_nodes(model, &removed)?;
    Ok(count + fold(model)?)
}

/// One normalisation and what becomes of the operator before it.
struct Fold {
    norm: NodeId,
    producer: NodeId,
    output: String,
    weight: (ValueId, TensorRef),
    bias: (Option<ValueId>, TensorRef),
    bias_input: BiasInput,
}

impl Fold {
    fn of(model: &Model, norm: NodeId, annotated: &HashSet<String>) -> Option<Self> {
        let (node, entry) = (model.node(norm), model.index().node(norm));
        let training =
            node.int("training_mode").unwrap_or(0) != 0 || node.int("spatial") == Some(0);
        if training || model.opset("") < 7 {
            return None;
        }
        let numbers = NormNumbers::of(model, norm)?;
        let producer = sole_source(model, norm, annotated)?;
        let channels = numbers.scale.len();
        let linear = LinearLayer::of(model, producer, annotated)?;
        if linear.channels()? != channels {
            return None;
        }
        let before = linear.bias_numbers(channels)?;
        let bias: Vec<f64> = (0..channels)
            .map(|at| numbers.scale[at] * (before[at] - numbers.mean[at]) + numbers.shift[at])
            .collect();
        Some(Fold {
            norm,
            producer,
            output: model.index().value((*entry.outputs.first()?)?).name.clone(),
            weight: (linear.weight.0, linear.scaled(&numbers.scale)?),
            bias: (
                linear.bias.as_ref().map(|bias| bias.0),
                encode(vec![channels], &bias, linear.weight.1.dtype)?,
            ),
            bias_input: linear.bias_input,
        })
    }

    fn apply(self, model: &mut Model, names: &mut Names) {
        let weight_name = model.index().value(self.weight.0).name.clone();
        store(
            model,
            (self.producer, 1),
            (Some(self.weight.0), self.weight.1),
            names,
            weight_name.clone(),
        );
        let bias_name = match weight_name.strip_suffix("weight") {
            Some(stem) => format!("{stem}bias"),
            None => format!("{weight_name}_bias"),
        };
        store(
            model,
            (self.producer, self.bias_input.input as usize),
            self.bias,
            names,
            bias_name,
        );
        let node = model.node_mut(self.producer);
        // The factor of the old bias is part of the new one.
        node.attribute
            .retain(|attribute| Some(attribute.name()) != self.bias_input.factor);
        let old = node
            .output
            .first_mut()
            .map(|output| std::mem::replace(output, self.output));
        let graph = model.index().node(self.producer).graph;
        edit::forget(model.graph_mut(graph), &|name| Some(name) == old.as_deref());
    }
}

/// What a normalisation does to each channel: less its mean, times its scale, plus its shift.
struct NormNumbers {
    scale: Vec<f64>,
    shift: Vec<f64>,
    mean: Vec<f64>,
}

impl NormNumbers {
    /// `None`: something of it is no constant, or no number of the right size.
    fn of(model: &Model, norm: NodeId) -> Option<Self> {
        let (node, entry) = (model.node(norm), model.index().node(norm));
        let statistics = meaning(node).statistics?;
        let constant = |slot: u32| {
            let value = (*entry.inputs.get(slot as usize)?)?;
            edit::is_constant(model, value)
                .then(|| model.constant(value))??
                .to_f64()
        };
        let [gamma, shift, mean, variance] = [
            constant(statistics.scale)?,
            constant(statistics.shift)?,
            constant(statistics.mean)?,
            constant(statistics.variance)?,
        ];
        let epsilon = f64::from(node.float("epsilon").unwrap_or(1e-5));
        let channels = gamma.len();
        if [&shift, &mean, &variance]
            .iter()
            .any(|list| list.len() != channels)
        {
            return None;
        }
        let scale: Vec<f64> = gamma
            .iter()
            .zip(&variance)
            .map(|(gamma, variance)| gamma / (variance + epsilon).sqrt())
            .collect();
        scale
            .iter()
            .all(|scale| scale.is_finite())
            .then_some(NormNumbers { scale, shift, mean })
    }
}

/// The operator whose first output a normalisation takes in, where nothing else sees that, and nothing but the first output
/// of the normalisation is used.
fn sole_source(model: &Model, norm: NodeId, annotated: &HashSet<String>) -> Option<NodeId> {
    let entry = model.index().node(norm);
    let unread = |value: &ValueId| {
        model.index().value(*value).readers.is_empty() && !model.index().value(*value).is_output
    };
    if !entry.outputs.iter().skip(1).flatten().all(unread) {
        return None;
    }
    let input = model.index().value((*entry.inputs.first()?)?);
    let Origin::Output(producer, 0) = input.origin else {
        return None;
    };
    let seen = input.readers.len() != 1
        || input.is_output
        || input.graph != entry.graph
        || annotated.contains(&input.name);
    (!seen).then_some(producer)
}

/// Puts a tensor at an input: in place where nobody else reads the old one and its shape stays, else under a new name.
fn store(
    model: &mut Model,
    (node, slot): (NodeId, usize),
    (old, tensor): (Option<ValueId>, TensorRef),
    names: &mut Names,
    name: String,
) {
    let own = |value: &ValueId| {
        let entry = model.index().value(*value);
        let dims: Vec<i64> = tensor.dims.iter().map(|dim| *dim as i64).collect();
        entry.readers.len() == 1
            && !entry.is_output
            && model
                .tensor_proto(*value)
                .is_some_and(|proto| proto.dims == dims && proto.data_type() == tensor.dtype.code())
    };
    if let Some(proto) = old
        .filter(own)
        .and_then(|value| model.tensor_proto_mut(value))
    {
        let name = proto.name.take();
        let doc_string = proto.doc_string.take();
        let metadata_props = std::mem::take(&mut proto.metadata_props);
        *proto = TensorProto {
            name,
            doc_string,
            metadata_props,
            ..tensor.to_proto("")
        };
        return;
    }
    let graph = model.index().node(node).graph;
    let name = names.fresh(&name);
    edit::add_initializer(model, graph, tensor.to_proto(&name));
    let inputs = &mut model.node_mut(node).input;
    inputs.resize(inputs.len().max(slot + 1), String::new());
    if let Some(input) = inputs.get_mut(slot) {
        *input = name;
    }
}

/// A linear operator with constant weights.
struct LinearLayer<'a> {
    node: &'a NodeProto,
    weight: (ValueId, TensorRef),
    bias: Option<(ValueId, TensorRef)>,
    rows: WeightRows,
    bias_input: BiasInput,
}

impl<'a> LinearLayer<'a> {
    fn of(model: &'a Model, id: NodeId, annotated: &HashSet<String>) -> Option<Self> {
        let node = model.node(id);
        let product = meaning(node).product?;
        let bias_input = product.bias?;
        let inputs = &model.index().node(id).inputs;
        let constant = |value: ValueId| {
            let usable = edit::is_constant(model, value)
                && !annotated.contains(&model.index().value(value).name);
            usable
                .then(|| model.constant(value))?
                .map(|tensor| (value, tensor))
        };
        let weight = constant((*inputs.get(1)?)?)?;
        let bias = match inputs.get(bias_input.input as usize).copied().flatten() {
            Some(value) => Some(constant(value)?),
            None => None,
        };
        // Half precision would lose more by rounding again than the node costs.
        matches!(weight.1.dtype, Dtype::Float | Dtype::Double).then_some(LinearLayer {
            node,
            weight,
            bias,
            rows: product.rows,
            bias_input,
        })
    }

    fn groups(&self) -> usize {
        self.node
            .int("group")
            .and_then(|group| usize::try_from(group).ok())
            .unwrap_or(1)
            .max(1)
    }

    /// Whether the weight's rows, along its first axis, are columns: inputs and not channels.
    fn is_turned(&self, transposing: Option<&str>) -> bool {
        transposing.is_none_or(|attribute| self.node.int(attribute).unwrap_or(0) == 0)
    }

    /// Output channels.
    fn channels(&self) -> Option<usize> {
        let dims = &self.weight.1.dims;
        match self.rows {
            WeightRows::First => dims.first().copied(),
            WeightRows::Grouped => dims.get(1)?.checked_mul(self.groups()),
            WeightRows::Last(transposing) if dims.len() == 2 => {
                dims.get(usize::from(self.is_turned(transposing))).copied()
            }
            _ => None,
        }
    }

    /// The weights, each times the factor of its output channel.
    fn scaled(&self, scale: &[f64]) -> Option<TensorRef> {
        let (_, weight) = &self.weight;
        let dims = &weight.dims;
        let mut numbers = weight.to_f64()?;
        let inner: usize = dims.get(1..)?.iter().product::<usize>().max(1);
        match self.rows {
            WeightRows::Grouped => {
                // Weights are input channel × (output channels of one group) × kernel.
                let per_group = *dims.get(1)?;
                let (inputs, kernel) = (
                    (*dims.first()?).checked_div(self.groups())?.max(1),
                    dims.get(2..)?.iter().product::<usize>().max(1),
                );
                for (at, number) in numbers.iter_mut().enumerate() {
                    let (input, output) = (at / inner, at % inner / kernel);
                    *number *= scale.get(input / inputs * per_group + output)?;
                }
            }
            WeightRows::Last(transposing) if self.is_turned(transposing) => {
                for row in numbers.chunks_mut(scale.len().max(1)) {
                    row.iter_mut()
                        .zip(scale)
                        .for_each(|(number, scale)| *number *= scale);
                }
            }
            _ => {
                for (row, scale) in numbers.chunks_mut(inner).zip(scale) {
                    row.iter_mut().for_each(|number| *number *= scale);
                }
            }
        }
        encode(dims.clone(), &numbers, weight.dtype)
    }

    /// What is added to each output channel now; `None` where that differs by row.
    fn bias_numbers(&self, channels: usize) -> Option<Vec<f64>> {
        let Some((_, bias)) = &self.bias else {
            return Some(vec![0.0; channels]);
        };
        let factor = self.bias_input.factor.map_or(1.0, |attribute| {
            f64::from(self.node.float(attribute).unwrap_or(1.0))
        });
        let numbers: Vec<f64> = bias
            .to_f64()?
            .into_iter()
            .map(|number| factor * number)
            .collect();
        let along_last = bias.dims.last().is_none_or(|last| *last == numbers.len());
        match numbers.as_slice() {
            [one] => Some(vec![*one; channels]),
            many if many.len() == channels && along_last => Some(numbers),
            _ => None,
        }
    }
}

fn encode(dims: Vec<usize>, numbers: &[f64], dtype: Dtype) -> Option<TensorRef> {
    let bytes: Vec<u8> = match dtype {
        Dtype::Float => numbers
            .iter()
            .flat_map(|number| (*number as f32).to_le_bytes())
            .collect(),
        Dtype::Double => numbers
            .iter()
            .flat_map(|number| number.to_le_bytes())
            .collect(),
        _ => return None,
    };
    Some(TensorRef {
        dtype,
        dims,
        bytes: bytes.into(),
    })
}

#[cfg(test)]
mod tests {
    use prost::Message;
    use tract_onnx::prelude::*;

    use super::super::{CleanOptions, clean};
    use super::*;
    use crate::model::text;

    fn run(model: &Model, dims: &[usize]) -> Vec<f32> {
        let bytes = model.proto.encode_to_vec();
        let count = dims.iter().product::<usize>();
        let input: Vec<f32> = (0..count).map(|at| (at as f32 * 0.7).sin()).collect();
        let input = Tensor::from_shape(dims, &input).unwrap();
        let model = tract_onnx::onnx().model_for_read(&mut &bytes[..]).unwrap();
        let outputs = model
            .into_typed()
            .unwrap()
            .into_runnable()
            .unwrap()
            .run(tvec!(input.into()))
            .unwrap();
        outputs[0]
            .cast_to::<f32>()
            .unwrap()
            .try_as_plain_ram()
            .unwrap()
            .as_slice::<f32>()
            .unwrap()
            .to_vec()
    }

    fn folds(linear: &str, dims: &[usize], channels: usize) -> Model {
        let shape = dims
            .iter()
            .map(usize::to_string)
            .collect::<Vec<_>>()
            .join(",");
        let text = format!(
            "
            input x f32[{shape}]
            {linear}
            const gamma f32[{channels}]
            const beta f32[{channels}]
            const mean f32[{channels}]
            const var f32[{channels}] = positive
            y = BatchNormalization(h, gamma, beta, mean, var) {{epsilon=0.001}}
            output y
            "
        );
        let original = text::model(&text).unwrap();
        let mut folded = original.clone();
        let report = clean(
            &mut folded,
            CleanOptions {
                fold_norms: true,
                ..Default::default()
            },
        )
        .unwrap();
        assert_eq!((report.folded_norms, folded.index().nodes().len()), (1, 1));
        let (before, after) = (run(&original, dims), run(&folded, dims));
        assert_eq!(before.len(), after.len());
        for (before, after) in before.iter().zip(&after) {
            assert!(
                (before - after).abs() < 1e-5,
                "{linear}: {before} became {after}"
            );
        }
        folded
    }

    #[test]
    fn convolutions_take_it_up() {
        let folded = folds(
            "const a.weight f32[6,2,3,3]\nh = Conv(x, a.weight) {group=2}",
            &[1, 4, 5, 5],
            6,
        );
        assert_eq!(folded.node(NodeId(0)).input, ["x", "a.weight", "a.bias"]);
        folds(
            "const w f32[6,4,3]\nconst b f32[6]\nh = Conv(x, w, b)",
            &[2, 4, 5],
            6,
        );
        folds(
            "const w f32[4,3,2,2]\nconst b f32[6]\nh = ConvTranspose(x, w, b) {group=2, strides=[2,2]}",
            &[1, 4, 3, 3],
            6,
        );
    }

    #[test]
    fn gemm_takes_it_up_in_both_layouts() {
        folds(
            "const w f32[4,6]\nconst b f32[6]\nh = Gemm(x, w, b) {alpha=0.5, beta=2.0}",
            &[3, 4],
            6,
        );
        folds(
            "const w f32[6,4]\nconst b f32[1,6]\nh = Gemm(x, w, b) {transB=1}",
            &[3, 4],
            6,
        );
        folds("const w f32[6,4]\nh = Gemm(x, w) {transB=1}", &[3, 4], 6);
    }

    #[test]
    fn shared_weights_are_copied_and_other_readers_prevent_it() {
        let head = "
            input x f32[1,2,3,3]
            const w f32[2,2,1,1]
            const gamma f32[2]
            const beta f32[2]
            const mean f32[2]
            const var f32[2] = positive
            ";
        let shared = format!(
            "{head}
            h = Conv(x, w)
            y = BatchNormalization(h, gamma, beta, mean, var)
            z = Conv(y, w)
            output z
            "
        );
        let original = text::model(&shared).unwrap();
        let mut folded = original.clone();
        clean(
            &mut folded,
            CleanOptions {
                fold_norms: true,
                ..Default::default()
            },
        )
        .unwrap();
        assert_eq!(folded.node(NodeId(0)).input, ["x", "w_2", "w_bias"]);
        assert_eq!(folded.node(NodeId(1)).input, ["y", "w"]);
        let (before, after) = (run(&original, &[1, 2, 3, 3]), run(&folded, &[1, 2, 3, 3]));
        assert!(
            before
                .iter()
                .zip(&after)
                .all(|(before, after)| (before - after).abs() < 1e-5)
        );
        for reader in ["output h", "z = Relu(h)\noutput z"] {
            let text = format!(
                "{head}\nh = Conv(x, w)\ny = BatchNormalization(h, gamma, beta, mean, var)\noutput y\n{reader}"
            );
            let mut model = text::model(&text).unwrap();
            assert_eq!(
                clean(
                    &mut model,
                    CleanOptions {
                        fold_norms: true,
                        ..Default::default()
                    }
                )
                .unwrap()
                .folded_norms,
                0
            );
        }
    }

    #[test]
    fn a_trained_network_keeps_its_answers() {
        let path =
            std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/digits_cnn.onnx");
        let original = crate::model::load(&path, crate::model::Limits::default()).unwrap();
        let mut folded = original.clone();
        let report = clean(
            &mut folded,
            CleanOptions {
                fold_norms: true,
                ..Default::default()
            },
        )
        .unwrap();
        let left = folded
            .index()
            .nodes()
            .filter(|(id, _)| folded.node(*id).op_type() == "BatchNormalization")
            .count();
        assert!(
            report.folded_norms > 5 && left == 0 && report.bytes_saved > 0,
            "{report:?}, {left} left"
        );
        let (before, after) = (run(&original, &[2, 1, 8, 8]), run(&folded, &[2, 1, 8, 8]));
        let largest = before.iter().fold(0f32, |most, x| most.max(x.abs()));
        assert!(
            before
                .iter()
                .zip(&after)
                .all(|(before, after)| (before - after).abs() < 1e-5 * largest)
        );
    }
}
