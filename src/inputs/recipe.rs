//! What made-up inputs are made from: numbers by the kind of an input, batch by batch.

use rand::Rng;
use rand_chacha::ChaCha8Rng;

use super::preprocess::{from_real, from_whole};
use super::{DataError, InputKind, InputSpec, Style, Tensors};
use crate::model::TensorRef;
use crate::proto::Dtype;
use crate::rng::rng;

/// Whole numbers without a known range stay below this: any table has so many rows.
const SMALL: i64 = 10;

/// What made-up inputs are made from. The same seed gives the same numbers, whichever batches are asked for.
#[derive(Clone, Debug)]
pub(super) struct Recipe {
    /// The inputs, and the extents of each.
    pub specs: Vec<(InputSpec, Vec<usize>)>,
    pub seed: u64,
    /// One for each batch.
    pub styles: Vec<Style>,
    pub per_batch: usize,
    pub made: MadeAmount,
}

/// How much is made of what was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum MadeAmount {
    All,
    /// As many batches as fit in memory.
    Fewer,
    /// Zeros in place of numbers.
    Nothing,
}

impl Recipe {
    /// How many batches there are.
    pub fn batches(&self) -> usize {
        self.styles.len()
    }

    pub fn batch(&self, number: usize) -> Result<Tensors, DataError> {
        let sequence = self
            .specs
            .iter()
            .find(|(spec, dims)| spec.kind != InputKind::Lengths && dims.len() >= 2);
        let sequence = sequence.map_or(1, |(_, dims)| dims[1] as i64);
        let style = self.styles.get(number).copied().unwrap_or(Style::Plain);
        let mut tensors = Tensors::new();
        for (spec, dims) in &self.specs {
            // A whole number that stands alone often counts steps or chooses a branch: one and the same for all samples.
            let same = dims.is_empty() && !spec.dtype.is_float();
            let mut random = rng(
                self.seed,
                &format!("{}#{}", spec.name, if same { 0 } else { number }),
            );
            let bytes = if self.made == MadeAmount::Nothing {
                Some(vec![0; spec.dtype.bytes_for(dims.iter().product())])
            } else {
                fill(spec, dims, sequence, style, &mut random)
            };
            let bytes = bytes.ok_or_else(|| {
                DataError::spec(format!(
                    "input '{}' is {}, which cannot be made up",
                    spec.name,
                    spec.describe()
                ))
            })?;
            tensors.insert(
                spec.name.clone(),
                TensorRef {
                    dtype: spec.dtype,
                    dims: dims.clone(),
                    bytes: bytes.into(),
                },
            );
        }
        Ok(tensors)
    }
}

/// One input of a batch, as bytes; `None` for an element type that cannot be made up. `sequence`: how long the sequences are.
fn fill(
    spec: &InputSpec,
    dims: &[usize],
    sequence: i64,
    style: Style,
    random: &mut ChaCha8Rng,
) -> Option<Vec<u8>> {
    let count: usize = dims.iter().product();
    let dtype = spec.dtype;
    if spec.kind == InputKind::Values && spec.range.is_none() {
        let normal = |random: &mut ChaCha8Rng| normal_pair(random)[0];
        if dtype.is_float() {
            return from_real(&style.numbers(dims, random, &normal), dtype);
        }
        if dtype.is_integer() && dtype.bits() == 8 {
            let numbers = style.numbers(dims, random, &normal);
            return from_whole(&bytes_of(&numbers, range(spec)), dtype);
        }
    }
    if dtype == Dtype::Bool && spec.kind == InputKind::Values {
        return Some(
            (0..count)
                .map(|_| u8::from(random.random::<bool>()))
                .collect(),
        );
    }
    let numbers = whole_numbers(spec, dims, sequence, style, random);
    if dtype.is_float() {
        return from_real(
            &numbers
                .iter()
                .map(|number| *number as f64)
                .collect::<Vec<_>>(),
            dtype,
        );
    }
    from_whole(&numbers, dtype)
}

/// Whole numbers as an input of this kind has them.
fn whole_numbers(
    spec: &InputSpec,
    dims: &[usize],
    sequence: i64,
    style: Style,
    random: &mut ChaCha8Rng,
) -> Vec<i64> {
    let count: usize = dims.iter().product();
    let row = dims.last().copied().unwrap_or(1).max(1);
    let (low, high) = range(spec);
    let number = |at: usize| (at % row) as i64;
    match spec.kind {
        // Ones, then some zeros.
        InputKind::Mask => {
            let (parts, of) = style.padding();
            rows(
                count,
                row,
                || row - random.random_range(0..=row * parts / of),
                |at, end| i64::from(at < end),
            )
        }
        InputKind::TokenTypes => rows(
            count,
            row,
            || random.random_range(1..=row),
            |at, end| i64::from(at >= end),
        ),
        InputKind::Positions => (0..count)
            .map(|at| number(at).clamp(low, if spec.range.is_some() { high } else { i64::MAX }))
            .collect(),
        InputKind::Lengths => {
            vec![spec.range.map_or(sequence, |_| sequence.clamp(low, high)); count]
        }
        InputKind::SampleRate => vec![16000; count],
        InputKind::Values | InputKind::Indices => style
            .picks(
                high.saturating_sub(low).saturating_add(1),
                count,
                row,
                random,
            )
            .into_iter()
            .map(|pick| low.saturating_add(pick))
            .collect(),
    }
}

/// Numbers about 0 as raw pictures and sound have them: the middle of the range is 0, a quarter of it one deviation.
fn bytes_of(numbers: &[f64], (low, high): (i64, i64)) -> Vec<i64> {
    let (middle, unit) = (low.midpoint(high) as f64, (high - low) as f64 / 4.0);
    let byte = |number: &f64| ((middle + number * unit).round() as i64).clamp(low, high);
    numbers.iter().map(byte).collect()
}

fn rows(
    count: usize,
    row: usize,
    mut end: impl FnMut() -> usize,
    value: impl Fn(usize, usize) -> i64,
) -> Vec<i64> {
    (0..count / row)
        .flat_map(|_| {
            let end = end();
            (0..row).map(move |at| (at, end))
        })
        .map(|(at, end)| value(at, end))
        .collect()
}

/// The range that the numbers are drawn from, both ends included.
fn range(spec: &InputSpec) -> (i64, i64) {
    let whole_type = match spec.dtype {
        Dtype::Uint8 => (0, 255),
        Dtype::Int8 => (-128, 127),
        _ => (0, SMALL - 1),
    };
    let (low, high) = spec.range.unwrap_or(if spec.kind == InputKind::Values {
        whole_type
    } else {
        (0, SMALL - 1)
    });
    if low <= high { (low, high) } else { (low, low) }
}

/// Two independent numbers from N(0, 1), by Box and Muller.
fn normal_pair(random: &mut ChaCha8Rng) -> [f64; 2] {
    let radius = (-2.0 * (1.0 - random.random::<f64>()).ln()).sqrt();
    let (sin, cos) = (std::f64::consts::TAU * random.random::<f64>()).sin_cos();
    [radius * cos, radius * sin]
}
