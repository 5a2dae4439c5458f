use std::path::Path;

use super::*;

/// Operators in which nothing may go, whatever the node.
const FROZEN: &[&str] = &[
    "Bernoulli",
    "BlackmanWindow",
    "HammingWindow",
    "ImageDecoder",
    "MurmurHash3",
    "RandomNormalLike",
    "RandomUniform",
    "RandomUniformLike",
    "Adagrad",
    "AffineGrid",
    "Gradient",
    "Momentum",
    "StringNormalizer",
    "ConcatFromSequence",
    "Optional",
    "OptionalHasElement",
    "SequenceAt",
    "SequenceEmpty",
    "SequenceErase",
    "SequenceInsert",
    "SequenceMap",
    "SplitToSequence",
    "DecoderAttention",
    "LongformerAttention",
    "NGramRepeatBlock",
    "QOrderedAttention",
    "CastMap",
    "CategoryMapper",
    "DictVectorizer",
    "Imputer",
    "LabelEncoder",
    "Normalizer",
    "SVMClassifier",
    "SVMRegressor",
    "TreeEnsemble",
    "TreeEnsembleClassifier",
];

/// Control flow, which a one-node model without subgraphs can not show; `control/tests.rs` has their cases.
const UNPROVED: &[&str] = &["If", "Loop", "Scan"];

const UNARY: &[&str] = &[
    "Abs",
    "Acos",
    "Acosh",
    "Asin",
    "Asinh",
    "Atan",
    "Atanh",
    "Ceil",
    "Celu",
    "Cos",
    "Cosh",
    "Elu",
    "Erf",
    "Exp",
    "Floor",
    "HardSigmoid",
    "HardSwish",
    "IsInf",
    "LeakyRelu",
    "Log",
    "Mish",
    "Neg",
    "Reciprocal",
    "Round",
    "Selu",
    "Shrink",
    "Sigmoid",
    "Sign",
    "Sin",
    "Sinh",
    "Softplus",
    "Softsign",
    "Swish",
    "Tan",
    "Tanh",
    "ThresholdedRelu",
    "Hardmax",
];
const BINARY: &[&str] = &[
    "Greater",
    "GreaterOrEqual",
    "Less",
    "LessOrEqual",
    "Min",
    "Mean",
];
const LOGICAL: &[&str] = &["And", "Or", "Xor"];
const BITWISE: &[&str] = &["BitwiseAnd", "BitwiseOr", "BitwiseXor"];
const REDUCING: &[&str] = &[
    "ReduceL1",
    "ReduceLogSum",
    "ReduceLogSumExp",
    "ReduceSumSquare",
];
const GELUS: &[&str] = &["FastGelu", "QuickGelu", "BiasGelu"];

#[test]
fn operators_of_one_shape() {
    for op in UNARY {
        Prove::op(op).input("2x6x4").laws();
    }
    for op in BINARY {
        Prove::op(op).input("2x6x4").input("6x1").laws();
    }
    for op in LOGICAL {
        Prove::op(op).input("bool:2x6x4").input("bool:6x1").laws();
    }
    for op in BITWISE {
        Prove::op(op).input("i32:2x6x4").input("i32:6x1").laws();
    }
    for op in REDUCING {
        Prove::op(op).input("2x6x4").list(&[1]).laws();
    }
    for op in GELUS {
        let case = Prove::op(op).domain("com.microsoft").at(1).input("2x6x4");
        if *op == "BiasGelu" {
            case.weight("4").laws()
        } else {
            case.laws()
        };
    }
    Prove::op("Not").input("bool:2x6").laws();
    Prove::op("BitwiseNot").input("i32:2x6").laws();
    Prove::op("BitShift")
        .input("u8:2x6")
        .input("u8:2x6")
        .text("direction", "LEFT")
        .laws();
    Prove::op("ArgMin").input("2x6x4").int("axis", 1).laws();
    Prove::op("GlobalMaxPool").input("2x6x4x4").laws();
    Prove::op("GlobalLpPool").input("2x6x4x4").laws();
}

fn texts(folder: &Path, found: &mut Vec<String>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => texts(&path, found),
            false => found.push(std::fs::read_to_string(&path).unwrap()),
        }
    }
}

#[test]
fn every_operator_has_a_case() {
    let mut files = Vec::new();
    texts(
        &Path::new(env!("CARGO_MANIFEST_DIR")).join("src/ops"),
        &mut files,
    );
    let is_proved = |name: &str| {
        let lists = [UNARY, BINARY, LOGICAL, BITWISE, REDUCING, GELUS];
        // Families name their cases in a list and go through it.
        let in_tests = |text: &String| {
            let tests = text.split_once("mod tests").map_or("", |(_, tests)| tests);
            tests.contains("Prove::op(op")
                && !text.contains("const UNPROVED")
                && tests.contains(&format!("\"{name}\""))
        };
        let direct = format!("Prove::op(\"{name}\")");
        lists.iter().any(|list| list.contains(&name))
            || files
                .iter()
                .any(|text| text.contains(&direct) || in_tests(text))
    };
    let listed = |name: &&str| {
        crate::ops::microsoft::FROZEN
            .iter()
            .any(|rule| rule.op_type == *name)
    };
    let excused = |name: &&str| FROZEN.contains(name) || UNPROVED.contains(name) || listed(name);
    let missing: Vec<&str> = super::super::registry::rules()
        .map(|rule| rule.op_type)
        .filter(|name| !is_proved(name) && !excused(name))
        .collect();
    assert!(missing.is_empty(), "operators without a case: {missing:?}");
}

/// Operators whose rule is a sibling's, with other names for the same attributes and inputs.
#[test]
fn siblings_hold_the_laws() {
    Prove::op("CumProd")
        .at(26)
        .input("2x8")
        .number(1)
        .gives("2x8")
        .laws();
    Prove::op("BitCast")
        .at(26)
        .int("to", 6)
        .input("2x8")
        .gives("2x8")
        .laws();
    Prove::op("Scatter")
        .at(9)
        .int("axis", 1)
        .input("4x8")
        .input("i64:4x3")
        .input("4x3")
        .gives("4x8")
        .laws();
    let microsoft = |prove: Prove| prove.domain("com.microsoft").at(1);
    microsoft(Prove::op("TransposeMatMul"))
        .int("transA", 1)
        .input("2x8x3")
        .weight("2x8x6")
        .gives("2x3x6")
        .laws();
    microsoft(Prove::op("FusedMatMulActivation"))
        .text("activation", "Relu")
        .input("2x8")
        .weight("8x6")
        .gives("2x6")
        .laws();
    microsoft(Prove::op("MatMulInteger16"))
        .input("i8:2x8")
        .weight("i8:8x6")
        .gives("2x6")
        .laws();
    microsoft(Prove::op("GemmFastGelu"))
        .input("2x8")
        .weight("8x6")
        .weight("6")
        .gives("2x6")
        .laws();
    microsoft(Prove::op("NhwcFusedConv"))
        .text("activation", "Relu")
        .input("1x5x5x4")
        .weight("6x4x3x3")
        .gives("1x3x3x6")
        .laws();
    let quantized = |prove: Prove| microsoft(prove).input("u8:2x8").weight("").weight("u8:");
    let product = quantized(Prove::op("QGemm"))
        .weight("i8:8x6")
        .weight("")
        .weight("i8:")
        .none()
        .weight("")
        .weight("u8:");
    product.gives("2x6").laws();
    quantized(Prove::op("QLinearLeakyRelu"))
        .weight("")
        .weight("u8:")
        .gives("2x8")
        .laws();
    quantized(Prove::op("QLinearMul"))
        .weight("u8:8")
        .weight("")
        .weight("u8:")
        .weight("")
        .weight("u8:")
        .gives("2x8")
        .laws();
    let chosen = microsoft(Prove::op("QLinearWhere"))
        .input("bool:2x8")
        .input("u8:2x8")
        .weight("")
        .weight("u8:");
    chosen
        .weight("u8:8")
        .weight("")
        .weight("u8:")
        .weight("")
        .weight("u8:")
        .gives("2x8")
        .laws();
}
