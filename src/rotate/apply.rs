//! A change of basis multiplied into the constants.

use sha2::{Digest, Sha256};

use super::AxisRotation;
use super::basis::Basis;
use super::find::{LinearSpace, SpaceHolder};
use super::stretch::Stretches;
use crate::analysis::Analysis;
use crate::linear::encode;
use crate::model::Model;

/// Changes the basis of all constants that run over a space. `None`, and nothing changed: one of them cannot be read or written.
pub(super) fn apply(
    model: &mut Model,
    analysis: &Analysis,
    space: &LinearSpace,
    bases: &[Basis],
) -> Option<Vec<AxisRotation>> {
    let mut made = Vec::new();
    let mut changed = model.clone();
    for holder in &space.constants {
        write(&mut changed, analysis, space, holder, bases)?;
        made.push(AxisRotation {
            value: holder.value,
            axis: holder.axis,
            group: space.group,
            digest: digest(bases, holder.dual),
        });
    }
    *model = changed;
    Some(made)
}

fn write(
    model: &mut Model,
    analysis: &Analysis,
    space: &LinearSpace,
    holder: &SpaceHolder,
    bases: &[Basis],
) -> Option<()> {
    let tensor = model.constant(holder.value)?;
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
            for (row, place) in places.iter().enumerate() {
                let new: f64 = old
                    .iter()
                    .enumerate()
                    .map(|(at, old)| matrix[(row, at)] * old)
                    .sum();
                numbers[*place] = new as f32;
            }
        }
    }
    let new = encode(tensor.dtype, tensor.dims, &numbers)?;
    let target = model.tensor_proto_mut(holder.value)?;
    let mut message = new.to_proto("");
    message.name = target.name.take();
    message.doc_string = target.doc_string.take();
    message.metadata_props = std::mem::take(&mut target.metadata_props);
    *target = message;
    Some(())
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
