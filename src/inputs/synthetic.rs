//! Inputs made up from what a model declares, for models that come without data. They exercise the model; they say little
//! about how it behaves on real inputs.

use std::collections::BTreeMap;
use std::path::Path;

use rand::Rng;
use rand_chacha::ChaCha8Rng;

use super::error::{DataErrorKind, GIVE_INPUTS};
use super::preprocess::{from_real, from_whole};
use super::{DataError, InputKind, InputSpec, Inputs, Style, Tensors, symbols};
use crate::model::TensorRef;
use crate::progress::{MORE_MEMORY, Memory, size_text};
use crate::proto::Dtype;
use crate::rng::rng;

/// Whole numbers without a known range stay below this: any table has so many rows.
const SMALL: i64 = 10;

/// What made-up inputs are made from. The same seed gives the same numbers, whichever batches are asked for.
#[derive(Clone, Debug)]
pub(super) struct Recipe {
    specs: Vec<(InputSpec, Vec<usize>)>,
    seed: u64,
    /// One for each batch.
    styles: Vec<Style>,
    pub per_batch: usize,
}

/// Made-up inputs of the declared types and shapes: pictures of leaves, other real numbers from N(0, 1), whole ones within their range, masks of
/// ones with a tail of zeros. Dynamic extents that are not pinned ([`InputSpec::pin`]) get ordinary numbers: batch 1,
/// sequences of 32, images of 224 × 224. Errors: an element type that can not be made up.
pub fn synthetic(specs: &[InputSpec], samples: usize, seed: u64) -> Result<Inputs, DataError> {
    synthetic_within(specs, samples, seed, Memory::default())
}

/// The same, of inputs that take no more than so much memory while they are made. Errors: as [`synthetic`], and one that
/// takes more.
pub fn synthetic_within(
    specs: &[InputSpec],
    samples: usize,
    seed: u64,
    memory: Memory,
) -> Result<Inputs, DataError> {
    let plain = |batches| vec![Style::Plain; batches];
    synthetic_styled(specs, samples, seed, memory, plain)
}

/// The same in styles: `styles` gives one for each of so many batches, which may be more. Errors: as [`synthetic_within`].
pub fn synthetic_styled(
    specs: &[InputSpec],
    samples: usize,
    seed: u64,
    memory: Memory,
    styles: impl Fn(usize) -> Vec<Style>,
) -> Result<Inputs, DataError> {
    for spec in specs {
        let known = spec.dtype.is_float() || spec.dtype.is_integer() || spec.dtype == Dtype::Bool;
        if !known {
            return Err(error(format!(
                "input '{}' is {}, {GIVE_INPUTS}",
                spec.name,
                spec.describe()
            )));
        }
    }
    let dims = symbols::resolve(specs, symbols::SEQUENCE);
    for (spec, dims) in specs.iter().zip(&dims) {
        // Numbers are drawn as doubles and then converted.
        let size = dims
            .iter()
            .try_fold(spec.dtype.bytes_for(1) as u64 + 8, |product, dim| {
                product.checked_mul(*dim as u64)
            });
        if !memory.holds(size) {
            let takes = size.map_or_else(
                || "more bytes than can be counted".to_owned(),
                |size| size_text(size as f64),
            );
            let shape = dims
                .iter()
                .map(usize::to_string)
                .collect::<Vec<_>>()
                .join("×");
            return Err(error(format!(
                "input '{}' of {shape} takes {takes} to make up, and {memory} are allowed; {MORE_MEMORY}",
                spec.name
            )));
        }
    }
    let per_batch = dims
        .iter()
        .find_map(|dims| dims.first().copied())
        .unwrap_or(1)
        .max(1);
    let batches = samples.max(1).div_ceil(per_batch);
    Ok(Inputs::made(Recipe {
        specs: specs.iter().cloned().zip(dims).collect(),
        seed,
        styles: styles(batches),
        per_batch,
    }))
}

/// How long sequences are taken to be where a model computes nothing of shorter ones: frames and seconds of sound.
const LONGER: [i64; 2] = [512, 16000];

/// The shapes at which operations are counted, by input: those that made-up inputs have, with the extents that are pinned.
/// Where `counts` says that nothing is computed at these, longer sequences are tried.
pub fn counting_shapes(
    specs: &[InputSpec],
    counts: impl Fn(&BTreeMap<String, Vec<i64>>) -> bool,
) -> BTreeMap<String, Vec<i64>> {
    let usual = InputSpec::made_up(specs);
    let open = specs.iter().any(|spec| spec.fixed().is_none());
    if !open || counts(&usual) {
        return usual;
    }
    let mut longer = LONGER
        .into_iter()
        .map(|sequence| InputSpec::with_sequences(specs, sequence));
    longer.find(|shapes| counts(shapes)).unwrap_or(usual)
}

fn error(problem: String) -> DataError {
    DataError::new(Path::new(""), DataErrorKind::Spec(problem))
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
            let bytes = fill(spec, dims, sequence, style, &mut random);
            let bytes = bytes.ok_or_else(|| {
                error(format!(
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

fn fill(
    spec: &InputSpec,
    dims: &[usize],
    sequence: i64,
    style: Style,
    random: &mut ChaCha8Rng,
) -> Option<Vec<u8>> {
    let count: usize = dims.iter().product();
    let row = dims.last().copied().unwrap_or(1).max(1);
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
    let (low, high) = range(spec);
    let number = |at: usize| (at % row) as i64;
    let numbers: Vec<i64> = match spec.kind {
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
    };
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::facts::Dim;

    fn spec(name: &str, dtype: Dtype, shape: &[&str]) -> InputSpec {
        let shape = shape
            .iter()
            .map(|dim| dim.parse().map_or_else(|_| Dim::symbol(dim), Dim::Num))
            .collect();
        InputSpec::new(name, dtype, shape)
    }

    #[test]
    fn a_language_model_gets_tokens_masks_and_positions() {
        let mut specs = [
            InputSpec {
                range: Some((0, 99)),
                ..spec("input_ids", Dtype::Int64, &["batch", "seq"])
            },
            spec("attention_mask", Dtype::Int64, &["batch", "seq"]),
            spec("token_type_ids", Dtype::Int64, &["batch", "seq"]),
            spec("position_ids", Dtype::Int64, &["batch", "seq"]),
        ];
        InputSpec::pin(
            &mut specs,
            &BTreeMap::from([("input_ids".to_owned(), vec![2, 16])]),
        )
        .unwrap();
        let inputs = synthetic(&specs, 6, 1).unwrap();
        assert_eq!(
            (inputs.len(), inputs.samples, inputs.synthetic),
            (3, 6, true)
        );
        let batch = inputs.batch(1).unwrap();
        let numbers = |name: &str| batch[name].to_i64().unwrap();
        assert!(batch.values().all(|tensor| tensor.dims == [2, 16]));
        assert!(
            numbers("input_ids").iter().all(|id| (0..100).contains(id))
                && numbers("input_ids").iter().any(|id| *id > 9)
        );
        assert!(
            numbers("attention_mask")
                .chunks(16)
                .all(|row| row[..12] == [1; 12] && row.is_sorted_by(|a, b| a >= b))
        );
        assert!(
            numbers("token_type_ids")
                .chunks(16)
                .all(|row| row[0] == 0 && row.is_sorted() && row[15] <= 1)
        );
        assert_eq!(numbers("position_ids")[..3], [0, 1, 2]);
        assert_eq!(inputs.batch(1).unwrap(), batch);
        assert_ne!(inputs.batch(2).unwrap(), batch);
    }

    #[test]
    fn inputs_that_do_not_fit_are_not_made() {
        let made = |extent: &str, memory| {
            synthetic_within(
                &[spec("x", Dtype::Float, &[extent, "4"])],
                1,
                0,
                Memory(memory),
            )
        };
        assert!(made("2", 96).is_ok());
        let problem = made("2", 95).unwrap_err().to_string();
        assert!(
            problem
                .contains("input 'x' of 2×4 takes 96 bytes to make up, and 95 bytes are allowed"),
            "{problem}"
        );
        assert!(
            made("4611686018427387904", u64::MAX)
                .unwrap_err()
                .to_string()
                .contains("more bytes than can be counted")
        );
    }

    #[test]
    fn real_numbers_are_normal() {
        let inputs = synthetic(&[spec("x", Dtype::Float, &["n", "8", "h", "w"])], 1, 7).unwrap();
        let x = inputs.batch(0).unwrap()["x"].to_f64().unwrap();
        assert_eq!(x.len(), 8 * 224 * 224);
        let mean = x.iter().sum::<f64>() / x.len() as f64;
        let variance = x.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / x.len() as f64;
        assert!(
            mean.abs() < 0.01 && (variance - 1.0).abs() < 0.02,
            "{mean} {variance}"
        );
    }

    #[test]
    fn every_number_type_can_be_made() {
        let types = [
            Dtype::Float16,
            Dtype::Bfloat16,
            Dtype::Double,
            Dtype::Bool,
            Dtype::Uint8,
            Dtype::Int8,
            Dtype::Int32,
            Dtype::Uint64,
        ];
        for dtype in types {
            let tensor = synthetic(&[spec("x", dtype, &["2", "5"])], 2, 0)
                .unwrap()
                .batch(0)
                .unwrap()["x"]
                .clone();
            assert_eq!(
                (tensor.dtype, tensor.bytes.len()),
                (dtype, dtype.bytes_for(10))
            );
        }
        assert!(synthetic(&[spec("x", Dtype::String, &["2"])], 1, 0).is_err());
    }

    #[test]
    fn operations_are_counted_at_the_shapes_of_made_up_inputs() {
        let specs = [spec("x", Dtype::Float, &["batch", "frames"])];
        let counted =
            |least: i64| counting_shapes(&specs, |shapes| shapes["x"][1] >= least)["x"].clone();
        assert_eq!(
            [counted(1), counted(100), counted(1000), counted(1 << 20)],
            [[1, 32], [1, 512], [1, 16000], [1, 32]]
        );
    }
}
