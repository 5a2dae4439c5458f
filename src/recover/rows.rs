//! What one layer is fitted to: rows of its input in the pruned model, and what they should give.

use super::aim::{Aim, Clamp};
use crate::calibrate::{Counting, picks};
use crate::linear::{Bias, Linear};
use crate::run::Tensors;

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
    /// Whether what it reads differs from the original's, so that it is to be mended.
    pub touched: bool,
    /// The layer whose output it alone reads, through a function: the two are mended together.
    pub before: Option<Box<Layer>>,
}

/// What a layer needs of both models, by name.
#[derive(Clone, Debug)]
pub(super) struct Taps {
    pub output: String,
    pub original_added: Option<String>,
    /// The original's own data, where the aims are worked out from it.
    pub original_data: Option<String>,
    pub data: String,
    pub added: Option<String>,
}

/// Rows of a layer: for fitting, or held out.
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
pub(super) const LEAST: usize = 32768;
/// Rows per column: more would hardly change the fit.
const PER_COLUMN: usize = 110;

/// Bytes of rows, at most.
pub(super) const MEMORY: usize = 128 << 20;

impl Layer {
    /// Rows that one of so many runs gives.
    pub fn limit(&self, runs: usize) -> usize {
        let columns = self.pruned.columns.max(1);
        let most = MEMORY / (4 * self.pruned.groups * (columns + 2 * self.pruned.rows)).max(1);
        (LEAST.max(PER_COLUMN * columns).min(most) / runs.max(1)).max(1)
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
        self.aim
            .function
            .filter(|function| Some(*function) == self.original_aim.function)
    }

    /// The rows of a run, of the positions that count, given what the original and the pruned model gave. `None`: tensors do not fit.
    pub fn rows(
        &self,
        taps: &Taps,
        (number, counting): (usize, Counting),
        original: &Tensors,
        pruned: &Tensors,
        limit: usize,
    ) -> Option<Rows> {
        let data = pruned.get(&taps.data)?;
        let draw = |positions| picks(&self.key, number, positions, limit);
        let picks = counting.drawn(&self.pruned, &data.dims, draw)?;
        let inputs = self.pruned.activations(data, &picks)?;
        let (aims, added) = self.wanted(taps, &picks, original, pruned)?;
        Some(Rows {
            inputs,
            aims,
            added,
        })
    }

    /// Aims at some positions, and what the pruned model adds there: each groups × picks × channels of the group.
    pub fn wanted(
        &self,
        taps: &Taps,
        picks: &[usize],
        original: &Tensors,
        pruned: &Tensors,
    ) -> Option<(Vec<f32>, Vec<f32>)> {
        let output = original.get(&taps.output)?;
        let before = self.original.outputs(output, picks)?;
        let original_added = match taps.original_added.as_ref().map(|tap| original.get(tap)) {
            Some(Some(tensor)) if tensor.dims == output.dims => {
                Some(self.original.outputs(tensor, picks)?)
            }
            Some(_) => return None,
            None => None,
        };
        let added = match &taps.added {
            Some(tap) => self.pruned.outputs(pruned.get(tap)?, picks)?,
            None => vec![0.0; self.pruned.groups * picks.len() * self.pruned.rows],
        };
        let mut aims = vec![0.0f32; added.len()];
        for (channel, source) in self.kept.iter().enumerate() {
            let (group, row) = (channel / self.pruned.rows, channel % self.pruned.rows);
            let (from_group, from_row) = (source / self.original.rows, source % self.original.rows);
            let (scale, offset) = (
                *self.original_aim.scale.get(*source)? as f32,
                *self.original_aim.offset.get(*source)? as f32,
            );
            let outside = self
                .outside
                .as_ref()
                .and_then(|bias| bias.get(*source))
                .copied()
                .unwrap_or(0.0) as f32;
            for at in 0..picks.len() {
                let from = (from_group * picks.len() + at) * self.original.rows + from_row;
                let more = original_added
                    .as_ref()
                    .and_then(|added| added.get(from))
                    .copied()
                    .unwrap_or(0.0);
                aims[(group * picks.len() + at) * self.pruned.rows + row] =
                    (before.get(from)? + outside) * scale + offset + more;
            }
        }
        Some((aims, added))
    }
}
