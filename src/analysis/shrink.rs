//! A copy of a model with the dims that a cut would give its constants, for trials on shapes alone.

use super::{Analysis, Selection};
use crate::facts::Contents;
use crate::model::{Model, TensorRef};

/// Small constants are really cut, for shapes may be computed from them; large ones only get new dims.
pub(super) fn shrink(model: &Model, analysis: &Analysis, selection: &Selection) -> Model {
    let mut trial = model.clone();
    for (value, _) in model.index().values() {
        let Some(tensor) = model.tensor_proto(value) else {
            continue;
        };
        let kept: Vec<Option<Vec<u32>>> = (0..tensor.dims.len())
            .map(|axis| analysis.kept_axis(value, axis, selection))
            .collect();
        if kept.iter().all(Option::is_none) {
            continue;
        }
        let small = tensor.dims.iter().product::<i64>() <= Contents::LIMIT as i64;
        let cut = if small {
            TensorRef::from_proto(tensor)
                .ok()
                .map(|tensor| tensor.select(&kept))
        } else {
            None
        };
        let Some(target) = trial.tensor_proto_mut(value) else {
            continue;
        };
        match cut {
            Some(cut) => *target = cut.to_proto(target.name()),
            None => {
                for (dim, kept) in target.dims.iter_mut().zip(&kept) {
                    if let Some(kept) = kept {
                        *dim = kept.len() as i64;
                    }
                }
                target.raw_data = None;
                target.float_data.clear();
            }
        }
    }
    trial
}
