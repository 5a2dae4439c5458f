//! What one layer is fitted to: rows of its input in the pruned model, and what they should give.

use rayon::prelude::*;

use super::aim::{Aim, Clamp};
use crate::calibrate::{picks, stack};
use crate::linear::{Bias, Linear};
use crate::model::TensorRef;

/// One layer in both models.
#[derive(Clone, Debug)]
pub(super) struct Layer {
    pub original: Linear,
    pub pruned: Linear,
    /// Bias of the original, by output channel, where it is added outside.
    pub outside: Option<Vec<f64>>,
    pub bias: Option<Bias>,
    /// For each output channel of the pruned layer the original's.
    pub kept: Vec<usize>,
    pub aim: Aim,
    /// The same of the original.
    pub original_aim: Aim,
    /// What rows are drawn by.
    pub key: String,
}

/// Where the outputs of a run hold what a layer needs.
#[derive(Clone, Copy, Debug)]
pub(super) struct Taps {
    pub output: usize,
    pub original_added: Option<usize>,
    pub data: usize,
    pub added: Option<usize>,
}

/// Rows of one group of a layer: for fitting, or held out.
#[derive(Clone, Debug, Default)]
pub(super) struct Rows {
    /// groups × rows × columns.
    pub inputs: Vec<f32>,
    /// What the sum (or the function's argument) is in the original: groups × rows × channels of the group.
    pub aims: Vec<f32>,
    /// What the pruned model adds to the layer's scaled output: likewise, zeros if nothing.
    pub added: Vec<f32>,
}

/// Rows at least, however many columns.
const LEAST: usize = 16384;
/// Rows per column: more would hardly change the fit.
const PER_COLUMN: usize = 40;

impl Layer {
    /// Rows that one of so many runs gives.
    pub fn limit(&self, runs: usize) -> usize {
        (LEAST.max(PER_COLUMN * self.pruned.columns) / runs.max(1)).max(1)
    }

    /// Aims at the layer's own output alone.
    pub fn forget_sum(&mut self) {
        for aim in [&mut self.aim, &mut self.original_aim] {
            if aim.added.take().is_some() {
                aim.function = None;
            }
        }
    }

    /// The function after the layer, where both models have the same.
    pub fn function(&self) -> Option<Clamp> {
        self.aim.function.filter(|function| Some(*function) == self.original_aim.function)
    }

    /// The rows of some runs. `None`: tensors do not fit.
    pub fn rows(&self, taps: Taps, numbers: &[usize], results: &[Vec<TensorRef>], limit: usize) -> Option<Rows> {
        let one = |(number, result): (&usize, &Vec<TensorRef>)| self.of_run(taps, *number, result, limit);
        let parts: Vec<Rows> = numbers.par_iter().zip(results).map(one).collect::<Option<_>>()?;
        let groups = self.pruned.groups;
        let gather = |part: fn(&Rows) -> &Vec<f32>| stack(&parts.iter().map(|rows| part(rows).clone()).collect::<Vec<_>>(), groups);
        Some(Rows { inputs: gather(|rows| &rows.inputs), aims: gather(|rows| &rows.aims), added: gather(|rows| &rows.added) })
    }

    fn of_run(&self, taps: Taps, number: usize, result: &[TensorRef], limit: usize) -> Option<Rows> {
        let data = result.get(taps.data)?;
        let output = result.get(taps.output)?;
        let picks = picks(&self.key, number, self.pruned.positions(&data.dims)?, limit);
        let inputs = self.pruned.activations(data, &picks)?;
        let before = self.original.outputs(output, &picks)?;
        let summed = |tap: Option<usize>| tap.and_then(|tap| result.get(tap));
        let original_added = match summed(taps.original_added) {
            Some(tensor) if tensor.dims == output.dims => Some(self.original.outputs(tensor, &picks)?),
            Some(_) => return None,
            None => None,
        };
        let added = match summed(taps.added) {
            Some(tensor) => self.pruned.outputs(tensor, &picks)?,
            None => vec![0.0; self.pruned.groups * picks.len() * self.pruned.rows],
        };
        let mut aims = vec![0.0f32; added.len()];
        for (channel, source) in self.kept.iter().enumerate() {
            let (group, row) = (channel / self.pruned.rows, channel % self.pruned.rows);
            let (from_group, from_row) = (source / self.original.rows, source % self.original.rows);
            let (scale, offset) = (*self.original_aim.scale.get(*source)? as f32, *self.original_aim.offset.get(*source)? as f32);
            let outside = self.outside.as_ref().and_then(|bias| bias.get(*source)).copied().unwrap_or(0.0) as f32;
            for at in 0..picks.len() {
                let from = (from_group * picks.len() + at) * self.original.rows + from_row;
                let more = original_added.as_ref().and_then(|added| added.get(from)).copied().unwrap_or(0.0);
                aims[(group * picks.len() + at) * self.pruned.rows + row] = (before.get(from)? + outside) * scale + offset + more;
            }
        }
        Some(Rows { inputs, aims, added })
    }
}

impl Rows {
    /// Puts other rows below.
    pub fn append(&mut self, other: Rows, groups: usize) {
        let joined = |a: &mut Vec<f32>, b: Vec<f32>| {
            *a = if a.is_empty() { b } else { stack(&[std::mem::take(a), b], groups) };
        };
        joined(&mut self.inputs, other.inputs);
        joined(&mut self.aims, other.aims);
        joined(&mut self.added, other.added);
    }
}
