//! Inputs made up from what a model declares, for models that come without data. They exercise the model; they say little
//! about how it behaves on real inputs.

use super::cached::KEPT;
use super::error::GIVE_INPUTS;
use super::recipe::{MadeAmount, Recipe};
use super::symbols::{Extents, SEQUENCE, resolve};
use super::{DataError, InputSpec, Inputs, Style};
use crate::progress::{MORE_MEMORY, Memory, size_text};
use crate::proto::Dtype;

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
    let dims = fitting(specs, memory)?;
    let per_batch = dims
        .iter()
        .find_map(|dims| dims.first().copied())
        .unwrap_or(1)
        .max(1);
    let batches = samples.max(1).div_ceil(per_batch);
    let most = most(specs, &dims, memory);
    Ok(Inputs::made(Recipe {
        specs: specs.iter().cloned().zip(dims).collect(),
        seed,
        styles: styles(batches.min(most)),
        per_batch,
        made: if batches > most {
            MadeAmount::Fewer
        } else {
            MadeAmount::All
        },
    }))
}

/// One batch of zeros, for a model that is not to be run on it. Errors: as [`synthetic_within`].
pub fn hollow(specs: &[InputSpec], memory: Memory) -> Result<Inputs, DataError> {
    let dims = fitting(specs, memory)?;
    Ok(Inputs::made(Recipe {
        specs: specs.iter().cloned().zip(dims).collect(),
        seed: 0,
        styles: vec![Style::Plain],
        per_batch: 1,
        made: MadeAmount::Nothing,
    }))
}

/// Bytes of a batch from which on two are enough: one to choose by and one kept apart.
const LARGE: usize = 64 << 20;

/// How many batches are kept ready at once. Drawing them all at once takes three times as much, as doubles stand beside them,
/// and leaves the models more than half of the memory.
fn most(specs: &[InputSpec], dims: &[Vec<usize>], memory: Memory) -> usize {
    let bytes = |(spec, dims): (&InputSpec, &Vec<usize>)| {
        dims.iter().fold(spec.dtype.bytes_for(1), |product, dim| {
            product.saturating_mul(*dim)
        })
    };
    let each: usize = specs
        .iter()
        .zip(dims)
        .map(bytes)
        .fold(0, usize::saturating_add);
    let kept = usize::try_from(memory.0 / 8).map_or(KEPT, |share| share.min(KEPT));
    let enough = if each > LARGE { 2 } else { usize::MAX };
    (kept / each.max(1)).clamp(1, enough)
}

/// The extents of made-up inputs. Errors: one that cannot be made up, or takes more memory than allowed.
fn fitting(specs: &[InputSpec], memory: Memory) -> Result<Vec<Vec<usize>>, DataError> {
    for spec in specs {
        let known = spec.dtype.is_float() || spec.dtype.is_integer() || spec.dtype == Dtype::Bool;
        if !known {
            return Err(DataError::spec(format!(
                "input '{}' is {}, {GIVE_INPUTS}",
                spec.name,
                spec.describe()
            )));
        }
    }
    let dims = resolve(specs, SEQUENCE, &Extents::new());
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
            return Err(DataError::spec(format!(
                "input '{}' of {shape} takes {takes} to make up, and {memory} are allowed; {MORE_MEMORY}",
                spec.name
            )));
        }
    }
    Ok(dims)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

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
    fn no_more_are_made_than_can_be_kept() {
        let specs = [spec("x", Dtype::Float, &["n", "100"])];
        let made = |memory| synthetic_within(&specs, 8, 0, Memory(memory)).unwrap();
        let said = |inputs: &Inputs| inputs.describe().0;
        // An eighth of the memory holds three of 400 bytes each.
        let few = made(8 * 1599);
        assert_eq!(
            (few.len(), few.samples, said(&few).as_str()),
            (3, 3, "3 made-up samples, as many as fit")
        );
        let all = made(8 * 3200);
        assert_eq!((all.len(), said(&all).as_str()), (8, "8 made-up samples"));
        assert_eq!(few.batch(2).unwrap(), all.batch(2).unwrap());
        assert_eq!(made(1200).len(), 1);
    }

    #[test]
    fn nothing_is_drawn_for_a_model_that_is_not_run() {
        let specs = [spec("x", Dtype::Float, &["n", "3"])];
        let inputs = hollow(&specs, Memory(36)).unwrap();
        assert_eq!(inputs.batch(0).unwrap()["x"].to_f32().unwrap(), [0.0; 3]);
        assert!(hollow(&specs, Memory(35)).is_err());
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
}
