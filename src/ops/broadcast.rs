//! Aligned axes: shapes, contents and labels of operators that treat entries at equal indices together.

use std::borrow::Cow;

use super::{InferError, NodeView};
use crate::facts::{Contents, Dim, Element, Fact};
use crate::relation::{Builder, LabelId, Port, Reason};

/// Names for the axes of operators to which all axes are alike.
const AXES: [&str; 8] = ["i", "j", "k", "l", "m", "n", "o", "p"];

/// The name of axis `axis` where all axes are alike.
pub(super) fn axis_name(axis: usize) -> &'static str {
    AXES.get(axis).copied().unwrap_or("q")
}

/// The names of all axes, one after the other.
pub(super) fn axis_names() -> impl Iterator<Item = &'static str> {
    (0..).map(axis_name)
}

/// The extents that numpy's broadcasting of tensors of these extents gives.
pub(super) fn broadcast_shape(shapes: &[&[Dim]]) -> Result<Vec<Dim>, InferError> {
    let rank = shapes.iter().map(|shape| shape.len()).max().unwrap_or(0);
    let mut result = vec![Dim::Num(1); rank];
    for shape in shapes {
        for (result, dim) in result.iter_mut().rev().zip(shape.iter().rev()) {
            if !dim.is_one() && !result.is_one() && result.differs(dim) {
                return Err(InferError(format!(
                    "extents {result} and {dim} do not broadcast"
                )));
            }
            *result = result.broadcast(dim);
        }
    }
    Ok(result)
}

/// An error when a tensor of extents `dims` cannot be broadcast to `target`, whose extents stay.
pub(super) fn broadcasts_to(dims: &[Dim], target: &[Dim]) -> Result<(), InferError> {
    let surplus = dims.len().saturating_sub(target.len());
    let fits = dims
        .iter()
        .take(surplus)
        .all(|dim| !dim.differs(&Dim::Num(1)))
        && dims
            .iter()
            .rev()
            .zip(target.iter().rev())
            .all(|(dim, target)| dim.is_one() || !dim.differs(target));
    if fits {
        Ok(())
    } else {
        Err(InferError(format!(
            "extents {dims:?} do not broadcast to {target:?}"
        )))
    }
}

/// Relates ports, aligned at their last axes, to index spaces of extents `dims` (an output's): gives one label per extent,
/// and describes every port by them. An axis of 1 that is broadcast gets a label of its own; one that may or may not be
/// (its extent is known only at run time) is fixed, and so is what it is aligned with.
pub(super) fn broadcast<N: Into<Cow<'static, str>>>(
    builder: &mut Builder,
    dims: &[Dim],
    ports: impl IntoIterator<Item = (Port, N)>,
) -> Vec<LabelId> {
    let labels: Vec<LabelId> = dims
        .iter()
        .enumerate()
        .map(|(axis, dim)| builder.free(axis_name(axis), dim.clone()))
        .collect();
    let mut carried = vec![false; dims.len()];
    for (port, name) in ports {
        let Some(shape) = builder.shape(port).map(<[Dim]>::to_vec) else {
            continue;
        };
        carried
            .iter_mut()
            .zip(dims)
            .for_each(|(carried, dim)| *carried |= dim.is_one() && matches!(port, Port::In(_)));
        let mut axes: Vec<LabelId> = Vec::new();
        for (from_last, dim) in shape.iter().rev().enumerate() {
            let aligned = dims.len().checked_sub(from_last + 1);
            axes.push(match aligned {
                Some(at) if *dim == dims[at] => {
                    carried[at] |= matches!(port, Port::In(_));
                    labels[at]
                }
                _ if dim.is_one() => builder.fill(Dim::Num(1)),
                Some(at) => {
                    builder.fix(labels[at], Reason::Dynamic);
                    builder.fixed("", dim.clone(), Reason::Dynamic)
                }
                None => builder.fixed("", dim.clone(), Reason::Dynamic),
            });
        }
        axes.reverse();
        builder.port(port, name, axes);
    }
    for (label, carried) in labels.iter().zip(carried) {
        if !carried {
            builder.fix(*label, Reason::Dynamic);
        }
    }
    labels
}

/// The contents of an output of extents `shape`, each element computed from the aligned elements of the inputs
/// ([`Element::Unknown`] for an input that is left out, and, if `partial`, for one that is not known).
pub(super) fn broadcast_contents(
    node: &NodeView,
    shape: &[Dim],
    partial: bool,
    compute: impl Fn(&NodeView, &[Element]) -> Element,
) -> Option<Contents> {
    let missing = |input: &Option<&Fact>| input.is_some_and(|fact| fact.contents.is_none());
    if node
        .inputs
        .iter()
        .all(|input| input.is_none_or(|fact| fact.contents.is_none()))
        || (!partial && node.inputs.iter().any(missing))
    {
        return None;
    }
    let extents: Vec<usize> = shape.iter().map(Dim::count).collect::<Option<_>>()?;
    let count = extents
        .iter()
        .try_fold(1usize, |count, extent| count.checked_mul(*extent))
        .filter(|count| *count <= Contents::LIMIT)?;
    let sources: Vec<Option<(&[Element], Vec<usize>)>> = node
        .inputs
        .iter()
        .map(|input| {
            let fact = input.as_ref()?;
            let elements = &fact.contents.as_ref()?.0[..];
            Some((
                elements,
                aligned_strides(fact.shape.as_deref()?, extents.len())?,
            ))
        })
        .collect();
    let mut elements = Vec::with_capacity(count);
    let mut arguments = Vec::with_capacity(sources.len());
    for position in 0..count {
        arguments.clear();
        for source in &sources {
            let element = source
                .as_ref()
                .and_then(|(elements, strides)| elements.get(offset(position, &extents, strides)));
            arguments.push(element.cloned().unwrap_or(Element::Unknown));
        }
        elements.push(compute(node, &arguments));
    }
    if elements.iter().all(|element| *element == Element::Unknown) && count > 0 {
        return None;
    }
    Contents::new(elements)
}

/// How far apart in row-major order the neighbours of each of `rank` aligned axes are; 0 along axes of 1.
fn aligned_strides(shape: &[Dim], rank: usize) -> Option<Vec<usize>> {
    let mut strides = vec![0; rank];
    let mut stride = 1usize;
    for (from_last, dim) in shape.iter().rev().enumerate() {
        let extent = dim.count()?;
        if let Some(at) = rank.checked_sub(from_last + 1) {
            strides[at] = if extent == 1 { 0 } else { stride };
        }
        stride = stride.checked_mul(extent)?;
    }
    Some(strides)
}

/// Where the element at row-major `position` of a tensor of these extents lies in one of these strides.
fn offset(position: usize, extents: &[usize], strides: &[usize]) -> usize {
    let mut rest = position;
    let mut offset = 0;
    for (extent, stride) in extents.iter().zip(strides).rev() {
        offset += rest % extent * stride;
        rest /= extent;
    }
    offset
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_broadcast_as_numpys() {
        let dims = |numbers: &[i64]| {
            numbers
                .iter()
                .map(|number| Dim::Num(*number))
                .collect::<Vec<_>>()
        };
        let b = Dim::symbol("b");
        let shape =
            broadcast_shape(&[&[b.clone(), Dim::Num(1), Dim::Num(3)], &dims(&[2, 1])]).unwrap();
        assert_eq!(shape, [b, Dim::Num(2), Dim::Num(3)]);
        assert!(broadcast_shape(&[&dims(&[2]), &dims(&[3])]).is_err());
        assert!(broadcasts_to(&dims(&[2]), &dims(&[1])).is_err());
        assert!(broadcasts_to(&dims(&[1, 2]), &dims(&[2])).is_ok());
    }
}
