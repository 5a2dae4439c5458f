//! What two layers in a row are fitted to: rows of the first one's input, where the second one finds its output, and what
//! the second should give.

use rand::Rng;
use rand::seq::index::sample;

use super::rows::{Layer, MEMORY, Rows, Taps};
use super::sample::Sample;
use crate::calibrate::{Counting, stack};
use crate::model::TensorRef;
use crate::rng::rng;
use crate::run::Tensors;

/// A place outside of the first layer's output: padding.
pub(super) const NOWHERE: u32 = u32::MAX;

/// Rows of some runs.
#[derive(Clone, Debug, Default)]
pub(super) struct Patches {
    /// Positions of the first layer's output that the rows read.
    pub positions: usize,
    /// Rows of the second layer.
    pub rows: usize,
    /// What the first layer reads there: its groups × positions × columns.
    pub inputs: Vec<f32>,
    /// Where the second layer's inputs stand among positions × units of the first: its groups × rows × columns.
    pub places: Vec<u32>,
    /// As in [`Rows`], of the second layer.
    pub aims: Vec<f32>,
    pub added: Vec<f32>,
    /// Likewise of the first, by positions; none where it is not mended alone.
    pub first: Rows,
}

/// Multiplications that one look at all rows may cost.
const WORK: usize = 2_000_000_000;
/// Positions of the first layer that a row takes with it at most, beside those that its neighbours read as well.
const SHARED: usize = 4;
/// Rows that read neighbouring positions, at least: fewer would share too little of what the first layer reads.
const TOGETHER: usize = 8;
/// Rows per column at least.
const PER_COLUMN: usize = 8;

impl Layer {
    /// Units of the output.
    pub fn units(&self) -> usize {
        self.pruned.groups * self.pruned.rows
    }

    /// Whether enough rows of both layers are few enough numbers.
    pub fn fits_behind(&self, first: &Layer) -> bool {
        MEMORY / self.patch_bytes(first) >= PER_COLUMN * self.pruned.columns
    }

    fn patch_bytes(&self, first: &Layer) -> usize {
        let (own, before) = (&self.pruned, &first.pruned);
        // Neighbouring rows share most of what they read.
        let positions = own.taps().min(SHARED) * before.groups * (before.columns + 2 * before.rows);
        4 * (positions + 2 * own.groups * (own.columns + own.rows)).max(1)
    }

    /// Rows of both that one of so many runs gives; 0 where so few would fit that only some of the runs give any.
    fn patch_limit(&self, first: &Layer, number: usize, runs: usize) -> usize {
        let (own, before) = (&self.pruned, &first.pruned);
        // Neighbouring rows share most of what they read.
        let work = own.taps().min(2) * before.groups * before.rows * before.columns
            + own.groups * own.rows * own.columns;
        let most = (MEMORY / self.patch_bytes(first))
            .min(WORK / work.max(1))
            .max(PER_COLUMN * own.columns);
        let rows = self.limit(1).min(most);
        let limit = (rows / runs.max(1)).max(1);
        if limit >= TOGETHER || own.taps() == 1 {
            return limit;
        }
        let gives = rng(number as u64, &format!("{} gives", self.key))
            .random_range(0..TOGETHER * runs)
            < rows;
        if gives { TOGETHER } else { 0 }
    }

    /// The rows of a run (its number, of so many, and which positions of it count) for this layer and the one before it. `None`: it gives none, or tensors do
    /// not fit.
    pub fn patches(
        &self,
        first: &Layer,
        (taps, first_taps): (&Taps, &Taps),
        (number, runs, counting): (usize, usize, Counting),
        original: &Tensors,
        pruned: &Tensors,
    ) -> Option<Patches> {
        let limit = Some(self.patch_limit(first, number, runs)).filter(|limit| *limit > 0)?;
        let data = pruned.get(&first_taps.data)?;
        let between = first.dims_between(original.get(&first_taps.output)?)?;
        let count: usize = between.iter().product();
        // A tensor of which each number says in its bits where it stands, read by the second layer and given by the first:
        // both only copy it. Padding reads 0.
        let last = u32::try_from(count).ok()?;
        let named = TensorRef::from_f32(
            between.clone(),
            &(1..=last).map(f32::from_bits).collect::<Vec<_>>(),
        );
        let draw = |positions| neighbours(&self.key, number, positions, limit);
        let picks = counting.drawn(&self.pruned, &between, draw)?;
        let read = self.pruned.activations(&named, &picks)?;
        let all: Vec<usize> = (0..first.pruned.positions(&data.dims)?).collect();
        let source = first.sources(&named, &all)?;
        let mut slot_of = vec![NOWHERE; all.len()];
        let mut needed = Vec::new();
        let mut places = Vec::with_capacity(read.len());
        for place in read {
            let place = place.to_bits();
            if place == 0 {
                places.push(NOWHERE);
                continue;
            }
            let (position, unit) = source[place as usize]?;
            if slot_of[position] == NOWHERE {
                slot_of[position] = needed.len() as u32;
                needed.push(position);
            }
            places.push(slot_of[position] * first.units() as u32 + unit as u32);
        }
        let (aims, added) = self.wanted(taps, &picks, original, pruned)?;
        let inputs = first.pruned.activations(data, &needed)?;
        let mut before = Rows::default();
        if first.touched {
            (before.aims, before.added) = first.wanted(first_taps, &needed, original, pruned)?;
        }
        Some(Patches {
            positions: needed.len(),
            rows: picks.len(),
            inputs,
            places,
            aims,
            added,
            first: before,
        })
    }

    /// The position (of these) and the unit that give each number of the layer's output, by the place that the number's bits
    /// name; place 0 is padding.
    fn sources(
        &self,
        named: &TensorRef,
        positions: &[usize],
    ) -> Option<Vec<Option<(usize, usize)>>> {
        let rows = self.pruned.rows;
        let given = self.pruned.outputs(named, positions)?;
        let mut source = vec![None; named.dims.iter().product::<usize>() + 1];
        for (at, place) in given.iter().enumerate() {
            let (group, rest) = (at / (positions.len() * rows), at % (positions.len() * rows));
            let (position, row) = (rest / rows, rest % rows);
            source[place.to_bits() as usize] = Some((position, group * rows + row));
        }
        Some(source)
    }

    /// The dims of the pruned model's output, from those of the original's.
    fn dims_between(&self, original: &TensorRef) -> Option<Vec<usize>> {
        let (axis, places) = self.pruned.channel_axis()?;
        let mut dims = original.dims.clone();
        *dims.get_mut(axis)? = places.len();
        Some(dims)
    }
}

/// So many positions, always a few next to each other, from places drawn by the run's number: whatever the number of runs, a
/// row takes as many of the first layer's positions with it.
fn neighbours(key: &str, run: usize, positions: usize, limit: usize) -> Vec<usize> {
    if positions <= limit {
        return (0..positions).collect();
    }
    let mut rng = rng(run as u64, key);
    // The last strip may be shorter.
    let (strips, more) = (
        positions.div_ceil(TOGETHER),
        usize::from(!positions.is_multiple_of(TOGETHER)),
    );
    let mut drawn = sample(
        &mut rng,
        strips,
        (limit.div_ceil(TOGETHER) + more).min(strips),
    )
    .into_vec();
    drawn.sort_unstable();
    // Strips need not begin where the rows of a map do.
    let shift = rng.random_range(0..positions);
    let all = drawn
        .iter()
        .flat_map(|strip| strip * TOGETHER..((strip + 1) * TOGETHER).min(positions));
    all.take(limit)
        .map(|position| (position + shift) % positions)
        .collect()
}

/// Rows of many runs, put together in parts as they come.
#[derive(Debug, Default)]
pub(super) struct Parts {
    done: Vec<Patches>,
    open: Vec<Patches>,
}

/// Positions of a part: enough for fast products, few enough for many threads.
const PART: usize = 1024;

impl Parts {
    /// Adds the rows of a run.
    pub fn add(&mut self, run: Patches, pair: (&Layer, &Layer)) {
        self.open.push(run);
        if self.open.iter().map(|run| run.positions).sum::<usize>() >= PART {
            self.close(pair);
        }
    }

    fn close(&mut self, (first, second): (&Layer, &Layer)) {
        self.done
            .push(Patches::join(std::mem::take(&mut self.open), first, second));
    }

    /// All of them.
    pub fn finish(mut self, pair: (&Layer, &Layer)) -> Vec<Patches> {
        if !self.open.is_empty() {
            self.close(pair);
        }
        self.done
    }
}

impl Patches {
    fn join(runs: Vec<Patches>, first: &Layer, second: &Layer) -> Patches {
        let (mut positions, mut rows) = (0, 0);
        let (mut inputs, mut places, mut aims, mut added) =
            (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        let (mut first_aims, mut first_added) = (Vec::new(), Vec::new());
        for mut run in runs {
            let shift = (positions * first.units()) as u32;
            run.places
                .iter_mut()
                .filter(|place| **place != NOWHERE)
                .for_each(|place| *place += shift);
            positions += run.positions;
            rows += run.rows;
            inputs.push(run.inputs);
            places.push(run.places);
            aims.push(run.aims);
            added.push(run.added);
            first_aims.push(run.first.aims);
            first_added.push(run.first.added);
        }
        let (groups, before) = (second.pruned.groups, first.pruned.groups);
        Patches {
            positions,
            rows,
            inputs: stack(inputs, before),
            places: stack(places, groups),
            aims: stack(aims, groups),
            added: stack(added, groups),
            first: Rows {
                inputs: Vec::new(),
                aims: stack(first_aims, before),
                added: stack(first_added, before),
            },
        }
    }

    /// The first layer's rows, for fitting it alone.
    pub fn of_first<'a>(parts: &'a [Patches], first: &Layer) -> Sample<'a> {
        let mut all = Sample::new(first.pruned.groups);
        parts
            .iter()
            .for_each(|part| all.lend(&part.inputs, &part.first));
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analysis::{Options, analyse};
    use crate::model::text;
    use crate::recover::joint::PointPair;
    use crate::recover::layers::{Which, layers};
    use crate::recover::mend::GramProduct;
    use crate::recover::request::Teacher;
    use crate::run::{Runtime, TractRuntime};
    use crate::surgery;

    #[test]
    fn rows_are_drawn_in_strips() {
        for (positions, limit) in [(64, 8), (64, 32), (100, 31), (5, 8), (1024, 1)] {
            let mut picks = neighbours("layer", 3, positions, limit);
            assert_eq!(picks.len(), limit.min(positions));
            picks.sort_unstable();
            let gaps = picks
                .windows(2)
                .filter(|pair| pair[1] > pair[0] + 1)
                .count();
            assert!(
                picks.windows(2).all(|pair| pair[0] < pair[1])
                    && picks.iter().all(|at| *at < positions)
                    && gaps <= limit.div_ceil(TOGETHER) + 1,
                "{picks:?}"
            );
        }
    }

    /// What the second of two convolutions reads at the rows is what the runtime gives it.
    #[test]
    fn the_second_layer_finds_what_the_first_gives() {
        for (attributes, weight) in [
            ("{pads=[1,1,1,1],strides=[2,2]}", "f32[5,6,3,3]"),
            ("{pads=[1,1,1,1],group=6}", "f32[6,1,3,3]"),
        ] {
            let text = format!(
                "opset 13\ninput x f32[1,2,6,5]\nconst w0 f32[4,2,1,1]\nconst w f32[6,4,3,3]\nconst b f32[6]\nconst v {weight}\n\
                 x1 = Conv(x, w0)\nx2 = Relu(x1)\nh = Conv(x2, w, b) {{pads=[0,1,0,1]}}\nh1 = Relu(h)\ny = Conv(h1, v) {attributes}\noutput y\n"
            );
            let model = text::model(&text).unwrap();
            let analysis = analyse(&model, &Options::default());
            let groups: Vec<(usize, &[u32])> = analysis
                .groups
                .iter()
                .enumerate()
                .map(|(at, _)| (at, &[1u32][..]))
                .collect();
            let selection = analysis.select(groups);
            let pruned = surgery::apply(&model, &analysis, &selection, &[]).unwrap();
            let layers = layers(
                Teacher {
                    model: &model,
                    analysis: &analysis,
                    selection: &selection,
                },
                &pruned,
                Which::Joined,
            );
            let layer = layers.iter().find(|layer| layer.before.is_some()).unwrap();
            let first = layer.before.as_deref().unwrap();
            let numbers: Vec<f32> = (0..60)
                .map(|at| (at * 37 % 61) as f32 / 30.0 - 1.0)
                .collect();
            let inputs = Tensors::from([(
                "x".to_owned(),
                TensorRef::from_f32(vec![1, 2, 6, 5], &numbers),
            )]);
            let named = |model, taps: &[&str]| -> Tensors {
                let names: Vec<String> = taps.iter().map(|tap| (*tap).to_owned()).collect();
                let session = TractRuntime::new(false)
                    .prepare(model, &inputs, &names)
                    .unwrap();
                let outputs = session.run(&inputs).unwrap();
                names.into_iter().zip(outputs.into_iter().skip(1)).collect()
            };
            let (original, ran) = (named(&model, &["h", "y"]), named(&pruned, &["x2", "h1"]));
            let taps = |output: &str, data: &str| Taps {
                output: output.into(),
                original_added: None,
                original_data: None,
                data: data.into(),
                added: None,
            };
            let patches = layer
                .patches(
                    first,
                    (&taps("y", "h1"), &taps("h", "x2")),
                    (0, 1, Counting::default()),
                    &original,
                    &ran,
                )
                .unwrap();
            let (weight, bias) = first.read(&pruned).unwrap();
            let rows = PointPair::new(first, layer).rows(&[patches], &weight, &bias.unwrap());
            let picks: Vec<usize> = (0..layer.pruned.positions(&ran["h1"].dims).unwrap()).collect();
            let expected = layer.pruned.activations(&ran["h1"], &picks).unwrap();
            assert_eq!(
                rows.0
                    .iter()
                    .map(|rows| rows.inputs.concat().len())
                    .sum::<usize>(),
                expected.len()
            );
            rows.0
                .iter()
                .flat_map(|rows| rows.inputs.iter().flat_map(|piece| piece.iter()))
                .zip(&expected)
                .for_each(|(found, wanted)| {
                    assert!((found - wanted).abs() < 1e-4, "{found}, {wanted}")
                });
        }
    }
}
