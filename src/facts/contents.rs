//! The elements of small tensors, as far as they are known before the model runs.

use std::sync::Arc;

use super::Dim;
use crate::model::TensorRef;
use crate::proto::Dtype;

/// One element of a tensor.
#[derive(Clone, Debug, PartialEq)]
pub enum Element {
    /// A whole number, possibly an expression over symbolic extents.
    Int(Dim),
    /// A real number.
    Float(f64),
    /// A truth value.
    Bool(bool),
    /// Not known.
    Unknown,
}

/// All elements of a tensor in row-major order; its shape stands in the [`Fact`](super::Fact).
#[derive(Clone, Debug, PartialEq)]
pub struct Contents(pub Arc<[Element]>);

impl Contents {
    /// Tensors with more elements than this are not followed: no shape is computed with them.
    pub const LIMIT: usize = 4096;

    /// Wraps elements, unless there are too many to follow.
    pub fn new(elements: Vec<Element>) -> Option<Self> {
        (elements.len() <= Self::LIMIT).then(|| Contents(elements.into()))
    }

    /// Wraps whole numbers or extents.
    pub fn ints(dims: impl IntoIterator<Item = Dim>) -> Option<Self> {
        Self::new(dims.into_iter().map(Element::Int).collect())
    }

    /// All elements as extents (truth values as 0 and 1), if all are known whole numbers.
    pub fn dims(&self) -> Option<Vec<Dim>> {
        self.0.iter().map(Element::dim).collect()
    }

    /// All elements as plain numbers, if they are.
    pub fn numbers(&self) -> Option<Vec<i64>> {
        self.0.iter().map(|element| element.dim()?.num()).collect()
    }
}

impl Element {
    /// The element as an extent, if it is a known whole number or truth value.
    pub fn dim(&self) -> Option<Dim> {
        match self {
            Element::Int(dim) => Some(dim.clone()),
            Element::Bool(truth) => Some(Dim::Num(i64::from(*truth))),
            Element::Float(_) | Element::Unknown => None,
        }
    }

    /// The element as a real number, if it is known as a number.
    pub fn real(&self) -> Option<f64> {
        match self {
            Element::Int(dim) => dim.num().map(|number| number as f64),
            Element::Bool(truth) => Some(f64::from(u8::from(*truth))),
            Element::Float(number) => Some(*number),
            Element::Unknown => None,
        }
    }
}

/// The contents of a constant tensor: whole numbers and truth values up to [`Contents::LIMIT`] elements, real numbers
/// only where there are few (scales, exponents), for no shape is computed from weights.
pub fn contents_of(tensor: &TensorRef) -> Option<Contents> {
    const FEW: usize = 64;
    let count = tensor.elements();
    if tensor.dtype.is_float() {
        return if count <= FEW {
            Contents::new(tensor.to_f64()?.into_iter().map(Element::Float).collect())
        } else {
            None
        };
    }
    if count > Contents::LIMIT {
        return None;
    }
    let element: fn(i64) -> Element = match tensor.dtype {
        Dtype::Bool => |number| Element::Bool(number != 0),
        _ => |number| Element::Int(Dim::Num(number)),
    };
    Contents::new(tensor.to_i64()?.into_iter().map(element).collect())
}
