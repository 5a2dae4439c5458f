//! Operators that read extents or make tensors from them: Shape, Size, constants, ranges, random numbers.

use super::arithmetic as math;
use super::broadcast::{axis_name, axis_names, broadcast};
use super::elementwise::dtype_attribute;
use super::fit::unless_ranked;
use super::held::held_tensor;
use super::{Cut, InferError, NodeEdit, NodeView, Operator, RewriteError, Rule};
use crate::facts::{Contents, Dim, Element, Fact, contents_of};
use crate::model::TensorRef;
use crate::proto::{Dtype, TensorProto};
use crate::relation::{LabelId, Port, Reason, Relation};

/// Shape and Size: numbers of entries, not entries.
struct Count {
    of: fn(&NodeView, &[Dim]) -> Fact,
    /// What is known where the rank is not.
    unranked: fn() -> Fact,
}

impl Operator for Count {
    fn infer(&self, node: &NodeView) -> Result<Vec<Fact>, InferError> {
        Ok(vec![node.shape(0).map_or_else(self.unranked, |shape| {
            (self.of)(node, shape)
        })])
    }

    fn relate(&self, node: &NodeView) -> Relation {
        let mut builder = node.relation();
        builder.unread(Port::In(0), "x", axis_names());
        builder.whole(Port::Out(0), "y", &Reason::operator("extents"));
        builder.finish()
    }
}

/// The extents from `start` to `end`.
fn extents(node: &NodeView, shape: &[Dim]) -> Fact {
    let rank = shape.len() as i64;
    let bound = |name: &str, default: i64| {
        let bound = node.int(name).unwrap_or(default);
        usize::try_from(
            if bound < 0 {
                bound.saturating_add(rank)
            } else {
                bound
            }
            .clamp(0, rank),
        )
        .unwrap_or(0)
    };
    let (start, end) = (bound("start", 0), bound("end", rank));
    let dims: Vec<Dim> = shape.get(start..end).unwrap_or_default().to_vec();
    Fact::new(Some(Dtype::Int64), vec![Dim::from(dims.len())]).with_contents(Contents::ints(dims))
}

/// Their product.
fn size(_: &NodeView, shape: &[Dim]) -> Fact {
    Fact::new(Some(Dtype::Int64), Vec::new()).with_contents(Contents::ints([Dim::product(shape)]))
}

/// Constant.
struct Constant;

impl Constant {
    /// Type and extents of a message that holds no dense numbers (text), or not in this file.
    fn declared(tensor: &TensorProto) -> Fact {
        Fact::new(
            Dtype::from_code(tensor.data_type()),
            tensor.dims.iter().map(|dim| Dim::Num(*dim)).collect(),
        )
    }

    fn fact(node: &NodeView) -> Option<Fact> {
        if let Some(tensor) = held_tensor(node.node) {
            let dims = tensor.dims.iter().map(|dim| Dim::from(*dim)).collect();
            return Some(Fact::new(Some(tensor.dtype), dims).with_contents(contents_of(&tensor)));
        }
        let attribute = node.node.attribute.first()?;
        match attribute.name() {
            "value" => attribute.t.as_ref().map(Self::declared),
            "value_string" => Some(Fact::new(Some(Dtype::String), Vec::new())),
            "value_strings" => Some(Fact::new(
                Some(Dtype::String),
                vec![Dim::from(attribute.strings.len())],
            )),
            "sparse_value" => {
                let sparse = attribute.sparse_tensor.as_ref()?;
                let dtype = sparse
                    .values
                    .as_ref()
                    .and_then(|values| Dtype::from_code(values.data_type()));
                Some(Fact::new(
                    dtype,
                    sparse.dims.iter().map(|dim| Dim::Num(*dim)).collect(),
                ))
            }
            _ => None,
        }
    }
}

impl Operator for Constant {
    fn infer(&self, node: &NodeView) -> Result<Vec<Fact>, InferError> {
        let fact =
            Self::fact(node).ok_or_else(|| InferError("a constant without a value".into()))?;
        if fact.shape.iter().flatten().any(|dim| !dim.is_count()) {
            return Err(InferError("a negative extent".into()));
        }
        Ok(vec![fact])
    }

    fn relate(&self, node: &NodeView) -> Relation {
        // Only a dense tensor is cut like an initializer.
        let dense = node.attribute("value").is_some() && held_tensor(node.node).is_some();
        if !dense {
            return node.frozen(Reason::operator("a constant that is no dense tensor"));
        }
        let mut builder = node.relation();
        let dims = node.output_shape(0).unwrap_or_default();
        let labels: Vec<LabelId> = dims
            .iter()
            .enumerate()
            .map(|(axis, dim)| builder.free(axis_name(axis), dim.clone()))
            .collect();
        builder.port(Port::Out(0), "y", labels);
        builder.finish()
    }
}

/// ConstantOfShape: the same number everywhere.
struct ConstantOfShape;

impl Operator for ConstantOfShape {
    fn infer(&self, node: &NodeView) -> Result<Vec<Fact>, InferError> {
        let value = node
            .attribute("value")
            .and_then(|attribute| attribute.t.as_ref());
        let (dtype, element) = match value.map(TensorRef::from_proto) {
            None => (Some(Dtype::Float), Element::Float(0.0)),
            Some(Ok(tensor)) => {
                let element = contents_of(&tensor).and_then(|contents| contents.0.first().cloned());
                (Some(tensor.dtype), element.unwrap_or(Element::Unknown))
            }
            Some(Err(_)) => (
                value.and_then(|value| Dtype::from_code(value.data_type())),
                Element::Unknown,
            ),
        };
        let rank = node
            .shape(0)
            .and_then(|shape| shape.first()?.count())
            .filter(|rank| *rank <= Contents::LIMIT);
        let shape = rank.map(|rank| {
            let stated = node
                .contents(0)
                .map(|contents| &contents.0[..])
                .unwrap_or_default();
            (0..rank)
                .map(|axis| {
                    stated
                        .get(axis)
                        .and_then(Element::dim)
                        .unwrap_or_else(|| node.unknown(0, axis))
                })
                .collect()
        });
        let mut fact = Fact {
            dtype,
            shape,
            contents: None,
        };
        if fact
            .shape
            .iter()
            .flatten()
            .any(|dim| dim.num().is_some_and(|number| number < 0))
        {
            return Err(InferError("a negative extent".into()));
        }
        fact.contents = match fact.elements().filter(|count| *count <= Contents::LIMIT) {
            Some(count) if element != Element::Unknown => Contents::new(vec![element; count]),
            _ => None,
        };
        Ok(vec![fact])
    }

    fn relate(&self, node: &NodeView) -> Relation {
        if let Some(frozen) = unless_ranked(node) {
            return frozen;
        }
        let mut builder = node.relation();
        let stated = node
            .contents(0)
            .map(|contents| &contents.0[..])
            .unwrap_or_default();
        let mut labels = Vec::new();
        for (axis, dim) in node.output_shape(0).unwrap_or_default().iter().enumerate() {
            labels.push(match stated.get(axis).and_then(Element::dim) {
                Some(_) => builder.free(axis_name(axis), dim.clone()),
                None => builder.fixed(axis_name(axis), dim.clone(), Reason::Dynamic),
            });
        }
        builder.whole(Port::In(0), "shape", &Reason::operator("extents"));
        builder.port(Port::Out(0), "y", labels);
        builder.finish()
    }

    fn rewrite(&self, _: &NodeView, cut: &Cut, edit: &mut NodeEdit) -> Result<(), RewriteError> {
        let Some(layout) = cut.relation.ports.get(&Port::Out(0)) else {
            return Ok(());
        };
        let changed = |label: LabelId| cut.kept(label).map(|kept| Dim::from(kept.len()));
        edit.demand(
            0,
            layout
                .axes
                .iter()
                .map(|axis| axis.labels().next().and_then(changed))
                .collect(),
        );
        Ok(())
    }

    fn shape_inputs(&self, _: &NodeView) -> Vec<u32> {
        vec![0]
    }
}

/// Range: numbers at equal distances.
struct RangeOperator;

impl RangeOperator {
    /// How many numbers there are.
    fn count(start: &Dim, limit: &Dim, delta: &Dim) -> Option<Dim> {
        let (span, step) = match delta.num()? {
            0 => return None,
            step if step < 0 => (start - limit, step.checked_neg()?),
            step => (limit - start, step),
        };
        match span.num() {
            Some(number) => Some(Dim::Num(if number <= 0 {
                0
            } else {
                (number - 1) / step + 1
            })),
            None if span.is_count() => span.ceil_div(step),
            None => None,
        }
    }

    fn real_count(parts: &[Element]) -> Option<Dim> {
        const MOST: f64 = 1e9;
        let [start, limit, delta] = parts else {
            return None;
        };
        let count = ((limit.real()? - start.real()?) / delta.real()?).ceil();
        (count < MOST).then(|| Dim::Num(count.max(0.0) as i64))
    }
}

impl Operator for RangeOperator {
    fn infer(&self, node: &NodeView) -> Result<Vec<Fact>, InferError> {
        let dtype = node.dtype(0);
        let parts: Option<Vec<Element>> = (0..3)
            .map(|at| node.contents(at)?.0.first().cloned())
            .collect();
        let parts = parts.unwrap_or_default();
        let dims: Option<Vec<Dim>> = parts.iter().map(math::whole).collect();
        let (extent, contents) = match dims.as_deref() {
            Some([start, limit, delta]) => {
                let extent = Self::count(start, limit, delta);
                let contents = match extent.as_ref().and_then(Dim::count) {
                    Some(count) if count <= Contents::LIMIT => {
                        let place = |at: usize| {
                            math::add(
                                node,
                                &[
                                    parts[0].clone(),
                                    math::mul(node, &[Element::Int(at.into()), parts[2].clone()]),
                                ],
                            )
                        };
                        Contents::new((0..count).map(place).collect())
                    }
                    _ => None,
                };
                (extent, contents)
            }
            _ => (Self::real_count(&parts), None),
        };
        Ok(vec![
            Fact::new(dtype, vec![extent.unwrap_or_else(|| node.unknown(0, 0))])
                .with_contents(contents),
        ])
    }

    fn relate(&self, node: &NodeView) -> Relation {
        node.frozen(Reason::operator("numbers counted up"))
    }
}

/// Makes numbers of its own, of extents that an attribute or another tensor has.
struct MadeShape {
    reason: &'static str,
}

impl Operator for MadeShape {
    fn infer(&self, node: &NodeView) -> Result<Vec<Fact>, InferError> {
        let like = node.input(0);
        let dtype = dtype_attribute(node, "dtype").or(if node.inputs.is_empty() {
            Some(Dtype::Float)
        } else {
            node.dtype(0)
        });
        let stated = node
            .ints("shape")
            .map(|shape| shape.iter().map(|extent| Dim::Num(*extent)).collect());
        let shape = if like.is_some() {
            node.shape(0).map(<[Dim]>::to_vec)
        } else {
            stated
        };
        Ok(vec![Fact {
            dtype,
            shape,
            contents: None,
        }])
    }

    fn relate(&self, node: &NodeView) -> Relation {
        if let Some(frozen) = unless_ranked(node) {
            return frozen;
        }
        let mut builder = node.relation();
        let dims = node.output_shape(0).unwrap_or_default();
        for label in broadcast(
            &mut builder,
            dims,
            [(Port::In(0), "x"), (Port::Out(0), "y")],
        ) {
            builder.fix(label, Reason::operator(self.reason));
        }
        builder.finish()
    }
}

/// Random numbers.
const RANDOM: MadeShape = MadeShape {
    reason: "random numbers",
};

pub(super) static RULES: &[Rule] = &[
    Rule::onnx(
        "Shape",
        &Count {
            of: extents,
            unranked: || Fact {
                dtype: Some(Dtype::Int64),
                ..Fact::default()
            },
        },
    )
    .reads_extents(),
    Rule::onnx(
        "Size",
        &Count {
            of: size,
            unranked: || Fact::new(Some(Dtype::Int64), Vec::new()),
        },
    )
    .reads_extents(),
    Rule::onnx("Constant", &Constant).holds_tensor(),
    Rule::onnx("ConstantOfShape", &ConstantOfShape),
    Rule::onnx("Range", &RangeOperator),
    Rule::microsoft("Range", &RangeOperator),
    Rule::onnx(
        "EyeLike",
        &MadeShape {
            reason: "ones on a diagonal",
        },
    ),
    Rule::onnx("RandomNormal", &RANDOM).draws(),
    Rule::onnx("RandomUniform", &RANDOM).draws(),
    Rule::onnx("RandomNormalLike", &RANDOM).draws(),
    Rule::onnx("RandomUniformLike", &RANDOM).draws(),
    Rule::onnx("Bernoulli", &RANDOM).draws(),
];

#[cfg(test)]
mod tests {
    use crate::facts::{Dim, Element};
    use crate::model::TensorRef;
    use crate::ops::case::OpCase;
    use crate::ops::{Cut, NodeEdit, lookup};
    use crate::proto::Dtype;

    #[test]
    fn shapes_are_contents() {
        let shape = OpCase::op("Shape")
            .input("bx3x8")
            .expect_shapes("3")
            .expect_relation("x[i, j, k] → y[3]")
            .facts();
        assert_eq!(
            shape[0].contents.clone().unwrap().dims().unwrap(),
            [Dim::symbol("b"), Dim::Num(3), Dim::Num(8)]
        );
        OpCase::op("Shape")
            .int("start", -2)
            .int("end", 9)
            .input("bx3x8")
            .expect_shapes("2")
            .expect_contents(&[3, 8]);
        OpCase::op("Shape")
            .int("start", 2)
            .int("end", 1)
            .input("2x3x8")
            .expect_shapes("0")
            .expect_contents(&[]);
        OpCase::op("Size")
            .input("2x3x8")
            .expect_shapes("")
            .expect_contents(&[48])
            .expect_relation("x[i, j, k] → y[]");
    }

    #[test]
    fn constants_are_cut_when_dense() {
        let tensor = TensorRef::from_i64(vec![2, 2], &[1, 2, 3, 4]).to_proto("");
        OpCase::op("Constant")
            .tensor("value", tensor)
            .expect_shapes("2x2")
            .expect_contents(&[1, 2, 3, 4])
            .expect_relation("→ y[i, j]");
        OpCase::op("Constant")
            .ints("value_ints", &[4, 5])
            .expect_shapes("2")
            .expect_contents(&[4, 5])
            .expect_relation("→ output 0[2]");
        OpCase::op("Constant")
            .text("value_string", "a")
            .expect_shapes("");
    }

    #[test]
    fn filled_tensors_follow_their_shape() {
        let ones = TensorRef::from_i64(vec![1], &[1]).to_proto("");
        let filled = OpCase::op("ConstantOfShape")
            .tensor("value", ones)
            .list(&[2, 2])
            .expect_shapes("2x2")
            .expect_contents(&[1, 1, 1, 1]);
        filled.expect_relation("shape[2] → y[i, j]").view(|view| {
            let operator = lookup("", "ConstantOfShape").unwrap();
            let relation = operator.relate(view);
            let mut kept = vec![None; relation.labels.len()];
            kept[relation.named("j").unwrap().index()] = Some([0u32].into());
            let mut edit = NodeEdit::default();
            operator
                .rewrite(
                    view,
                    &Cut {
                        relation: &relation,
                        kept,
                    },
                    &mut edit,
                )
                .unwrap();
            assert_eq!(edit.demands[0].elements, [None, Some(Dim::Num(1))]);
        });
        let zeros = OpCase::op("ConstantOfShape")
            .computed(&[Dim::symbol("b"), Dim::Num(4)])
            .expect_shapes("bx4")
            .facts();
        assert_eq!(zeros[0].dtype, Some(Dtype::Float));
        OpCase::op("ConstantOfShape")
            .input("i64:2")
            .expect_shapes("?out0.0x?out0.1");
        OpCase::op("ConstantOfShape").list(&[]).expect_shapes("");
        assert_eq!(
            OpCase::op("ConstantOfShape").list(&[1]).facts()[0]
                .contents
                .as_ref()
                .unwrap()
                .0[..],
            [Element::Float(0.0)]
        );
    }

    #[test]
    fn ranges_are_counted() {
        OpCase::op("Range")
            .number(1)
            .number(8)
            .number(3)
            .expect_shapes("3")
            .expect_contents(&[1, 4, 7]);
        OpCase::op("Range")
            .number(8)
            .number(1)
            .number(-3)
            .expect_shapes("3")
            .expect_contents(&[8, 5, 2]);
        OpCase::op("Range")
            .number(8)
            .number(1)
            .number(3)
            .expect_shapes("0")
            .expect_contents(&[]);
        OpCase::op("Range")
            .number(0)
            .computed(&[Dim::symbol("s")])
            .number(1)
            .expect_shapes("s");
        let zero = OpCase::op("Cast").int("to", 1).number(0).facts();
        assert_eq!(
            zero[0].contents.as_ref().unwrap().0[..],
            [Element::Float(0.0)]
        );
        OpCase::op("Range")
            .floats(&[0.0])
            .floats(&[3.0])
            .floats(&[1.0])
            .expect_shapes("3");
        OpCase::op("Range")
            .floats(&[0.0])
            .floats(&[1.0])
            .floats(&[0.25])
            .expect_shapes("4");
        OpCase::op("Range")
            .input("i64:")
            .number(1)
            .number(1)
            .expect_shapes("?out0.0");
    }

    #[test]
    fn made_numbers_have_stated_extents() {
        OpCase::op("RandomNormal")
            .ints("shape", &[2, 3])
            .expect_shapes("2x3")
            .expect_relation("→ y[i, j]");
        OpCase::op("EyeLike")
            .int("dtype", 7)
            .input("3x3")
            .expect_shapes("3x3")
            .expect_relation("x[i, j] → y[i, j]");
    }
}
