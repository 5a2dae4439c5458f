//! What tract computes rightly, by domain and operator: it looks only at the operator's name, runs strangers of that name
//! silently, and reads past some attributes.
//!
//! The list holds what tract 0.23.9 registers and was found right, after preparation; all else is unverifiable.

use crate::model::edit::{NodeExt, each_node};
use crate::proto::{Dtype, ModelProto, NodeProto};
use crate::run::Unverifiable;

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

/// A form of some operators that tract computes wrongly, and why it is refused.
struct Refused {
    ops: &'static [&'static str],
    when: fn(&NodeProto) -> bool,
    why: &'static str,
}

const fn refused(
    ops: &'static [&'static str],
    when: fn(&NodeProto) -> bool,
    why: &'static str,
) -> Refused {
    Refused { ops, when, why }
}

const RECURRENT: &[&str] = &["LSTM", "GRU", "RNN"];

/// All such forms; the first that fits a node is told.
const REFUSED: &[Refused] = &[
    refused(
        RECURRENT,
        |node| !has_usual_activations(node),
        "tract knows only the usual activations",
    ),
    refused(
        RECURRENT,
        |node| {
            let direction = node.string("direction");
            direction.is_some_and(|direction| direction.eq_ignore_ascii_case("reverse"))
        },
        "tract does not run it backwards",
    ),
    refused(
        RECURRENT,
        |node| {
            let set = |name: &str| node.float(name).unwrap_or(0.0) != 0.0 || is_set(node, name);
            set("clip") || set("input_forget")
        },
        "tract does not clip, nor couple the gates",
    ),
    refused(
        &["Squeeze"],
        |node| node.input(1).is_none() && node.attribute.is_empty(),
        "which axes it drops is not known before it runs",
    ),
    refused(
        &["BatchNormalization"],
        |node| node.int("training_mode") == Some(1),
        "the rank of its input is not known before it runs",
    ),
    refused(
        &["DequantizeLinear", "QuantizeLinear"],
        |node| is_set(node, "block_size"),
        "quantizes block by block",
    ),
    refused(
        &["QuantizeLinear"],
        |node| is_set(node, "output_dtype") && node.input(2).is_none(),
        "names its type by an attribute, which tract does not read",
    ),
    refused(
        &["Einsum"],
        |node| {
            let equation = node.string("equation");
            equation.is_some_and(|equation| equation.trim_end().ends_with("->"))
        },
        "tract reads an empty result as one to be worked out",
    ),
    refused(
        &["Attention"],
        |node| {
            let mut sides = ["left_window_size", "right_window_size"].iter();
            sides.any(|name| node.int(name).is_some_and(|size| size >= 0))
        },
        "looks through a window, which tract does not read",
    ),
    refused(
        &["Attention"],
        |node| node.int("is_causal") == Some(1) && node.input(4).is_some(),
        "tract counts the positions of a causal mask from the first key, not from the last",
    ),
    refused(
        &["SpaceToDepth"],
        |node| node.string("mode").is_some_and(|mode| mode != "DCR"),
        "tract knows only the order DCR",
    ),
    refused(
        &["Swish"],
        |node| node.float("alpha").is_some_and(|alpha| alpha != 1.0),
        "has a factor, which tract does not read",
    ),
    refused(
        &["Cast"],
        |node| is_strange(node.int("to")),
        "the runtime tract lacks this type",
    ),
];

/// Why a node must not be given to tract; `None` when it may.
pub(super) fn problem(node: &NodeProto) -> Option<String> {
    let (domain, op) = node.key();
    let listed = match domain {
        "" => STANDARD,
        "ai.onnx.ml" => LEARNING,
        "com.microsoft" => MICROSOFT,
        _ => &[],
    };
    if !listed.contains(&op) {
        return Some("the runtime tract lacks this operator".into());
    }
    let fits = |refused: &&Refused| refused.ops.contains(&op) && (refused.when)(node);
    REFUSED
        .iter()
        .find(fits)
        .map(|refused| refused.why.to_owned())
}

/// Refuses a lowered model with operators that tract lacks, or computes wrongly.
pub(super) fn check(proto: &ModelProto) -> Result<(), Unverifiable> {
    let Some(graph) = &proto.graph else {
        return Err(Unverifiable::new("the model has no graph"));
    };
    each_node(graph, &mut |node| match problem(node) {
        None => Ok(()),
        Some(problem) => Err(Unverifiable::new(format!("{}: {problem}", node.label()))),
    })
}

fn is_set(node: &NodeProto, name: &str) -> bool {
    node.int_or(name, 0) != 0
}

fn has_usual_activations(node: &NodeProto) -> bool {
    let usual: &[&str] = match node.op_type() {
        "LSTM" => &["sigmoid", "tanh", "tanh"],
        "GRU" => &["sigmoid", "tanh"],
        _ => &["tanh"],
    };
    let activations = node.strings("activations");
    let names: Vec<String> = activations.iter().map(|name| name.to_lowercase()).collect();
    names.chunks(usual.len()).all(|names| names == usual)
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
