//! Class ids of the samples that are measured on.

use std::path::Path;

use anyhow::bail;

use crate::inputs::{Inputs, read_npy};

/// The labels of all samples of some runs, in order. Errors: a file that holds other numbers, or too few.
pub(super) fn labels_of(
    inputs: &Inputs,
    runs: &[usize],
    file: &Path,
    classes: Option<i64>,
) -> anyhow::Result<Vec<i64>> {
    let array = read_npy(file)?;
    let Some(labels) = array.to_i64() else {
        bail!(
            "{}: labels are whole numbers, this array holds {}",
            file.display(),
            array.dtype
        );
    };
    let places = runs.iter().flat_map(|run| inputs.places(*run));
    let labelled: Option<Vec<i64>> = places.map(|place| labels.get(place).copied()).collect();
    if let Some(classes) = classes
        && let Some((place, label)) = labels
            .iter()
            .enumerate()
            .find(|(_, label)| !(0..classes).contains(*label))
    {
        let from_one = if !labels.contains(&0) && labels.iter().max() == Some(&classes) {
            "; are they counted from 1?"
        } else {
            ""
        };
        bail!(
            "{}: label {label} of sample {place} is none of the model's {classes} classes, 0 to {}{from_one}",
            file.display(),
            classes - 1
        );
    }
    match labelled {
        Some(labelled) => Ok(labelled),
        None => bail!(
            "{}: {} labels are fewer than the {} samples",
            file.display(),
            labels.len(),
            inputs.samples
        ),
    }
}
