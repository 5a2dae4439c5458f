//! Small operands that lie along the axes of a larger tensor: scales, zero points, biases.

use super::{InferError, NodeView};
use crate::facts::{Dim, Fact};
use crate::proto::Dtype;
use crate::relation::{Builder, LabelId, Layout, Port, Reason, Relation};

/// Why a node is frozen whose operands a rule cannot place.
const UNPLACED: Reason = Reason::operator("operands of a shape that the rule does not know");
/// Why a node is frozen when the rank of one of its inputs is unknown.
const UNRANKED: Reason = Reason::operator("an input of unknown rank");

/// The relation that `describe` finds, or the node frozen: when an input's rank is unknown or `describe` gives up.
pub(super) fn describe_or_freeze(
    node: &NodeView,
    describe: impl FnOnce(&NodeView, &mut Builder) -> Option<()>,
) -> Relation {
    if node
        .inputs
        .iter()
        .flatten()
        .any(|fact| fact.shape.is_none())
    {
        return node.frozen(UNRANKED);
    }
    let mut builder = node.relation();
    match describe(node, &mut builder) {
        Some(()) => builder.finish(),
        None => node.frozen(UNPLACED),
    }
}

/// The same label for each axis' layout.
pub(super) fn layouts(labels: &[LabelId]) -> Vec<Layout> {
    labels.iter().map(|label| Layout::from(*label)).collect()
}

/// Free labels for these axes: `first` for axis 0, `rest` for the others.
pub(super) fn free(builder: &mut Builder, names: &'static str, dims: &[Dim]) -> Vec<LabelId> {
    dims.iter()
        .map(|dim| builder.free(names, dim.clone()))
        .collect()
}

/// Labels of one fixed reason for these axes.
pub(super) fn fixed(
    builder: &mut Builder,
    name: &'static str,
    dims: &[Dim],
    reason: &Reason,
) -> Vec<LabelId> {
    dims.iter()
        .map(|dim| builder.fixed(name, dim.clone(), reason.clone()))
        .collect()
}

/// Describes an operand that broadcasts against axes of these layouts and extents, aligned at the last one.
/// Left out is fine; `None`: it does not fit.
pub(super) fn aligned(
    builder: &mut Builder,
    input: u32,
    name: &'static str,
    axes: &[Layout],
    extents: &[Dim],
) -> Option<()> {
    let port = Port::In(input);
    let Some(dims) = builder.shape(port).map(<[Dim]>::to_vec) else {
        return Some(());
    };
    let mut described = Vec::with_capacity(dims.len());
    for (back, dim) in dims.iter().rev().enumerate() {
        let target = axes
            .len()
            .checked_sub(back + 1)
            .and_then(|at| axes.get(at).zip(extents.get(at)));
        let layout = match target {
            Some((_, extent)) if dim.is_one() && !extent.is_one() => builder.fill(1i64).into(),
            Some((layout, extent)) if !extent.differs(dim) => layout.clone(),
            None if dim.is_one() => builder.fill(1i64).into(),
            _ => return None,
        };
        described.push(layout);
    }
    described.reverse();
    builder.port(port, name, described);
    Some(())
}

/// Describes an operand with one element, or one element per index of an axis of this layout and extent.
pub(super) fn per_axis(
    builder: &mut Builder,
    input: u32,
    name: &'static str,
    axis: &Layout,
    extent: &Dim,
) -> Option<()> {
    match builder.shape(Port::In(input)).map(<[Dim]>::len) {
        None | Some(0 | 1) => aligned(
            builder,
            input,
            name,
            std::slice::from_ref(axis),
            std::slice::from_ref(extent),
        ),
        Some(_) => None,
    }
}

/// Describes operands with one element each.
pub(super) fn scalars(builder: &mut Builder, inputs: &[(u32, &'static str)]) -> Option<()> {
    inputs
        .iter()
        .try_for_each(|(input, name)| aligned(builder, *input, name, &[], &[]))
}

/// Errors: the input has fewer axes than that.
pub(super) fn at_least(node: &NodeView, input: usize, axes: usize) -> Result<(), InferError> {
    match node.shape(input) {
        Some(dims) if dims.len() < axes => Err(InferError(format!(
            "input {input} has {} axes, {axes} are needed",
            dims.len()
        ))),
        _ => Ok(()),
    }
}

/// Errors: one of the inputs is no list of so many numbers.
pub(super) fn lists(
    node: &NodeView,
    inputs: std::ops::Range<usize>,
    extent: &Dim,
) -> Result<(), InferError> {
    for input in inputs {
        match node.shape(input) {
            None => {}
            Some([dim]) if !dim.differs(extent) => {}
            Some([dim]) => {
                return Err(InferError(format!(
                    "input {input} has {dim} entries, {extent} are needed"
                )));
            }
            Some(dims) => {
                return Err(InferError(format!(
                    "input {input} has {} axes, one is needed",
                    dims.len()
                )));
            }
        }
    }
    Ok(())
}

/// One fact per output slot of the node: `first`, then facts of which nothing is known.
pub(super) fn outputs(node: &NodeView, facts: impl IntoIterator<Item = Fact>) -> Vec<Fact> {
    facts
        .into_iter()
        .chain(std::iter::repeat(Fact::default()))
        .take(node.node.output.len())
        .collect()
}

/// One output of this type and, if known, shape.
pub(super) fn output(node: &NodeView, dtype: Option<Dtype>, shape: Option<Vec<Dim>>) -> Vec<Fact> {
    outputs(
        node,
        [Fact {
            dtype,
            shape,
            contents: None,
        }],
    )
}

/// Whether the node names this output.
pub(super) fn gives(node: &NodeView, output: usize) -> bool {
    node.node
        .output
        .get(output)
        .is_some_and(|name| !name.is_empty())
}
