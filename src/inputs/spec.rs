//! What a model wants at one input.

use std::collections::BTreeMap;

use super::DataError;
use crate::facts::Dim;
use crate::proto::Dtype;

/// What numbers an input stands for, as far as its name and type tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InputKind {
    /// Measurements: pixels, samples, features.
    Values,
    /// Whole numbers that pick rows of a table.
    Indices,
    /// 1 where there is something, 0 where there is padding.
    Mask,
    /// Which of two sentences a token belongs to.
    TokenTypes,
    /// 0, 1, 2 … along the last axis.
    Positions,
    /// How long the sequences are.
    Lengths,
    /// Samples of audio per second.
    SampleRate,
}

impl InputKind {
    /// The kind that an input's name and type suggest.
    pub fn guess(name: &str, dtype: Dtype, rank: usize) -> Self {
        let name = name.to_ascii_lowercase();
        let has = |parts: &[&str]| parts.iter().any(|part| name.contains(part));
        if has(&["mask"]) && (!dtype.is_float() || rank <= 3) {
            InputKind::Mask
        } else if name == "sr" || has(&["sample_rate", "sampling_rate"]) {
            InputKind::SampleRate
        } else if !dtype.is_integer() {
            InputKind::Values
        } else if has(&["token_type", "segment_ids"]) {
            InputKind::TokenTypes
        } else if has(&["position"]) {
            InputKind::Positions
        } else if has(&["length", "seq_len", "_lens", "_len"]) && rank <= 1 {
            InputKind::Lengths
        } else if dtype.bits() == 8 && rank >= 3 {
            // Raw bytes of images and sound.
            InputKind::Values
        } else {
            InputKind::Indices
        }
    }
}

/// One input of a model.
#[derive(Clone, Debug, PartialEq)]
pub struct InputSpec {
    /// Its name.
    pub name: String,
    /// Its element type.
    pub dtype: Dtype,
    /// Its extents; a symbol where it is dynamic.
    pub shape: Vec<Dim>,
    /// The smallest and the largest whole number that makes sense (a vocabulary: `(0, size - 1)`), if it is known.
    pub range: Option<(i64, i64)>,
    /// What its numbers stand for.
    pub kind: InputKind,
}

impl InputSpec {
    /// An input of which only the declaration is known.
    pub fn new(name: &str, dtype: Dtype, shape: Vec<Dim>) -> Self {
        InputSpec {
            name: name.to_owned(),
            dtype,
            range: None,
            kind: InputKind::guess(name, dtype, shape.len()),
            shape,
        }
    }

    /// Puts the extents that the user gave (`--input NAME=SHAPE`) into all inputs: also into others that share a symbol.
    /// Errors: no such input, another number of axes, a fixed extent contradicted.
    pub fn pin(
        specs: &mut [InputSpec],
        pins: &BTreeMap<String, Vec<i64>>,
    ) -> Result<(), DataError> {
        let mut symbols: BTreeMap<String, i64> = BTreeMap::new();
        for (name, dims) in pins {
            let Some(spec) = specs.iter_mut().find(|spec| spec.name == *name) else {
                let names: Vec<_> = specs.iter().map(|spec| spec.name.as_str()).collect();
                return Err(DataError::spec(format!(
                    "the model has no input '{name}', but {}",
                    names.join(", ")
                )));
            };
            let fits = spec.shape.len() == dims.len()
                && spec
                    .shape
                    .iter()
                    .zip(dims)
                    .all(|(have, want)| have.num().is_none_or(|have| have == *want));
            if !fits || dims.iter().any(|dim| *dim < 0) {
                return Err(DataError::spec(format!(
                    "input '{name}' is {}, which cannot become {}",
                    shape_text(&spec.shape),
                    dims_text(dims)
                )));
            }
            for (dim, number) in spec.shape.iter_mut().zip(dims) {
                if dim.num().is_none() {
                    symbols.insert(dim.to_string(), *number);
                }
                *dim = Dim::Num(*number);
            }
        }
        for dim in specs
            .iter_mut()
            .flat_map(|spec| &mut spec.shape)
            .filter(|dim| dim.num().is_none())
        {
            if let Some(number) = evaluate(&dim.to_string(), &|symbol| symbols.get(symbol).copied())
            {
                *dim = Dim::Num(number);
            }
        }
        Ok(())
    }

    /// All extents, if none is dynamic.
    pub fn fixed(&self) -> Option<Vec<usize>> {
        self.shape.iter().map(Dim::count).collect()
    }

    /// Whether dims fit these extents, dynamic ones taking any.
    pub(super) fn fits(shape: &[Dim], dims: &[usize]) -> bool {
        shape.len() == dims.len()
            && shape
                .iter()
                .zip(dims)
                .all(|(want, have)| want.num().is_none_or(|want| want == *have as i64))
    }

    pub(super) fn describe(&self) -> String {
        format!("{} {}", self.dtype, shape_text(&self.shape))
    }
}

pub(super) fn shape_text(shape: &[Dim]) -> String {
    dims_text(shape)
}

/// Extents as people write them: `1×3×224×224`.
pub fn dims_text(dims: &[impl std::fmt::Display]) -> String {
    if dims.is_empty() {
        "a scalar".into()
    } else {
        dims.iter()
            .map(|dim| dim.to_string())
            .collect::<Vec<_>>()
            .join("×")
    }
}

/// The value of `2*a + b + 1`, as exporters write extents that depend on others.
pub(super) fn evaluate(text: &str, symbol: &dyn Fn(&str) -> Option<i64>) -> Option<i64> {
    text.split('+').try_fold(0i64, |sum, term| {
        let product = term.split('*').try_fold(1i64, |product, factor| {
            let factor = factor.trim();
            product.checked_mul(factor.parse().ok().or_else(|| symbol(factor))?)
        })?;
        sum.checked_add(product)
    })
}
