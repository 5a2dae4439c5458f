//! What is known of values that cross the boundary of a subgraph.

use crate::facts::{Contents, Dim, Element, Fact};
use crate::ops::{Branch, NodeView};
use crate::proto::{Dtype, GraphProto, type_proto};

pub(super) fn body<'a>(node: &NodeView<'a>) -> Option<&'a GraphProto> {
    node.attribute("body")?.g.as_ref()
}

/// Element type and rank that a subgraph declares for one of its inputs.
pub(super) fn declared(
    graph: Option<&GraphProto>,
    formal: usize,
) -> (Option<Dtype>, Option<usize>) {
    let value = graph.and_then(|graph| graph.input.get(formal)?.r#type.as_ref()?.value.as_ref());
    match value {
        Some(type_proto::Value::TensorType(tensor)) => (
            tensor.elem_type.and_then(Dtype::from_code),
            tensor.shape.as_ref().map(|shape| shape.dim.len()),
        ),
        _ => (None, None),
    }
}

/// A scalar, or the list of one that the subgraph declares.
pub(super) fn single(
    graph: Option<&GraphProto>,
    formal: usize,
    dtype: Dtype,
    element: Element,
) -> Fact {
    let dims = if declared(graph, formal).1 == Some(1) {
        vec![Dim::Num(1)]
    } else {
        Vec::new()
    };
    Fact::new(Some(dtype), dims).with_contents(Contents::new(vec![element]))
}

/// What a carried value is at the start of any step. First as the input says; once the subgraph was inferred with that, an
/// extent that a step changes is unknown. Asked again and again, this settles: an extent that became unknown stays so.
pub(super) fn carried(
    node: &NodeView,
    branch: u32,
    input: usize,
    formal: usize,
    result: usize,
) -> Fact {
    let start = node
        .input(input)
        .cloned()
        .unwrap_or_default()
        .with_contents(None);
    let known = node
        .branches
        .get(branch as usize)
        .and_then(|branch| Some((branch.formals.get(formal)?, branch.results.get(result)?)));
    let Some((before, after)) =
        known.filter(|(before, _)| before.dtype.is_some() || before.shape.is_some())
    else {
        return start;
    };
    let shape = match (&before.shape, &after.shape) {
        (Some(before), Some(after)) if before.len() == after.len() => {
            let name = body(node)
                .and_then(|graph| graph.input.get(formal))
                .map_or("", |input| input.name());
            let varying = |axis: usize| Dim::symbol(&format!("?{name}.{axis}"));
            Some(
                before
                    .iter()
                    .zip(after)
                    .enumerate()
                    .map(|(axis, (a, b))| if a == b { a.clone() } else { varying(axis) })
                    .collect(),
            )
        }
        _ => None,
    };
    Fact {
        dtype: start.dtype,
        shape,
        contents: None,
    }
}

/// What a carried value is after the last step: the extents that no step changes.
pub(super) fn settled(
    node: &NodeView,
    branch: &Branch,
    output: usize,
    input: usize,
    formal: usize,
    result: usize,
) -> Fact {
    let dtype = node
        .dtype(input)
        .or_else(|| branch.results.get(result)?.dtype);
    let shapes = (
        node.shape(input),
        branch
            .formals
            .get(formal)
            .and_then(|fact| fact.shape.as_ref()),
        branch
            .results
            .get(result)
            .and_then(|fact| fact.shape.as_ref()),
    );
    let shape = match shapes {
        (Some(a), Some(b), Some(c)) if a.len() == b.len() && b.len() == c.len() => Some(
            (0..a.len())
                .map(|axis| {
                    if a[axis] == b[axis] && b[axis] == c[axis] {
                        a[axis].clone()
                    } else {
                        node.unknown(output, axis)
                    }
                })
                .collect(),
        ),
        _ => None,
    };
    Fact {
        dtype,
        shape,
        contents: None,
    }
}

/// A stack of one result of all steps. Extents that are not known before the subgraph runs have no meaning outside.
pub(super) fn stacked(
    node: &NodeView,
    result: Option<&Fact>,
    output: usize,
    axis: i64,
    steps: Dim,
) -> Fact {
    let Some(Fact { dtype, shape, .. }) = result else {
        return Fact::default();
    };
    let shape = shape.as_ref().and_then(|inner| {
        let axis = NodeView::axis(axis, inner.len() + 1)?;
        let mut dims = inner.clone();
        dims.insert(axis, steps);
        let outside = |(at, dim): (usize, Dim)| {
            if at != axis && dim.to_string().contains('?') {
                node.unknown(output, at)
            } else {
                dim
            }
        };
        Some(dims.into_iter().enumerate().map(outside).collect())
    });
    Fact {
        dtype: *dtype,
        shape,
        contents: None,
    }
}
