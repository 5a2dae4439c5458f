//! Operators that treat every entry alike: activations, arithmetic, comparisons, casts.
//!
//! One relation for all of them: equal indices of aligned axes belong together.

use std::borrow::Cow;

use super::arithmetic::{self as math, Compute};
use super::broadcast::{axis_names, broadcast, broadcast_contents, broadcast_shape, broadcasts_to};
use super::fit::unless_ranked;
use super::meaning::{Decides, Flow};
use super::{InferError, NodeView, Operator, Rule};
use crate::facts::{Dim, Element, Fact};
use crate::proto::Dtype;
use crate::relation::{Port, Reason, Relation};

/// Which of the inputs give the output its shape.
enum Outline {
    /// All, broadcast against each other.
    All,
    /// The first; the others are broadcast to it.
    First,
    /// The first; the others are single numbers.
    Scalars,
}

/// An operator that treats every entry alike.
struct Elementwise {
    /// What the standard calls the inputs; without names they are `x0`, `x1` …
    names: &'static [&'static str],
    outline: Outline,
    dtype: fn(&NodeView) -> Option<Dtype>,
    compute: Option<Compute>,
    /// Whether `compute` gives something where an input is not known.
    partial: bool,
}

/// One input; the output has its type.
const UNARY: Elementwise = Elementwise {
    names: &["x"],
    outline: Outline::First,
    dtype: |node| node.dtype(0),
    compute: None,
    partial: false,
};
/// Two inputs; the output has the type of the first.
const BINARY: Elementwise = Elementwise {
    names: &["a", "b"],
    outline: Outline::All,
    dtype: |node| node.dtype(0),
    compute: None,
    partial: false,
};
/// Any number of inputs of one type.
const VARIADIC: Elementwise = Elementwise {
    names: &[],
    ..BINARY
};

const fn unary(compute: Compute) -> Elementwise {
    Elementwise {
        compute: Some(compute),
        ..UNARY
    }
}

const fn binary(compute: Compute) -> Elementwise {
    Elementwise {
        compute: Some(compute),
        ..BINARY
    }
}

const fn variadic(compute: Compute) -> Elementwise {
    Elementwise {
        compute: Some(compute),
        ..VARIADIC
    }
}

/// Two inputs; the output is a truth value.
const fn predicate(compute: Compute) -> Elementwise {
    Elementwise {
        dtype: truth,
        partial: true,
        ..binary(compute)
    }
}

fn truth(_: &NodeView) -> Option<Dtype> {
    Some(Dtype::Bool)
}

/// The type that an attribute names.
pub(super) fn dtype_attribute(node: &NodeView, name: &str) -> Option<Dtype> {
    node.int(name)
        .and_then(|code| i32::try_from(code).ok())
        .and_then(Dtype::from_code)
}

impl Elementwise {
    fn name(&self, at: usize) -> Cow<'static, str> {
        match self.names.get(at) {
            Some(name) => Cow::Borrowed(*name),
            None => Cow::Owned(format!("x{at}")),
        }
    }

    fn shape(&self, node: &NodeView) -> Result<Option<Vec<Dim>>, InferError> {
        let shapes: Vec<Option<&[Dim]>> = node
            .inputs
            .iter()
            .flatten()
            .map(|fact| fact.shape.as_deref())
            .collect();
        let Some(shapes) = shapes.into_iter().collect::<Option<Vec<_>>>() else {
            return Ok(node
                .shape(0)
                .filter(|_| !matches!(self.outline, Outline::All))
                .map(<[Dim]>::to_vec));
        };
        let Some((first, others)) = shapes.split_first() else {
            return Ok(None);
        };
        match self.outline {
            Outline::All => broadcast_shape(&shapes).map(Some),
            Outline::First => others
                .iter()
                .try_for_each(|other| broadcasts_to(other, first))
                .map(|()| Some(first.to_vec())),
            Outline::Scalars => Ok(Some(first.to_vec())),
        }
    }
}

impl Operator for Elementwise {
    fn infer(&self, node: &NodeView) -> Result<Vec<Fact>, InferError> {
        let shape = self.shape(node)?;
        let contents = match (&shape, self.compute) {
            (Some(shape), Some(compute)) => broadcast_contents(node, shape, self.partial, compute),
            _ => None,
        };
        Ok(vec![Fact {
            dtype: (self.dtype)(node),
            shape,
            contents,
        }])
    }

    fn relate(&self, node: &NodeView) -> Relation {
        if let Some(frozen) = unless_ranked(node) {
            return frozen;
        }
        let mut builder = node.relation();
        let dims = node.output_shape(0).unwrap_or_default();
        let parameters = match self.outline {
            Outline::Scalars => 1,
            _ => node.inputs.len(),
        };
        let inputs =
            (0..node.inputs.len().min(parameters)).map(|at| (Port::In(at as u32), self.name(at)));
        broadcast(
            &mut builder,
            dims,
            inputs.chain([(Port::Out(0), Cow::Borrowed("y"))]),
        );
        for at in parameters..node.inputs.len() {
            builder.whole(
                Port::In(at as u32),
                self.name(at),
                &Reason::operator("a single number"),
            );
        }
        builder.finish()
    }

    fn is_entrywise(&self) -> bool {
        true
    }
}

/// Passes on any value, also one that is no tensor.
struct Identity;

impl Operator for Identity {
    fn infer(&self, node: &NodeView) -> Result<Vec<Fact>, InferError> {
        Ok(vec![node.input(0).cloned().unwrap_or_default()])
    }

    fn relate(&self, node: &NodeView) -> Relation {
        UNARY.relate(node)
    }

    fn is_entrywise(&self) -> bool {
        true
    }
}

/// Cast, CastLike and BitCast: another type.
struct Cast {
    dtype: fn(&NodeView) -> Option<Dtype>,
    /// Whether numbers keep their value.
    converts: bool,
}

impl Operator for Cast {
    fn infer(&self, node: &NodeView) -> Result<Vec<Fact>, InferError> {
        let dtype = (self.dtype)(node);
        let Some(input) = node.input(0) else {
            return Ok(vec![Fact {
                dtype,
                ..Fact::default()
            }]);
        };
        let contents = match (&input.contents, self.converts) {
            (Some(contents), true) => crate::facts::Contents::new(
                contents
                    .0
                    .iter()
                    .map(|element| math::cast(dtype, element))
                    .collect(),
            ),
            _ => None,
        };
        let contents = contents.filter(|contents| {
            contents
                .0
                .iter()
                .any(|element| *element != Element::Unknown)
        });
        Ok(vec![Fact {
            dtype,
            shape: input.shape.clone(),
            contents,
        }])
    }

    fn relate(&self, node: &NodeView) -> Relation {
        if node.shape(0).is_none() || node.output_shape(0).is_none() {
            return node.frozen(Reason::operator("a tensor of unknown rank"));
        }
        let mut builder = node.relation();
        broadcast(
            &mut builder,
            node.output_shape(0).unwrap_or_default(),
            [(Port::In(0), "x"), (Port::Out(0), "y")],
        );
        builder.unread(Port::In(1), "like", axis_names());
        builder.finish()
    }

    fn is_entrywise(&self) -> bool {
        true
    }
}

/// Dropout: the output, and which entries were kept.
struct Dropout;

impl Operator for Dropout {
    fn infer(&self, node: &NodeView) -> Result<Vec<Fact>, InferError> {
        let input = node.input(0).cloned().unwrap_or_default();
        let mask = if node.opset < 10 {
            input.dtype
        } else {
            Some(Dtype::Bool)
        };
        let mask = Fact {
            dtype: mask,
            shape: input.shape.clone(),
            contents: None,
        };
        Ok([
            Fact {
                contents: None,
                ..input
            },
            mask,
        ]
        .into_iter()
        .take(node.node.output.len())
        .collect())
    }

    fn relate(&self, node: &NodeView) -> Relation {
        if let Some(frozen) = unless_ranked(node) {
            return frozen;
        }
        let mut builder = node.relation();
        let dims = node.output_shape(0).unwrap_or_default();
        let labels = broadcast(
            &mut builder,
            dims,
            [
                (Port::In(0), "x"),
                (Port::Out(0), "y"),
                (Port::Out(1), "mask"),
            ],
        );
        // Another shape is another draw.
        let off = node
            .contents(2)
            .is_some_and(|training| training.0.iter().all(|truth| truth.real() == Some(0.0)));
        let drops = node.has_input(2) && !off;
        labels
            .iter()
            .filter(|_| drops)
            .for_each(|label| builder.fix(*label, Reason::operator("entries dropped at random")));
        for (at, name) in [(1, "ratio"), (2, "training")] {
            builder.whole(Port::In(at), name, &Reason::operator("a single number"));
        }
        builder.finish()
    }

    fn is_entrywise(&self) -> bool {
        true
    }
}

pub(super) static RULES: &[Rule] = &[
    Rule::onnx("Abs", &unary(math::abs)).flow(Flow::Magnitude),
    Rule::onnx("Acos", &UNARY),
    Rule::onnx("Acosh", &UNARY),
    Rule::onnx("Asin", &UNARY),
    Rule::onnx("Asinh", &UNARY),
    Rule::onnx("Atan", &UNARY),
    Rule::onnx("Atanh", &UNARY),
    Rule::onnx("BitwiseNot", &UNARY),
    Rule::onnx("Ceil", &unary(math::ceil)).chooses(Decides::Always),
    Rule::onnx("Celu", &UNARY),
    Rule::onnx("Cos", &UNARY),
    Rule::onnx("Cosh", &UNARY),
    Rule::onnx("Elu", &UNARY),
    Rule::onnx("Erf", &UNARY),
    Rule::onnx("Exp", &UNARY),
    Rule::onnx("Floor", &unary(math::floor)).chooses(Decides::Always),
    Rule::onnx("Gelu", &UNARY),
    Rule::onnx("HardSigmoid", &UNARY),
    Rule::onnx("HardSwish", &UNARY),
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
    Rule::onnx("LeakyRelu", &UNARY),
    Rule::onnx("Log", &UNARY),
    Rule::onnx("Mish", &UNARY),
    Rule::onnx("Neg", &unary(math::neg)),
    Rule::onnx(
        "Not",
        &Elementwise {
            dtype: truth,
            ..unary(math::not)
        },
    ),
    Rule::onnx("Reciprocal", &unary(math::reciprocal)),
    Rule::onnx("Relu", &unary(math::relu)).flow(Flow::Rectified),
    Rule::onnx("Round", &unary(math::round)).chooses(Decides::Always),
    Rule::onnx("Selu", &UNARY),
    Rule::onnx("Shrink", &UNARY),
    Rule::onnx("Sigmoid", &UNARY),
    Rule::onnx("Sign", &unary(math::sign)).chooses(Decides::Always),
    Rule::onnx("Sin", &UNARY),
    Rule::onnx("Sinh", &UNARY),
    Rule::onnx("Softplus", &UNARY),
    Rule::onnx("Softsign", &UNARY),
    Rule::onnx("Sqrt", &unary(math::sqrt)),
    Rule::onnx("Swish", &UNARY),
    Rule::onnx("Tan", &UNARY),
    Rule::onnx("Tanh", &UNARY),
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
    Rule::onnx("Equal", &predicate(math::equal)).chooses(Decides::Always),
    Rule::onnx("Greater", &predicate(math::greater)).chooses(Decides::Always),
    Rule::onnx("GreaterOrEqual", &predicate(math::greater_or_equal)).chooses(Decides::Always),
    Rule::onnx("Less", &predicate(math::less)).chooses(Decides::Always),
    Rule::onnx("LessOrEqual", &predicate(math::less_or_equal)).chooses(Decides::Always),
    Rule::onnx("And", &predicate(math::and)),
    Rule::onnx("Or", &predicate(math::or)),
    Rule::onnx("Xor", &predicate(math::xor)),
    Rule::onnx("Sum", &variadic(math::add)),
    Rule::onnx("Max", &variadic(math::max)).flow(Flow::Largest),
    Rule::onnx("Min", &variadic(math::min)).flow(Flow::Smallest),
    Rule::onnx("Mean", &variadic(math::mean)),
    Rule::onnx(
        "Where",
        &Elementwise {
            names: &["cond", "a", "b"],
            dtype: |node| node.dtype(1).or_else(|| node.dtype(2)),
            partial: true,
            ..binary(math::choose)
        },
    )
    .flow(Flow::Selected),
    Rule::onnx("SwiGLU", &BINARY),
    Rule::microsoft("BiasAdd", &VARIADIC),
    Rule::microsoft("SwiGLU", &BINARY),
    Rule::microsoft("Gelu", &UNARY),
    Rule::microsoft("QuickGelu", &UNARY),
    Rule::microsoft(
        "FastGelu",
        &Elementwise {
            names: &["x", "bias"],
            ..UNARY
        },
    ),
    Rule::microsoft("BiasGelu", &BINARY),
];

#[cfg(test)]
mod tests {
    use crate::facts::{Dim, Element};
    use crate::ops::prove::Prove;
    use crate::proto::Dtype;

    #[test]
    fn every_axis_passes() {
        Prove::op("Relu")
            .input("bx8x5")
            .gives("bx8x5")
            .relates("x[i, j, k] → y[i, j, k]");
        Prove::op("Identity")
            .input("")
            .gives("")
            .relates("x[] → y[]");
        Prove::op("SwiGLU")
            .at(28)
            .input("2x3")
            .input("2x3")
            .relates("a[i, j] b[i, j] → y[i, j]");
        Prove::op("BiasAdd")
            .domain("com.microsoft")
            .at(1)
            .input("2x5x8")
            .weight("8")
            .input("2x5x8")
            .gives("2x5x8")
            .laws();
        Prove::op("Gelu")
            .domain("com.microsoft")
            .input("2x3")
            .relates("x[i, j] → y[i, j]");
        Prove::op("Dropout")
            .input("2x3")
            .number(0)
            .outputs(2)
            .gives("2x3 2x3")
            .relates("x[i, j] ratio[] → y[i, j] mask[i, j]");
        assert_eq!(
            Prove::op("IsNaN").input("2").facts()[0].dtype,
            Some(Dtype::Bool)
        );
    }

    #[test]
    fn axes_of_one_are_left_alone() {
        Prove::op("Add")
            .input("bx64x7x7")
            .weight("64x1x1")
            .gives("bx64x7x7")
            .relates("a[i, j, k, l] b[j, 1, 1] → y[i, j, k, l]");
        Prove::op("Mul")
            .input("4x1")
            .input("1x6")
            .gives("4x6")
            .relates("a[i, 1] b[1, j] → y[i, j]");
        Prove::op("Sub")
            .input("4x1")
            .input("1")
            .gives("4x1")
            .relates("a[i, j] b[j] → y[i, j]");
        Prove::op("Where")
            .input("bool:3x1")
            .input("4")
            .weight("")
            .gives("3x4")
            .relates("cond[i, 1] a[j] b[] → y[i, j]");
        Prove::op("Sum")
            .input("2x3")
            .input("3")
            .input("2x1")
            .gives("2x3")
            .relates("x0[i, j] x1[j] x2[i, 1] → y[i, j]");
        Prove::op("PRelu")
            .input("1x8x4x4")
            .weight("8x1x1")
            .gives("1x8x4x4")
            .relates("x[i, j, k, l] slope[j, 1, 1] → y[i, j, k, l]");
        Prove::op("Clip")
            .input("2x3")
            .weight("")
            .none()
            .gives("2x3")
            .relates("x[i, j] min[] → y[i, j]");
    }

    #[test]
    fn an_axis_that_may_be_one_is_fixed() {
        Prove::op("Add")
            .input("ax8")
            .input("64x8")
            .gives("64x8")
            .relates("a[a, j] b[i, j] → y[i, j]");
    }

    #[test]
    fn casts_read_the_other_input_for_its_type() {
        Prove::op("CastLike")
            .input("2x3")
            .input("i64:4x5")
            .gives("2x3")
            .relates("x[i, j] like[i2, j2] → y[i, j]");
        assert_eq!(
            Prove::op("Cast").int("to", 7).input("2").facts()[0].dtype,
            Some(Dtype::Int64)
        );
        Prove::op("Cast")
            .int("to", 7)
            .floats(&[2.9, -2.9])
            .holds(&[2, -2]);
    }

    #[test]
    fn extents_are_computed_with_symbols() {
        let b = Dim::symbol("b");
        let twice = Prove::op("Mul")
            .computed(&[b.clone(), Dim::Num(3)])
            .number(2)
            .facts();
        assert_eq!(
            twice[0].contents.clone().unwrap().dims().unwrap(),
            [&b + &b, Dim::Num(6)]
        );
        let equal = Prove::op("Equal")
            .computed(&[b.clone(), Dim::Num(-1)])
            .list(&[-1, -1])
            .facts();
        assert_eq!(
            &equal[0].contents.as_ref().unwrap().0[..],
            [Element::Bool(false), Element::Bool(true)]
        );
        Prove::op("Div").list(&[7, -7]).number(2).holds(&[3, -3]);
        Prove::op("Mod").list(&[7, -7]).number(3).holds(&[1, 2]);
        Prove::op("Mod")
            .int("fmod", 1)
            .list(&[7, -7])
            .number(3)
            .holds(&[1, -1]);
        Prove::op("Max")
            .list(&[1, 5])
            .list(&[3, 2])
            .number(2)
            .holds(&[3, 5]);
        Prove::op("Clip")
            .list(&[-4, 4, 40])
            .number(0)
            .number(9)
            .holds(&[0, 4, 9]);
        Prove::op("Pow").list(&[2, 3]).number(3).holds(&[8, 27]);
    }

    #[test]
    fn real_numbers_are_rounded_to_their_type() {
        let third = Prove::op("Div").floats(&[1.0]).floats(&[3.0]).facts();
        assert_eq!(
            &third[0].contents.as_ref().unwrap().0[..],
            [Element::Float(f64::from(1.0f32 / 3.0))]
        );
        let root = Prove::op("Sqrt").floats(&[2.0]).facts();
        assert_eq!(
            &root[0].contents.as_ref().unwrap().0[..],
            [Element::Float(f64::from(2.0f32.sqrt()))]
        );
    }

    #[test]
    fn extremes_overflow_to_unknown() {
        assert_eq!(
            Prove::op("Div").list(&[i64::MIN]).number(-1).facts()[0].contents,
            None
        );
        assert_eq!(
            Prove::op("Mod").list(&[1]).number(0).facts()[0].contents,
            None
        );
        assert_eq!(
            Prove::op("Add").list(&[i64::MAX]).number(1).facts()[0].contents,
            None
        );
    }
}
