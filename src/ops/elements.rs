//! Moving the elements of small tensors about, where their contents are known before the model runs.

use super::NodeView;
use crate::facts::{Contents, Dim, Element, Fact};

/// Known contents, by index.
pub(super) struct ElementGrid<'a> {
    elements: &'a [Element],
    extents: Vec<usize>,
}

impl<'a> ElementGrid<'a> {
    /// The contents of an input, if they are known.
    pub fn input(node: &NodeView<'a>, at: usize) -> Option<Self> {
        Self::of(node.input(at)?)
    }

    /// The contents of a fact, if they are known.
    pub fn of(fact: &'a Fact) -> Option<Self> {
        let extents = fact
            .shape
            .as_ref()?
            .iter()
            .map(Dim::count)
            .collect::<Option<Vec<_>>>()?;
        let elements = &*fact.contents.as_ref()?.0;
        (count(&extents)? == elements.len()).then_some(ElementGrid { elements, extents })
    }

    /// The element at an index, one number per axis.
    pub fn at(&self, index: &[usize]) -> Option<Element> {
        if index.len() != self.extents.len()
            || index
                .iter()
                .zip(&self.extents)
                .any(|(at, extent)| at >= extent)
        {
            return None;
        }
        let flat = index
            .iter()
            .zip(&self.extents)
            .fold(0, |flat, (at, extent)| flat * extent + at);
        self.elements.get(flat).cloned()
    }
}

fn count(extents: &[usize]) -> Option<usize> {
    extents
        .iter()
        .try_fold(1usize, |product, extent| product.checked_mul(*extent))
}

/// Contents of a tensor of this shape, element by element in row-major order; `None` when the shape is no small one of
/// numbers, or an element cannot be told.
pub(super) fn compose(
    shape: &[Dim],
    mut element: impl FnMut(&[usize]) -> Option<Element>,
) -> Option<Contents> {
    let extents = shape.iter().map(Dim::count).collect::<Option<Vec<_>>>()?;
    let total = count(&extents).filter(|total| *total <= Contents::LIMIT)?;
    let mut index = vec![0; extents.len()];
    let mut elements = Vec::with_capacity(total);
    for _ in 0..total {
        elements.push(element(&index)?);
        for (at, extent) in index.iter_mut().zip(&extents).rev() {
            *at += 1;
            if *at < *extent {
                break;
            }
            *at = 0;
        }
    }
    Contents::new(elements)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::Dtype;

    #[test]
    fn a_transpose_is_composed_index_by_index() {
        let fact = Fact::new(Some(Dtype::Int64), vec![Dim::Num(2), Dim::Num(3)])
            .with_contents(Contents::ints((0..6).map(Dim::Num)));
        let grid = ElementGrid::of(&fact).unwrap();
        let turned = compose(&[Dim::Num(3), Dim::Num(2)], |index| {
            grid.at(&[index[1], index[0]])
        })
        .unwrap();
        assert_eq!(turned.numbers(), Some(vec![0, 3, 1, 4, 2, 5]));
        assert_eq!(grid.at(&[2, 0]), None);
    }
}
