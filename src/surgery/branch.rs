//! Whole branches: products that sum over nothing become constants.

use std::collections::HashSet;

use super::{SurgeryError, SurgeryErrorKind};
use crate::analysis::{Analysis, Selection, branch_ends};
use crate::model::{Model, Origin, TensorRef};
use crate::ops::make::make_constant;
use crate::ops::{ChannelAxis, meaning};
use crate::proto::GraphProto;

/// The products that are left with their biases, by output, and the selection in which every group that is gone
/// altogether keeps a unit: what that leaves of the branch is taken out at its end. Errors: a group that cannot go.
pub(super) fn emptied(
    model: &Model,
    analysis: &Analysis,
    selection: &Selection,
) -> Result<(Selection, Vec<String>), SurgeryError> {
    let (spared, gone) = selection.sparing(&analysis.groups);
    if gone.is_empty() {
        return Ok((spared, Vec::new()));
    }
    let Some(ends) = branch_ends(model, analysis, &gone) else {
        let names = gone
            .iter()
            .filter_map(|group| analysis.groups.get(*group))
            .map(|group| group.id.as_str());
        return Err(SurgeryError {
            node: names.collect::<Vec<_>>().join(", "),
            kind: SurgeryErrorKind::Whole,
        });
    };
    let outputs = ends.iter().flat_map(|node| &model.node(*node).output);
    Ok((spared, outputs.cloned().collect()))
}

/// Puts constants in the place of the products that give these values: their biases, of extent 1 on all other axes.
pub(super) fn collapse(
    pruned: &mut Model,
    original: &Model,
    analysis: &Analysis,
    selection: &Selection,
    ends: &[String],
) -> Option<()> {
    for name in ends {
        let Origin::Output(node, _) = pruned
            .index()
            .value(pruned.index().main_value(name)?)
            .origin
        else {
            return None;
        };
        let value = original.index().main_value(name)?;
        let fact = analysis.facts.of(value);
        let shape = fact.shape.as_ref()?;
        let product = meaning(pruned.node(node)).product?;
        let bias = product.bias.and_then(|bias| {
            let inputs = &pruned.index().node(node).inputs;
            inputs.get(bias.input as usize).copied().flatten()
        });
        let axis = match product.channels? {
            ChannelAxis::Second => 1,
            ChannelAxis::Last => shape.len().saturating_sub(1),
        };
        let left = analysis.new_extent(value, axis, selection);
        let channels = left
            .as_ref()
            .or(shape.get(axis))
            .and_then(|dim| dim.count())
            .unwrap_or(1);
        let mut tensor = match bias {
            Some(bias) => pruned.constant(bias)?,
            None => TensorRef {
                dtype: fact.dtype?,
                dims: Vec::new(),
                bytes: vec![0; fact.dtype?.bytes_for(channels)].into(),
            },
        };
        let count = if bias.is_some() {
            tensor.dims.iter().product()
        } else {
            channels
        };
        tensor.dims = vec![1; shape.len()];
        *tensor.dims.get_mut(axis)? = count;
        make_constant(pruned.node_mut(node), &tensor);
    }
    if let Some(graph) = &mut pruned.proto.graph {
        forget_shapes(graph, ends);
    }
    Some(())
}

/// Takes out what the file declares of values that are computed from constants now.
fn forget_shapes(graph: &mut GraphProto, ends: &[String]) {
    let mut constant: HashSet<&str> = graph
        .initializer
        .iter()
        .map(|tensor| tensor.name())
        .collect();
    let mut narrow: HashSet<String> = HashSet::new();
    for node in &graph.node {
        let computed = node
            .input
            .iter()
            .all(|input| constant.contains(input.as_str()) || input.is_empty());
        if computed {
            constant.extend(node.output.iter().map(String::as_str));
            let from_ends = node.output.iter().any(|output| ends.contains(output))
                || node.input.iter().any(|input| narrow.contains(input));
            if from_ends {
                narrow.extend(node.output.iter().cloned());
            }
        }
    }
    graph
        .value_info
        .retain(|info| !narrow.contains(info.name()));
}
