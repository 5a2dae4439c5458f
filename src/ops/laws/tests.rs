use super::*;

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
        OpCase::op(op).input("2x6x4").check_laws();
    }
    for op in BINARY {
        OpCase::op(op).input("2x6x4").input("6x1").check_laws();
    }
    for op in LOGICAL {
        OpCase::op(op)
            .input("bool:2x6x4")
            .input("bool:6x1")
            .check_laws();
    }
    for op in BITWISE {
        OpCase::op(op)
            .input("i32:2x6x4")
            .input("i32:6x1")
            .check_laws();
    }
    for op in REDUCING {
        OpCase::op(op).input("2x6x4").list(&[1]).check_laws();
    }
    for op in GELUS {
        let case = OpCase::op(op).domain("com.microsoft").at(1).input("2x6x4");
        if *op == "BiasGelu" {
            case.weight("4").check_laws()
        } else {
            case.check_laws()
        };
    }
    OpCase::op("Not").input("bool:2x6").check_laws();
    OpCase::op("BitwiseNot").input("i32:2x6").check_laws();
    OpCase::op("BitShift")
        .input("u8:2x6")
        .input("u8:2x6")
        .text("direction", "LEFT")
        .check_laws();
    OpCase::op("ArgMin")
        .input("2x6x4")
        .int("axis", 1)
        .check_laws();
    OpCase::op("GlobalMaxPool").input("2x6x4x4").check_laws();
    OpCase::op("GlobalLpPool").input("2x6x4x4").check_laws();
}

/// Operators whose rule is a sibling's, with other names for the same attributes and inputs.
#[test]
fn siblings_hold_the_laws() {
    OpCase::op("CumProd")
        .at(26)
        .input("2x8")
        .number(1)
        .expect_shapes("2x8")
        .check_laws();
    OpCase::op("BitCast")
        .at(26)
        .int("to", 6)
        .input("2x8")
        .expect_shapes("2x8")
        .check_laws();
    OpCase::op("Scatter")
        .at(9)
        .int("axis", 1)
        .input("4x8")
        .input("i64:4x3")
        .input("4x3")
        .expect_shapes("4x8")
        .check_laws();
    let microsoft = |case: OpCase| case.domain("com.microsoft").at(1);
    microsoft(OpCase::op("TransposeMatMul"))
        .int("transA", 1)
        .input("2x8x3")
        .weight("2x8x6")
        .expect_shapes("2x3x6")
        .check_laws();
    microsoft(OpCase::op("FusedMatMulActivation"))
        .text("activation", "Relu")
        .input("2x8")
        .weight("8x6")
        .expect_shapes("2x6")
        .check_laws();
    microsoft(OpCase::op("MatMulInteger16"))
        .input("i8:2x8")
        .weight("i8:8x6")
        .expect_shapes("2x6")
        .check_laws();
    microsoft(OpCase::op("GemmFastGelu"))
        .input("2x8")
        .weight("8x6")
        .weight("6")
        .expect_shapes("2x6")
        .check_laws();
    microsoft(OpCase::op("NhwcFusedConv"))
        .text("activation", "Relu")
        .input("1x5x5x4")
        .weight("6x4x3x3")
        .expect_shapes("1x3x3x6")
        .check_laws();
    let quantized = |case: OpCase| microsoft(case).input("u8:2x8").weight("").weight("u8:");
    let product = quantized(OpCase::op("QGemm"))
        .weight("i8:8x6")
        .weight("")
        .weight("i8:")
        .none()
        .weight("")
        .weight("u8:");
    product.expect_shapes("2x6").check_laws();
    quantized(OpCase::op("QLinearLeakyRelu"))
        .weight("")
        .weight("u8:")
        .expect_shapes("2x8")
        .check_laws();
    quantized(OpCase::op("QLinearMul"))
        .weight("u8:8")
        .weight("")
        .weight("u8:")
        .weight("")
        .weight("u8:")
        .expect_shapes("2x8")
        .check_laws();
    let chosen = microsoft(OpCase::op("QLinearWhere"))
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
        .expect_shapes("2x8")
        .check_laws();
}
