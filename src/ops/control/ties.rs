//! Axes of values that cross the boundary of a subgraph, tied on both sides of it.

use crate::facts::Dim;
use crate::ops::NodeView;
use crate::relation::{Builder, LabelId, Port, Reason};

const VARIES: Reason = Reason::operator("extent differs between branches or steps");
const STEPS: Reason = Reason::operator("steps of a loop");

/// Ties the axes of tensors that are one value.
pub(super) fn tie(builder: &mut Builder, ports: Vec<(Port, String)>) {
    let shapes: Vec<Vec<Dim>> = ports
        .iter()
        .filter_map(|(port, _)| builder.shape(*port).map(<[Dim]>::to_vec))
        .collect();
    let Some(first) = shapes.first().filter(|_| shapes.len() == ports.len()) else {
        return ports
            .into_iter()
            .for_each(|(port, name)| free_of(builder, port, name));
    };
    if shapes.iter().any(|dims| dims.len() != first.len()) {
        return ports
            .into_iter()
            .for_each(|(port, name)| free_of(builder, port, name));
    }
    let common: Vec<Option<LabelId>> = (0..first.len())
        .map(|axis| {
            shapes
                .iter()
                .all(|dims| dims[axis] == first[axis])
                .then(|| builder.free("a", first[axis].clone()))
        })
        .collect();
    for ((port, name), dims) in ports.into_iter().zip(&shapes) {
        let axes: Vec<LabelId> = common
            .iter()
            .zip(dims)
            .map(|(label, dim)| label.unwrap_or_else(|| builder.fixed("", dim.clone(), VARIES)))
            .collect();
        builder.port(port, name, axes);
    }
}

/// Describes a tensor that nothing can be tied to: all its indices stay.
pub(super) fn free_of(builder: &mut Builder, port: Port, name: String) {
    let dims = builder.shape(port).map(<[Dim]>::to_vec).unwrap_or_default();
    let axes: Vec<LabelId> = dims
        .into_iter()
        .map(|dim| builder.fixed("", dim, VARIES))
        .collect();
    builder.port(port, name, axes);
}

/// Ties a tensor to its slices across `axis`, which counts `steps`.
pub(super) fn tie_slices(
    builder: &mut Builder,
    (whole, name): (Port, String),
    (slice, slice_name): (Port, String),
    axis: i64,
) {
    let dims = |builder: &Builder, port| builder.shape(port).map(<[Dim]>::to_vec);
    let (Some(mut all), Some(inner)) = (dims(builder, whole), dims(builder, slice)) else {
        free_of(builder, whole, name);
        return free_of(builder, slice, slice_name);
    };
    let (rank, fits) = (all.len(), all.len() == inner.len() + 1);
    let Some(axis) = NodeView::axis(axis, rank).filter(|_| fits) else {
        free_of(builder, whole, name);
        return free_of(builder, slice, slice_name);
    };
    let steps = builder.fixed("t", all.remove(axis), STEPS);
    let mut outer = Vec::new();
    let mut within = Vec::new();
    for (dim, other) in all.into_iter().zip(inner) {
        if dim == other {
            let label = builder.free("a", dim);
            outer.push(label);
            within.push(label);
        } else {
            outer.push(builder.fixed("", dim, VARIES));
            within.push(builder.fixed("", other, VARIES));
        }
    }
    outer.insert(axis, steps);
    builder.port(whole, name, outer);
    builder.port(slice, slice_name, within);
}

/// Ties a carried value: input, formal input, result, output.
pub(super) fn carry(
    builder: &mut Builder,
    node: &NodeView,
    output: usize,
    [input, formal, result]: [usize; 3],
) {
    let mut ports = vec![
        (Port::In(input as u32), format!("x{output}")),
        (Port::Formal(0, formal as u32), format!("in{output}")),
        (Port::Result(0, result as u32), format!("out{output}")),
    ];
    if named(node, output) {
        ports.push((Port::Out(output as u32), format!("y{output}")));
    }
    tie(builder, ports);
}

/// Ties a stacked output to the result of one step.
pub(super) fn stack(
    builder: &mut Builder,
    node: &NodeView,
    output: usize,
    result: usize,
    axis: i64,
) {
    let slice = (Port::Result(0, result as u32), format!("out{output}"));
    match named(node, output) {
        true => tie_slices(
            builder,
            (Port::Out(output as u32), format!("y{output}")),
            slice,
            axis,
        ),
        false => free_of(builder, slice.0, slice.1),
    }
}

/// Whether the node names an output.
pub(super) fn named(node: &NodeView, output: usize) -> bool {
    node.node
        .output
        .get(output)
        .is_some_and(|name| !name.is_empty())
}
