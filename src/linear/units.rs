//! Which unit each column of a weight matrix goes with.

use super::view::Linear;
use crate::analysis::{Analysis, ClassId};

/// For each column of a product the class and element that it goes with; `None` where it belongs to none that may go.
pub fn units_of_columns(analysis: &Analysis, linear: &Linear) -> Vec<Option<(ClassId, u32)>> {
    let extents = linear.summed_extents();
    let total: usize = extents.iter().product();
    let mut units: Vec<Option<(ClassId, u32)>> = vec![None; total];
    let mut block = total;
    for (label, extent) in linear.summed.iter().zip(&extents) {
        block /= (*extent).max(1);
        let space = analysis.spaces.label(linear.node, *label);
        for (at, piece) in analysis.spaces.get(space).pieces.iter().enumerate() {
            let Some(factor) = analysis.classes.carrier(space, at) else {
                continue;
            };
            let class = analysis.classes.get(factor.class);
            if !class.free {
                continue;
            }
            for (at, unit) in units.iter_mut().enumerate() {
                let index = at / block.max(1) % (*extent).max(1);
                if let Some(place) = piece.place(index as u64) {
                    let element = (place / factor.stride % u64::from(class.extent.max(1))) as u32;
                    unit.get_or_insert((factor.class, element));
                }
            }
        }
    }
    let taps = linear.taps();
    units
        .iter()
        .flat_map(|unit| std::iter::repeat_n(*unit, taps))
        .collect()
}
