//! Operators that look at an axis as a whole: softmax, the largest entries, distinct or non-zero entries, draws.

use super::broadcast::{axis_name, broadcast};
use super::elementwise::dtype_attribute;
use super::fit::unless_ranked;
use super::frozen::same;
use super::meaning::Decides;
use super::{InferError, NodeView, Operator, Rule};
use crate::facts::{Contents, Dim, Element, Fact};
use crate::proto::Dtype;
use crate::relation::{LabelId, Port, Reason, Relation};

/// Softmax, LogSoftmax, Hardmax.
struct Softmax;

impl Operator for Softmax {
    fn infer(&self, node: &NodeView) -> Result<Vec<Fact>, InferError> {
        same(node)
    }

    fn relate(&self, node: &NodeView) -> Relation {
        if let Some(frozen) = unless_ranked(node) {
            return frozen;
        }
        let dims = node.output_shape(0).unwrap_or_default();
        // Before version 13 all axes from `axis` on were taken together.
        let old = node.opset < 13;
        let axis = NodeView::axis(
            node.int("axis").unwrap_or(if old { 1 } else { -1 }),
            dims.len(),
        );
        let Some(axis) = axis else {
            return node.frozen(Reason::operator("an axis that does not exist"));
        };
        let mut builder = node.relation();
        let labels = broadcast(
            &mut builder,
            dims,
            [(Port::In(0), "x"), (Port::Out(0), "y")],
        );
        let last = if old { labels.len() } else { axis + 1 };
        for label in labels.iter().take(last).skip(axis) {
            builder.fix(
                *label,
                Reason::operator("the axis is normalised as a whole"),
            );
        }
        builder.finish()
    }
}

/// TopK: the largest entries of an axis, and where they are.
struct TopK;

impl TopK {
    fn axis(node: &NodeView, rank: usize) -> Option<usize> {
        NodeView::axis(node.int("axis").unwrap_or(-1), rank)
    }
}

impl Operator for TopK {
    fn infer(&self, node: &NodeView) -> Result<Vec<Fact>, InferError> {
        let count = match (
            node.int("k"),
            node.contents(1).and_then(Contents::dims).as_deref(),
        ) {
            (Some(count), _) if !node.has_input(1) => Some(Dim::Num(count)),
            (_, Some([count])) => Some(count.clone()),
            _ => None,
        };
        if count
            .as_ref()
            .and_then(Dim::num)
            .is_some_and(|count| count < 0)
        {
            return Err(InferError("a negative number of entries".into()));
        }
        let mut shape = node.shape(0).map(<[Dim]>::to_vec);
        if let Some(shape) = &mut shape {
            let error = || InferError("an axis that does not exist".into());
            let axis = Self::axis(node, shape.len()).ok_or_else(error)?;
            *shape.get_mut(axis).ok_or_else(error)? =
                count.unwrap_or_else(|| node.unknown(0, axis));
        }
        let places = Fact {
            dtype: Some(Dtype::Int64),
            shape: shape.clone(),
            contents: None,
        };
        Ok([
            Fact {
                dtype: node.dtype(0),
                shape,
                contents: None,
            },
            places,
        ]
        .into_iter()
        .take(node.node.output.len())
        .collect())
    }

    fn relate(&self, node: &NodeView) -> Relation {
        if let Some(frozen) = unless_ranked(node) {
            return frozen;
        }
        let (from, to) = (
            node.shape(0).unwrap_or_default(),
            node.output_shape(0).unwrap_or_default(),
        );
        let Some(axis) = Self::axis(node, from.len()) else {
            return node.frozen(Reason::operator("an axis that does not exist"));
        };
        let reason = Reason::operator("the axis is sorted as a whole");
        let mut builder = node.relation();
        let mut labels: Vec<LabelId> = from
            .iter()
            .enumerate()
            .map(|(at, dim)| builder.free(axis_name(at), dim.clone()))
            .collect();
        builder.port(Port::In(0), "x", labels.clone());
        builder.whole(Port::In(1), "k", &Reason::operator("a single number"));
        if let (Some(label), Some(dim)) = (labels.get_mut(axis), to.get(axis)) {
            builder.fix(*label, reason.clone());
            *label = builder.fixed("", dim.clone(), reason);
        }
        builder.port(Port::Out(0), "values", labels.clone());
        builder.port(Port::Out(1), "indices", labels);
        builder.finish()
    }

    fn shape_inputs(&self, _: &NodeView) -> Vec<u32> {
        vec![1]
    }
}

/// Unique: as many entries as there are distinct ones.
struct Unique;

impl Operator for Unique {
    fn infer(&self, node: &NodeView) -> Result<Vec<Fact>, InferError> {
        let count = node.unknown(0, 0);
        let list = |dim: Dim| Fact::new(Some(Dtype::Int64), vec![dim]);
        let (values, inverse) = match (node.shape(0), node.int("axis")) {
            (Some(shape), Some(axis)) => {
                let error =
                    || InferError(format!("axis {axis} of a tensor of {} axes", shape.len()));
                let axis = NodeView::axis(axis, shape.len()).ok_or_else(error)?;
                let replaced = |(at, dim): (usize, &Dim)| {
                    if at == axis {
                        count.clone()
                    } else {
                        dim.clone()
                    }
                };
                (
                    Some(shape.iter().enumerate().map(replaced).collect()),
                    shape.get(axis).cloned(),
                )
            }
            (Some(shape), None) => (Some(vec![count.clone()]), Some(Dim::product(shape))),
            (None, None) => (Some(vec![count.clone()]), None),
            (None, Some(_)) => (None, None),
        };
        let values = Fact {
            dtype: node.dtype(0),
            shape: values,
            contents: None,
        };
        let inverse = list(inverse.unwrap_or_else(|| node.unknown(2, 0)));
        Ok([values, list(count.clone()), inverse, list(count)]
            .into_iter()
            .take(node.node.output.len())
            .collect())
    }

    fn relate(&self, node: &NodeView) -> Relation {
        node.frozen(Reason::operator(
            "whole entries are compared with each other",
        ))
    }
}

/// NonZero: the places of the entries that are not zero.
struct NonZero;

impl NonZero {
    /// The places, axis after axis, and how many there are.
    fn places(node: &NodeView) -> Option<(Vec<i64>, usize)> {
        let extents: Vec<usize> = node
            .shape(0)?
            .iter()
            .map(Dim::count)
            .collect::<Option<_>>()?;
        let elements = &node.contents(0)?.0;
        let mut found = Vec::new();
        for (position, element) in elements.iter().enumerate() {
            let zero = match element {
                Element::Int(dim) if dim.differs(&Dim::Num(0)) => false,
                other => other.real()? == 0.0,
            };
            if !zero {
                found.push(position);
            }
        }
        let mut places = Vec::new();
        let mut stride = elements.len();
        for extent in &extents {
            stride = stride.checked_div(*extent)?;
            places.extend(
                found
                    .iter()
                    .map(|position| (position / stride.max(1) % extent) as i64),
            );
        }
        Some((places, found.len()))
    }
}

impl Operator for NonZero {
    fn infer(&self, node: &NodeView) -> Result<Vec<Fact>, InferError> {
        let dtype = Some(Dtype::Int64);
        let Some(shape) = node.shape(0) else {
            return Ok(vec![Fact {
                dtype,
                ..Fact::default()
            }]);
        };
        let rank = Dim::from(shape.len());
        Ok(vec![match Self::places(node) {
            Some((places, count)) => {
                let contents = Contents::ints(places.into_iter().map(Dim::Num));
                Fact::new(dtype, vec![rank, Dim::from(count)]).with_contents(contents)
            }
            None => Fact::new(dtype, vec![rank, node.unknown(0, 1)]),
        }])
    }

    fn relate(&self, node: &NodeView) -> Relation {
        node.frozen(Reason::operator("positions are the result"))
    }
}

/// Multinomial: draws from each row.
struct Multinomial;

impl Operator for Multinomial {
    fn infer(&self, node: &NodeView) -> Result<Vec<Fact>, InferError> {
        let dtype = dtype_attribute(node, "dtype").or(Some(Dtype::Int32));
        let samples = Dim::Num(node.int("sample_size").unwrap_or(1));
        let shape = node
            .shape(0)
            .map(|shape| shape.iter().take(1).cloned().chain([samples]).collect());
        Ok(vec![Fact {
            dtype,
            shape,
            contents: None,
        }])
    }

    fn relate(&self, node: &NodeView) -> Relation {
        node.frozen(Reason::operator("random draws"))
    }
}

pub(super) static RULES: &[Rule] = &[
    Rule::onnx("Softmax", &Softmax),
    Rule::onnx("LogSoftmax", &Softmax),
    Rule::onnx("Hardmax", &Softmax).chooses(Decides::Always),
    Rule::onnx("TopK", &TopK).chooses(Decides::Always),
    Rule::onnx("Unique", &Unique).chooses(Decides::Always),
    Rule::onnx("NonZero", &NonZero).chooses(Decides::Always),
    Rule::onnx("Multinomial", &Multinomial).draws(),
];

#[cfg(test)]
mod tests {
    use crate::ops::case::OpCase;
    use crate::ops::lookup;
    use crate::relation::{Fate, Relation};

    fn relation(case: &OpCase) -> Relation {
        case.view(|view| lookup("", view.node.op_type()).unwrap().relate(view))
    }

    fn free(case: &OpCase) -> Vec<String> {
        relation(case)
            .labels
            .iter()
            .filter(|label| label.fate == Fate::Free)
            .map(|label| label.name.to_string())
            .collect()
    }

    #[test]
    fn softmax_fixes_its_axis() {
        let new = OpCase::op("Softmax")
            .int("axis", 1)
            .input("bx12x8")
            .expect_shapes("bx12x8")
            .expect_relation("x[i, j, k] → y[i, j, k]");
        assert_eq!(free(&new), ["i", "k"]);
        let old = OpCase::op("LogSoftmax").at(11).input("bx12x8");
        assert_eq!(free(&old), ["i"], "all axes from `axis` on are one");
    }

    #[test]
    fn the_largest_are_counted() {
        let top = OpCase::op("TopK")
            .input("bx100")
            .list(&[5])
            .outputs(2)
            .expect_shapes("bx5 bx5");
        assert_eq!(
            free(&top.expect_relation("x[i, j] k[1] → values[i, 5] indices[i, 5]")),
            ["i"]
        );
        OpCase::op("TopK")
            .at(9)
            .int("k", 3)
            .input("2x9")
            .outputs(2)
            .expect_shapes("2x3 2x3");
        OpCase::op("TopK")
            .input("2x9")
            .input("i64:1")
            .outputs(2)
            .expect_shapes("2x?out0.1 2x?out0.1");
    }

    #[test]
    fn results_of_unknown_length_are_frozen() {
        assert!(
            free(
                &OpCase::op("Unique")
                    .input("4x3")
                    .outputs(4)
                    .expect_shapes("?out0.0 ?out0.0 12 ?out0.0")
            )
            .is_empty()
        );
        assert!(
            free(
                &OpCase::op("NonZero")
                    .input("4x3")
                    .expect_shapes("2x?out0.1")
            )
            .is_empty()
        );
        OpCase::op("NonZero")
            .list(&[0, 7, 0, 9])
            .expect_shapes("1x2")
            .expect_contents(&[1, 3]);
        OpCase::op("Multinomial")
            .int("sample_size", 6)
            .input("bx3")
            .expect_shapes("bx6");
    }
}
