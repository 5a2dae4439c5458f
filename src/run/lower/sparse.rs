//! Sparse constants become dense.

use super::lowering::Lowering;
use crate::model::TensorRef;
use crate::model::edit::each_graph;
use crate::proto::{SparseTensorProto, TensorProto};
use crate::run::Unverifiable;

/// Elements that a constant may have when made dense.
const LIMIT: usize = 1 << 30;

pub(super) fn make_dense(lowering: &mut Lowering) -> Result<(), Unverifiable> {
    each_graph(lowering.graph(), &mut |graph| {
        for sparse in std::mem::take(&mut graph.sparse_initializer) {
            let name = sparse
                .values
                .as_ref()
                .map_or("", |values| values.name())
                .to_owned();
            let tensor = dense(&sparse).ok_or_else(|| {
                Unverifiable::new(format!("sparse constant '{name}' makes no sense"))
            })?;
            graph.initializer.push(tensor);
        }
        for node in graph
            .node
            .iter_mut()
            .filter(|node| node.op_type() == "Constant")
        {
            for attribute in node
                .attribute
                .iter_mut()
                .filter(|attribute| attribute.sparse_tensor.is_some())
            {
                let Some(sparse) = attribute.sparse_tensor.take() else {
                    continue;
                };
                let tensor = dense(&sparse)
                    .ok_or_else(|| Unverifiable::new("a sparse constant makes no sense"))?;
                attribute.name = Some("value".into());
                attribute.r#type =
                    Some(crate::proto::attribute_proto::AttributeType::Tensor as i32);
                attribute.t = Some(tensor);
            }
        }
        Ok(())
    })
}

fn dense(sparse: &SparseTensorProto) -> Option<TensorProto> {
    let message = sparse.values.as_ref()?;
    let values = TensorRef::from_proto(message).ok()?;
    let indices = TensorRef::from_proto(sparse.indices.as_ref()?).ok()?;
    let dims: Vec<usize> = sparse
        .dims
        .iter()
        .map(|dim| usize::try_from(*dim).ok())
        .collect::<Option<_>>()?;
    let size = values.dtype.bits() / 8;
    let elements = dims
        .iter()
        .try_fold(1usize, |product, dim| product.checked_mul(*dim))
        .filter(|elements| *elements <= LIMIT)?;
    let numbers = indices.to_i64()?;
    let flat = match indices.dims.len() {
        1 => numbers,
        _ => numbers
            .chunks(dims.len().max(1))
            .map(|index| {
                index.iter().zip(&dims).fold(0, |at: i64, (i, dim)| {
                    at.wrapping_mul(*dim as i64).wrapping_add(*i)
                })
            })
            .collect(),
    };
    if size == 0 || flat.len() != values.elements() {
        return None;
    }
    let mut bytes = vec![0; elements * size];
    for (value, at) in values.bytes.chunks_exact(size).zip(flat) {
        let start = usize::try_from(at).ok()?.checked_mul(size)?;
        bytes
            .get_mut(start..start.checked_add(size)?)?
            .copy_from_slice(value);
    }
    Some(
        TensorRef {
            dtype: values.dtype,
            dims,
            bytes: bytes.into(),
        }
        .to_proto(message.name()),
    )
}
