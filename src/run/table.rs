//! What tract computes rightly, by domain and operator: it looks only at the operator's name, runs strangers of that name
//! silently, and reads past some attributes.
//!
//! The list holds what tract 0.23.9 registers and was found right, after preparation; all else is unverifiable.

use super::prepare::{input, int, text, texts};
use crate::model::normal_domain;
use crate::proto::{Dtype, NodeProto};

const STANDARD: &[&str] = &[
    "Abs",
    "Acos",
    "Acosh",
    "Add",
    "And",
    "ArgMax",
    "ArgMin",
    "Asin",
    "Asinh",
    "Atan",
    "Atanh",
    "Attention",
    "AveragePool",
    "BatchNormalization",
    "BitShift",
    "BitwiseAnd",
    "BitwiseNot",
    "BitwiseOr",
    "BitwiseXor",
    "BlackmanWindow",
    "Cast",
    "CastLike",
    "Ceil",
    "Celu",
    "Clip",
    "Compress",
    "Concat",
    "Constant",
    "ConstantOfShape",
    "Conv",
    "ConvInteger",
    "ConvTranspose",
    "Cos",
    "Cosh",
    "CumSum",
    "DFT",
    "DepthToSpace",
    "DequantizeLinear",
    "Div",
    "Dropout",
    "DynamicQuantizeLinear",
    "Einsum",
    "Elu",
    "Equal",
    "Erf",
    "Exp",
    "Expand",
    "EyeLike",
    "Flatten",
    "Floor",
    "GRU",
    "Gather",
    "GatherElements",
    "GatherND",
    "Gelu",
    "Gemm",
    "GlobalAveragePool",
    "GlobalLpPool",
    "GlobalMaxPool",
    "Greater",
    "GreaterOrEqual",
    "GridSample",
    "GroupNormalization",
    "HammingWindow",
    "HannWindow",
    "HardSigmoid",
    "HardSwish",
    "Hardmax",
    "Identity",
    "If",
    "InstanceNormalization",
    "IsInf",
    "IsNaN",
    "LRN",
    "LSTM",
    "LayerNormalization",
    "LeakyRelu",
    "Less",
    "LessOrEqual",
    "Log",
    "LogSoftmax",
    "LpNormalization",
    "MatMul",
    "MatMulInteger",
    "Max",
    "MaxPool",
    "Mean",
    "MeanVarianceNormalization",
    "MelWeightMatrix",
    "Min",
    "Mish",
    "Mod",
    "Mul",
    "Neg",
    "NonMaxSuppression",
    "NonZero",
    "Not",
    "OneHot",
    "Or",
    "PRelu",
    "Pad",
    "Pow",
    "QLinearConv",
    "QLinearMatMul",
    "QuantizeLinear",
    "RMSNormalization",
    "RNN",
    "Range",
    "Reciprocal",
    "ReduceL1",
    "ReduceL2",
    "ReduceLogSum",
    "ReduceLogSumExp",
    "ReduceMax",
    "ReduceMean",
    "ReduceMin",
    "ReduceProd",
    "ReduceSum",
    "ReduceSumSquare",
    "Relu",
    "Reshape",
    "Resize",
    "RotaryEmbedding",
    "Round",
    "STFT",
    "Scan",
    "Scatter",
    "ScatterElements",
    "ScatterND",
    "Selu",
    "Shape",
    "Shrink",
    "Sigmoid",
    "Sign",
    "SimplifiedLayerNormalization",
    "Sin",
    "Sinh",
    "Size",
    "Slice",
    "Softmax",
    "Softplus",
    "Softsign",
    "SpaceToDepth",
    "Split",
    "Sqrt",
    "Squeeze",
    "Sub",
    "Sum",
    "Swish",
    "Tan",
    "Tanh",
    "ThresholdedRelu",
    "Tile",
    "TopK",
    "Transpose",
    "Trilu",
    "Unsqueeze",
    "Where",
    "Xor",
];

const LEARNING: &[&str] = &[
    "CategoryMapper",
    "LinearClassifier",
    "LinearRegressor",
    "Normalizer",
    "TreeEnsembleClassifier",
];

const MICROSOFT: &[&str] = &[
    "BiasGelu",
    "FastGelu",
    "GatherBlockQuantized",
    "Gelu",
    "GroupQueryAttention",
    "MatMulNBits",
    "MultiHeadAttention",
    "QuickGelu",
    "RotaryEmbedding",
    "SimplifiedLayerNormalization",
    "SkipLayerNormalization",
    "SkipSimplifiedLayerNormalization",
];

/// Why a node must not be given to tract; `None` when it may.
pub(super) fn problem(node: &NodeProto) -> Option<String> {
    let op = node.op_type();
    let listed = match normal_domain(node.domain()) {
        "" => STANDARD,
        "ai.onnx.ml" => LEARNING,
        "com.microsoft" => MICROSOFT,
        _ => &[],
    };
    if !listed.contains(&op) {
        return Some("the runtime tract lacks this operator".into());
    }
    let refused = match op {
        "LSTM" => recurrent(node, &["sigmoid", "tanh", "tanh"]),
        "GRU" => recurrent(node, &["sigmoid", "tanh"]),
        "RNN" => recurrent(node, &["tanh"]),
        "Squeeze" if input(node, 1).is_none() && node.attribute.is_empty() => {
            Some("which axes it drops is not known before it runs")
        }
        "BatchNormalization" if int(node, "training_mode") == Some(1) => {
            Some("the rank of its input is not known before it runs")
        }
        "DequantizeLinear" | "QuantizeLinear"
            if int(node, "block_size").is_some_and(|size| size != 0) =>
        {
            Some("quantizes block by block")
        }
        "QuantizeLinear"
            if int(node, "output_dtype").is_some_and(|code| code != 0)
                && input(node, 2).is_none() =>
        {
            Some("names its type by an attribute, which tract does not read")
        }
        "Einsum"
            if text(node, "equation")
                .is_some_and(|equation| equation.trim_end().ends_with("->")) =>
        {
            Some("tract reads an empty result as one to be worked out")
        }
        "Attention"
            if ["left_window_size", "right_window_size"]
                .iter()
                .any(|name| int(node, name).is_some_and(|size| size >= 0)) =>
        {
            Some("looks through a window, which tract does not read")
        }
        "Attention" if int(node, "is_causal") == Some(1) && input(node, 4).is_some() => Some(
            "tract counts the positions of a causal mask from the first key, not from the last",
        ),
        "SpaceToDepth" if text(node, "mode").is_some_and(|mode| mode != "DCR") => {
            Some("tract knows only the order DCR")
        }
        "Swish"
            if node
                .attribute
                .iter()
                .any(|attribute| attribute.name() == "alpha" && attribute.f() != 1.0) =>
        {
            Some("has a factor, which tract does not read")
        }
        "Cast" if is_strange(int(node, "to")) => Some("the runtime tract lacks this type"),
        _ => None,
    };
    refused.map(str::to_owned)
}

/// tract reads neither the direction nor the activations, and does not clip.
fn recurrent(node: &NodeProto, usual: &[&str]) -> Option<&'static str> {
    let activations: Vec<String> = texts(node, "activations")
        .iter()
        .map(|name| name.to_lowercase())
        .collect();
    if !activations.chunks(usual.len()).all(|names| names == usual) {
        return Some("tract knows only the usual activations");
    }
    if text(node, "direction").is_some_and(|direction| direction.eq_ignore_ascii_case("reverse")) {
        return Some("tract does not run it backwards");
    }
    if node.attribute.iter().any(|attribute| {
        matches!(attribute.name(), "clip" | "input_forget")
            && (attribute.f() != 0.0 || attribute.i() != 0)
    }) {
        return Some("tract does not clip, nor couple the gates");
    }
    None
}

fn is_strange(code: Option<i64>) -> bool {
    let dtype = code
        .and_then(|code| i32::try_from(code).ok())
        .and_then(Dtype::from_code);
    dtype.is_none_or(|dtype| {
        !dtype.is_integer()
            && !matches!(
                dtype,
                Dtype::Float | Dtype::Double | Dtype::Float16 | Dtype::Bool | Dtype::String
            )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_that_is_listed_is_registered() {
        let registered = tract_onnx::onnx().op_register.0;
        for op in STANDARD.iter().chain(LEARNING).chain(MICROSOFT) {
            assert!(registered.contains_key(*op), "{op}");
        }
    }

    #[test]
    fn a_stranger_of_a_known_name_is_refused() {
        let node = |domain: &str| NodeProto {
            op_type: Some("Relu".into()),
            domain: Some(domain.into()),
            ..Default::default()
        };
        assert!(problem(&node("my.domain")).is_some());
        assert!(problem(&node("ai.onnx")).is_none());
    }
}
