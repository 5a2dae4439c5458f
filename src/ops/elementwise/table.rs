//! The operators that treat every entry alike.

use super::{
    BINARY, Cast, Dropout, Elementwise, Identity, Outline, UNARY, VARIADIC, binary,
    dtype_attribute, predicate, truth, unary, variadic,
};
use crate::ops::Rule;
use crate::ops::arithmetic as math;
use crate::ops::constant;
use crate::ops::logic;
use crate::ops::meaning::{Decides, Flow};

pub(in crate::ops) static RULES: &[Rule] = &[
    Rule::onnx("Abs", &unary(math::abs)).flow(Flow::Magnitude),
    Rule::onnx("Acos", &UNARY),
    Rule::onnx("Acosh", &UNARY),
    Rule::onnx("Asin", &UNARY).constant(constant::zero),
    Rule::onnx("Asinh", &UNARY).constant(constant::zero),
    Rule::onnx("Atan", &UNARY).constant(constant::zero),
    Rule::onnx("Atanh", &UNARY).constant(constant::zero),
    Rule::onnx("BitwiseNot", &UNARY),
    Rule::onnx("Ceil", &unary(math::ceil)).chooses(Decides::Always),
    Rule::onnx("Celu", &UNARY).constant(constant::zero),
    Rule::onnx("Cos", &UNARY),
    Rule::onnx("Cosh", &UNARY),
    Rule::onnx("Elu", &UNARY).constant(constant::elu),
    Rule::onnx("Erf", &UNARY).constant(constant::zero),
    Rule::onnx("Exp", &UNARY).constant(constant::exponential),
    Rule::onnx("Floor", &unary(math::floor)).chooses(Decides::Always),
    Rule::onnx("Gelu", &UNARY).constant(constant::zero),
    Rule::onnx("HardSigmoid", &UNARY).constant(constant::hard_sigmoid),
    Rule::onnx("HardSwish", &UNARY).constant(constant::hard_swish),
    Rule::onnx("Identity", &Identity).flow(Flow::Same),
    Rule::onnx(
        "IsInf",
        &Elementwise {
            dtype: truth,
            ..UNARY
        },
    ),
    Rule::onnx(
        "IsNaN",
        &Elementwise {
            dtype: truth,
            ..UNARY
        },
    ),
    Rule::onnx("LeakyRelu", &UNARY).constant(constant::leaky),
    Rule::onnx("Log", &UNARY),
    Rule::onnx("Mish", &UNARY).constant(constant::mish),
    Rule::onnx("Neg", &unary(math::neg)).constant(constant::negated),
    Rule::onnx(
        "Not",
        &Elementwise {
            dtype: truth,
            ..unary(logic::not)
        },
    ),
    Rule::onnx("Reciprocal", &unary(math::reciprocal)),
    Rule::onnx("Relu", &unary(math::relu)).flow(Flow::Rectified),
    Rule::onnx("Round", &unary(math::round)).chooses(Decides::Always),
    Rule::onnx("Selu", &UNARY).constant(constant::zero),
    Rule::onnx("Shrink", &UNARY),
    Rule::onnx("Sigmoid", &UNARY).constant(constant::sigmoid),
    Rule::onnx("Sign", &unary(math::sign)).chooses(Decides::Always),
    Rule::onnx("Sin", &UNARY).constant(constant::zero),
    Rule::onnx("Sinh", &UNARY).constant(constant::zero),
    Rule::onnx("Softplus", &UNARY).constant(constant::softplus),
    Rule::onnx("Softsign", &UNARY).constant(constant::softsign),
    Rule::onnx("Sqrt", &unary(math::sqrt)).constant(constant::root),
    Rule::onnx("Swish", &UNARY).constant(constant::swish),
    Rule::onnx("Tan", &UNARY).constant(constant::zero),
    Rule::onnx("Tanh", &UNARY).constant(constant::tangent),
    Rule::onnx("ThresholdedRelu", &UNARY),
    Rule::onnx(
        "Cast",
        &Cast {
            dtype: |node| dtype_attribute(node, "to"),
            converts: true,
        },
    )
    .flow(Flow::Converted)
    .chooses(Decides::ToWhole),
    Rule::onnx(
        "CastLike",
        &Cast {
            dtype: |node| node.dtype(1),
            converts: true,
        },
    ),
    Rule::onnx(
        "BitCast",
        &Cast {
            dtype: |node| dtype_attribute(node, "to"),
            converts: false,
        },
    ),
    Rule::onnx("Dropout", &Dropout).flow(Flow::Dropped),
    Rule::onnx(
        "Clip",
        &Elementwise {
            names: &["x", "min", "max"],
            outline: Outline::Scalars,
            ..unary(math::clip)
        },
    )
    .flow(Flow::Clipped),
    Rule::onnx(
        "PRelu",
        &Elementwise {
            names: &["x", "slope"],
            ..UNARY
        },
    )
    .flow(Flow::Leaky),
    Rule::onnx("Add", &binary(math::add)).flow(Flow::Add),
    Rule::onnx("Sub", &binary(math::sub)).flow(Flow::Sub),
    Rule::onnx("Mul", &binary(math::mul)).flow(Flow::Mul),
    Rule::onnx("Div", &binary(math::div)).flow(Flow::Div),
    Rule::onnx("Mod", &binary(math::modulo)).chooses(Decides::Always),
    Rule::onnx("Pow", &binary(math::pow)).flow(Flow::Power),
    Rule::onnx("BitShift", &BINARY),
    Rule::onnx("BitwiseAnd", &BINARY),
    Rule::onnx("BitwiseOr", &BINARY),
    Rule::onnx("BitwiseXor", &BINARY),
    Rule::onnx("Equal", &predicate(logic::equal)).chooses(Decides::Always),
    Rule::onnx("Greater", &predicate(logic::greater)).chooses(Decides::Always),
    Rule::onnx("GreaterOrEqual", &predicate(logic::greater_or_equal)).chooses(Decides::Always),
    Rule::onnx("Less", &predicate(logic::less)).chooses(Decides::Always),
    Rule::onnx("LessOrEqual", &predicate(logic::less_or_equal)).chooses(Decides::Always),
    Rule::onnx("And", &predicate(logic::and)),
    Rule::onnx("Or", &predicate(logic::or)),
    Rule::onnx("Xor", &predicate(logic::xor)),
    Rule::onnx("Sum", &variadic(math::add)).flow(Flow::Summed),
    Rule::onnx("Max", &variadic(math::max)).flow(Flow::Largest),
    Rule::onnx("Min", &variadic(math::min)).flow(Flow::Smallest),
    Rule::onnx("Mean", &variadic(math::mean)),
    Rule::onnx(
        "Where",
        &Elementwise {
            names: &["cond", "a", "b"],
            dtype: |node| node.dtype(1).or_else(|| node.dtype(2)),
            partial: true,
            ..binary(logic::choose)
        },
    )
    .flow(Flow::Selected),
    Rule::onnx("SwiGLU", &BINARY),
    Rule::microsoft("BiasAdd", &VARIADIC),
    Rule::microsoft("SwiGLU", &BINARY),
    Rule::microsoft("Gelu", &UNARY).constant(constant::zero),
    Rule::microsoft("QuickGelu", &UNARY).constant(constant::zero),
    Rule::microsoft(
        "FastGelu",
        &Elementwise {
            names: &["x", "bias"],
            ..UNARY
        },
    )
    .constant(constant::zero_alone),
    Rule::microsoft("BiasGelu", &BINARY),
];
