//! Constants sliced on all their axes in one pass, and the shapes that the file declares.

use rayon::prelude::*;

use crate::analysis::{Analysis, Selection};
use crate::facts::Dim;
use crate::model::{Model, TensorRef, ValueId};
use crate::proto::{
    ValueInfoProto, tensor_shape_proto::dimension::Value as DimValue,
    type_proto::Value as TypeValue,
};

/// Slices every constant that a selection reaches; the others keep their bytes in the mapped file.
pub(super) fn constants(
    pruned: &mut Model,
    model: &Model,
    analysis: &Analysis,
    selection: &Selection,
) {
    let values: Vec<ValueId> = model
        .index()
        .values()
        .map(|(value, _)| value)
        .filter(|value| model.tensor_proto(*value).is_some())
        .collect();
    let cut: Vec<(ValueId, TensorRef)> = values
        .into_par_iter()
        .filter_map(|value| {
            let tensor = model.tensor_proto(value)?;
            let kept: Vec<Option<Vec<u32>>> = (0..tensor.dims.len())
                .map(|axis| analysis.kept_axis(value, axis, selection))
                .collect();
            if kept.iter().all(Option::is_none) {
                return None;
            }
            Some((value, TensorRef::from_proto(tensor).ok()?.select(&kept)))
        })
        .collect();
    for (value, tensor) in cut {
        if let Some(target) = pruned.tensor_proto_mut(value) {
            let mut new = tensor.to_proto("");
            new.name = target.name.take();
            new.doc_string = target.doc_string.take();
            new.metadata_props = std::mem::take(&mut target.metadata_props);
            *target = new;
        }
    }
}

/// Puts the new extents into `value_info` and into the declared inputs and outputs of all graphs.
pub(super) fn declared_shapes(
    pruned: &mut Model,
    model: &Model,
    analysis: &Analysis,
    selection: &Selection,
) {
    let names: std::collections::BTreeMap<_, _> = model
        .index()
        .values()
        .map(|(value, entry)| ((entry.graph, entry.name.as_str()), value))
        .collect();
    for (id, _) in model.index().graphs() {
        let graph = pruned.graph_mut(id);
        for info in graph
            .value_info
            .iter_mut()
            .chain(&mut graph.input)
            .chain(&mut graph.output)
        {
            let Some(value) = names.get(&(id, info.name())).copied() else {
                continue;
            };
            declare(info, |axis| analysis.new_extent(value, axis, selection));
        }
    }
}

fn declare(info: &mut ValueInfoProto, left: impl Fn(usize) -> Option<Dim>) {
    let Some(TypeValue::TensorType(tensor)) = info
        .r#type
        .as_mut()
        .and_then(|r#type| r#type.value.as_mut())
    else {
        return;
    };
    for (axis, dim) in tensor
        .shape
        .iter_mut()
        .flat_map(|shape| &mut shape.dim)
        .enumerate()
    {
        if let Some(extent) = left(axis) {
            // A symbol's multiple is left open: no name in the file stands for it any more.
            dim.value = extent.num().map(DimValue::DimValue);
        }
    }
}
