//! Operators that treat every entry alike: activations, arithmetic, comparisons, casts.
//!
//! One relation for all of them: equal indices of aligned axes belong together.

mod table;

pub(super) use table::RULES;

use std::borrow::Cow;

use super::arithmetic::{self as math, Compute};
use super::broadcast::{axis_names, broadcast, broadcast_contents, broadcast_shape, broadcasts_to};
use super::fit::unless_ranked;
use super::{InferError, NodeView, Operator};
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

#[cfg(test)]
mod tests {
    use crate::facts::{Dim, Element};
    use crate::ops::case::OpCase;
    use crate::proto::Dtype;

    #[test]
    fn every_axis_passes() {
        OpCase::op("Relu")
            .input("bx8x5")
            .expect_shapes("bx8x5")
            .expect_relation("x[i, j, k] → y[i, j, k]");
        OpCase::op("Identity")
            .input("")
            .expect_shapes("")
            .expect_relation("x[] → y[]");
        OpCase::op("SwiGLU")
            .at(28)
            .input("2x3")
            .input("2x3")
            .expect_relation("a[i, j] b[i, j] → y[i, j]");
        OpCase::op("BiasAdd")
            .domain("com.microsoft")
            .at(1)
            .input("2x5x8")
            .weight("8")
            .input("2x5x8")
            .expect_shapes("2x5x8")
            .check_laws();
        OpCase::op("Gelu")
            .domain("com.microsoft")
            .input("2x3")
            .expect_relation("x[i, j] → y[i, j]");
        OpCase::op("Dropout")
            .input("2x3")
            .number(0)
            .outputs(2)
            .expect_shapes("2x3 2x3")
            .expect_relation("x[i, j] ratio[] → y[i, j] mask[i, j]");
        assert_eq!(
            OpCase::op("IsNaN").input("2").facts()[0].dtype,
            Some(Dtype::Bool)
        );
    }

    #[test]
    fn axes_of_one_are_left_alone() {
        OpCase::op("Add")
            .input("bx64x7x7")
            .weight("64x1x1")
            .expect_shapes("bx64x7x7")
            .expect_relation("a[i, j, k, l] b[j, 1, 1] → y[i, j, k, l]");
        OpCase::op("Mul")
            .input("4x1")
            .input("1x6")
            .expect_shapes("4x6")
            .expect_relation("a[i, 1] b[1, j] → y[i, j]");
        OpCase::op("Sub")
            .input("4x1")
            .input("1")
            .expect_shapes("4x1")
            .expect_relation("a[i, j] b[j] → y[i, j]");
        OpCase::op("Where")
            .input("bool:3x1")
            .input("4")
            .weight("")
            .expect_shapes("3x4")
            .expect_relation("cond[i, 1] a[j] b[] → y[i, j]");
        OpCase::op("Sum")
            .input("2x3")
            .input("3")
            .input("2x1")
            .expect_shapes("2x3")
            .expect_relation("x0[i, j] x1[j] x2[i, 1] → y[i, j]");
        OpCase::op("PRelu")
            .input("1x8x4x4")
            .weight("8x1x1")
            .expect_shapes("1x8x4x4")
            .expect_relation("x[i, j, k, l] slope[j, 1, 1] → y[i, j, k, l]");
        OpCase::op("Clip")
            .input("2x3")
            .weight("")
            .none()
            .expect_shapes("2x3")
            .expect_relation("x[i, j] min[] → y[i, j]");
    }

    #[test]
    fn an_axis_that_may_be_one_is_fixed() {
        OpCase::op("Add")
            .input("ax8")
            .input("64x8")
            .expect_shapes("64x8")
            .expect_relation("a[a, j] b[i, j] → y[i, j]");
    }

    #[test]
    fn casts_read_the_other_input_for_its_type() {
        OpCase::op("CastLike")
            .input("2x3")
            .input("i64:4x5")
            .expect_shapes("2x3")
            .expect_relation("x[i, j] like[i2, j2] → y[i, j]");
        assert_eq!(
            OpCase::op("Cast").int("to", 7).input("2").facts()[0].dtype,
            Some(Dtype::Int64)
        );
        OpCase::op("Cast")
            .int("to", 7)
            .floats(&[2.9, -2.9])
            .expect_contents(&[2, -2]);
    }

    #[test]
    fn extents_are_computed_with_symbols() {
        let b = Dim::symbol("b");
        let twice = OpCase::op("Mul")
            .computed(&[b.clone(), Dim::Num(3)])
            .number(2)
            .facts();
        assert_eq!(
            twice[0].contents.clone().unwrap().dims().unwrap(),
            [&b + &b, Dim::Num(6)]
        );
        let equal = OpCase::op("Equal")
            .computed(&[b.clone(), Dim::Num(-1)])
            .list(&[-1, -1])
            .facts();
        assert_eq!(
            &equal[0].contents.as_ref().unwrap().0[..],
            [Element::Bool(false), Element::Bool(true)]
        );
        OpCase::op("Div")
            .list(&[7, -7])
            .number(2)
            .expect_contents(&[3, -3]);
        OpCase::op("Mod")
            .list(&[7, -7])
            .number(3)
            .expect_contents(&[1, 2]);
        OpCase::op("Mod")
            .int("fmod", 1)
            .list(&[7, -7])
            .number(3)
            .expect_contents(&[1, -1]);
        OpCase::op("Max")
            .list(&[1, 5])
            .list(&[3, 2])
            .number(2)
            .expect_contents(&[3, 5]);
        OpCase::op("Clip")
            .list(&[-4, 4, 40])
            .number(0)
            .number(9)
            .expect_contents(&[0, 4, 9]);
        OpCase::op("Pow")
            .list(&[2, 3])
            .number(3)
            .expect_contents(&[8, 27]);
    }

    #[test]
    fn real_numbers_are_rounded_to_their_type() {
        let third = OpCase::op("Div").floats(&[1.0]).floats(&[3.0]).facts();
        assert_eq!(
            &third[0].contents.as_ref().unwrap().0[..],
            [Element::Float(f64::from(1.0f32 / 3.0))]
        );
        let root = OpCase::op("Sqrt").floats(&[2.0]).facts();
        assert_eq!(
            &root[0].contents.as_ref().unwrap().0[..],
            [Element::Float(f64::from(2.0f32.sqrt()))]
        );
    }

    #[test]
    fn extremes_overflow_to_unknown() {
        assert_eq!(
            OpCase::op("Div").list(&[i64::MIN]).number(-1).facts()[0].contents,
            None
        );
        assert_eq!(
            OpCase::op("Mod").list(&[1]).number(0).facts()[0].contents,
            None
        );
        assert_eq!(
            OpCase::op("Add").list(&[i64::MAX]).number(1).facts()[0].contents,
            None
        );
    }
}
