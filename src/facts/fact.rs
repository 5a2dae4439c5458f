//! What is known of one value.

use super::{Contents, Dim};
use crate::proto::Dtype;

/// What is known of one value; `Default` is "nothing".
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Fact {
    /// Element type; `None` when unknown, and for sequences, maps and optionals.
    pub dtype: Option<Dtype>,
    /// Extents; `None` when even the rank is unknown.
    pub shape: Option<Vec<Dim>>,
    /// The elements, of small tensors that shapes are computed with.
    pub contents: Option<Contents>,
}

impl Fact {
    /// A tensor of known type and shape.
    pub fn new(dtype: Option<Dtype>, shape: Vec<Dim>) -> Self {
        Fact {
            dtype,
            shape: Some(shape),
            contents: None,
        }
    }

    /// A tensor of which not even the rank is known.
    pub fn unranked(dtype: Option<Dtype>) -> Self {
        Fact {
            dtype,
            shape: None,
            contents: None,
        }
    }

    /// The number of axes, if it is known.
    pub fn rank(&self) -> Option<usize> {
        self.shape.as_ref().map(Vec::len)
    }

    /// The same with contents.
    pub fn with_contents(mut self, contents: Option<Contents>) -> Self {
        self.contents = contents;
        self
    }

    /// The number of elements, if the shape is all numbers.
    pub fn elements(&self) -> Option<usize> {
        self.shape
            .as_ref()?
            .iter()
            .try_fold(1usize, |product, dim| product.checked_mul(dim.count()?))
    }
}
