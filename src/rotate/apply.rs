//! A change of basis multiplied into the constants.

use std::collections::BTreeMap;

use sha2::{Digest, Sha256};

use super::AxisRotation;
use super::basis::Basis;
use super::find::{LinearSpace, SpaceHolder};
use super::stretch::Stretches;
use crate::analysis::Analysis;
use crate::linear::encode;
use crate::model::{Model, TensorRef, ValueId};

/// Changes the basis of all constants that run over a space. `None`, and nothing changed: one of them cannot be read or written.
pub(super) fn apply(
    model: &mut Model,
    analysis: &Analysis,
    space: &LinearSpace,
    bases: &[Basis],
) -> Option<Vec<AxisRotation>> {
    let mut made = Vec::new();
    let mut tensors: BTreeMap<ValueId, TensorRef> = BTreeMap::new();
    for holder in &space.constants {
        // A constant may run over the space along several axes.
        let tensor = match tensors.remove(&holder.value) {
            Some(tensor) => tensor,
            None => model.constant(holder.value)?,
        };
        let changed = changed(&tensor, analysis, space, holder, bases)?;
        tensors.insert(holder.value, changed);
        made.push(AxisRotation {
            value: holder.value,
            axis: holder.axis,
            group: space.group,
            digest: digest(bases, holder.dual),
        });
    }
    for (value, tensor) in tensors {
        let target = model.tensor_proto_mut(value)?;
        let mut message = tensor.to_proto("");
        message.name = target.name.take();
        message.doc_string = target.doc_string.take();
        message.metadata_props = std::mem::take(&mut target.metadata_props);
        *target = message;
    }
    Some(made)
}

/// A tensor with its stretches along the space multiplied by the matrices of their blocks.
fn changed(
    tensor: &TensorRef,
    analysis: &Analysis,
    space: &LinearSpace,
    holder: &SpaceHolder,
    bases: &[Basis],
) -> Option<TensorRef> {
    let mut numbers = tensor.to_f32()?;
    let stretches = Stretches::of(analysis, space, holder, &tensor.dims)?;
    for (block, basis) in bases.iter().enumerate() {
        let matrix = if holder.dual {
            &basis.dual
        } else {
            &basis.primal
        };
        for at in 0..stretches.count_of(block) {
            let places: Vec<usize> = stretches.places(block, at).collect();
            let old: Vec<f64> = places
                .iter()
                .map(|place| numbers.get(*place).copied().map(f64::from))
                .collect::<Option<_>>()?;
            let mut new = vec![0.0; places.len()];
            for (column, old) in matrix.col_iter().zip(&old) {
                for (new, entry) in new.iter_mut().zip(column.iter()) {
                    *new += entry * old;
                }
            }
            for (place, new) in places.iter().zip(new) {
                numbers[*place] = new as f32;
            }
        }
    }
    encode(tensor.dtype, tensor.dims.clone(), &numbers)
}

/// SHA-256 over matrices, as single-precision numbers, row by row.
fn digest(bases: &[Basis], dual: bool) -> String {
    let mut hash = Sha256::new();
    for basis in bases {
        let matrix = if dual { &basis.dual } else { &basis.primal };
        for row in 0..matrix.nrows() {
            for column in 0..matrix.ncols() {
                hash.update((matrix[(row, column)] as f32).to_le_bytes());
            }
        }
    }
    crate::hash::hex(&hash.finalize())
}
