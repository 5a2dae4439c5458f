//! Runs whose sequences have several widths, and outputs that hold sequences.

use std::collections::BTreeMap;

use crate::calibrate::{Dataset, SequenceAxes};
use crate::inputs::Batches;
use crate::model::{Index, Model};

/// So many runs of the width that most have: they have the same shapes.
pub(super) fn alike_runs(inputs: &dyn Batches, most: usize) -> Vec<usize> {
    let mut by_width: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for run in 0..inputs.count() {
        let width = inputs.sequence(run).map_or(0, |sequence| sequence.width);
        by_width.entry(width).or_default().push(run);
    }
    let mut runs = by_width
        .into_values()
        .max_by_key(Vec::len)
        .unwrap_or_default();
    runs.truncate(most);
    runs
}

/// The axis of each output along which the positions of sequences lie.
pub(super) fn output_axes(model: &Model, data: &Dataset) -> Vec<Option<usize>> {
    let axes = SequenceAxes::of(model, &*data.inputs);
    let outputs = &model.index().graph(Index::MAIN).outputs;
    outputs.iter().map(|output| axes.axis(*output)).collect()
}
