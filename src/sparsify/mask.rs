//! The decision as data: one bit per weight, written to JSON and read back.

use std::path::Path;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::local::Masks;
use super::parts::SparsePart;
use crate::linear::encode;
use crate::model::Model;
use crate::plan::{Fit, Tool};

/// Which weights are zero.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
pub struct SparsePlan {
    /// The version of this format.
    pub format: u32,
    /// What tells it from other plans: `sparsify`.
    pub kind: String,
    /// Who made it.
    pub tool: Tool,
    /// SHA-256 of the model's file.
    pub model_sha256: String,
    /// How zeros lie.
    pub pattern: String,
    /// Constant by constant, in the order of the nodes that read them.
    pub masks: Vec<Mask>,
    /// How the weights that stay were fitted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fit: Option<Fit>,
}

/// Which weights of one constant are zero.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
pub struct Mask {
    /// Its name in the file.
    pub value: String,
    /// Its numbers, also where several share a byte.
    pub elements: usize,
    /// How many of them are zero (of quantized ones: are the zero point).
    pub zeros: usize,
    /// A bit per element in the order of the file, 1 where it is zero, the first in the lowest bit of the first byte; base64.
    pub mask: String,
    /// SHA-256 over these bytes.
    pub digest: String,
}

/// A plan that does not fit.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum MaskError {
    #[error("{path}: {problem}")]
    File { path: String, problem: String },
    #[error(
        "the plan was made for another model (sha256 {wanted}, this one has {found}); apply it to the file it was made for"
    )]
    OtherModel { wanted: String, found: String },
    #[error(
        "the plan's mask of '{0}' does not fit: this model has no such weights, or its bits are not what its digest says"
    )]
    Mask(String),
    #[error("the plan's mask of '{value}' does not obey its pattern {pattern}")]
    Pattern { value: String, pattern: String },
}

impl SparsePlan {
    /// Reads a file. Errors: it can not be read, or is no such plan.
    pub fn read(path: &Path) -> Result<Self, MaskError> {
        let problem = |problem: String| MaskError::File {
            path: path.display().to_string(),
            problem,
        };
        let text = std::fs::read_to_string(path).map_err(|error| problem(error.to_string()))?;
        let plan: SparsePlan =
            serde_json::from_str(&text).map_err(|error| problem(error.to_string()))?;
        match plan.is_known() {
            true => Ok(plan),
            false => Err(problem("it is not a plan of single weights".to_owned())),
        }
    }

    /// Whether it is of the kind and the format that are read here.
    pub fn is_known(&self) -> bool {
        self.kind == "sparsify" && self.format == 1
    }

    /// As a file, ending in a newline.
    pub fn to_json(&self) -> String {
        serde_json::to_string_pretty(self).map_or_else(|_| String::new(), |text| text + "\n")
    }

    /// The plan of some masks.
    pub(super) fn new(
        model: &Model,
        parts: &[SparsePart],
        masks: &Masks,
        (pattern, sha256): (String, String),
        fit: Option<Fit>,
    ) -> Self {
        let mut scratch = model.clone();
        let mask = |part: &SparsePart| {
            let stays = masks.get(&part.constant)?;
            let gone = in_file_order(&mut scratch, part, stays)?;
            let bytes = packed(&gone);
            Some(Mask {
                value: part.constant.clone(),
                elements: gone.len(),
                zeros: gone.iter().filter(|gone| **gone).count(),
                digest: digest(&bytes),
                mask: to_base64(&bytes),
            })
        };
        SparsePlan {
            format: 1,
            kind: "sparsify".to_owned(),
            tool: Tool {
                name: env!("CARGO_PKG_NAME").to_owned(),
                version: env!("CARGO_PKG_VERSION").to_owned(),
            },
            model_sha256: sha256,
            pattern,
            masks: parts.iter().filter_map(mask).collect(),
            fit,
        }
    }

    /// SHA-256 over all masks, in short.
    pub fn digest(&self) -> String {
        let digests: String = self.masks.iter().map(|mask| mask.digest.as_str()).collect();
        digest(digests.as_bytes()).chars().take(16).collect()
    }

    /// The masks, in the order of the matrices. Errors: another model, masks that do not fit.
    pub(super) fn masks(
        &self,
        model: &Model,
        parts: &[SparsePart],
        sha256: &str,
    ) -> Result<Masks, MaskError> {
        if self.model_sha256 != sha256 {
            return Err(MaskError::OtherModel {
                wanted: self.model_sha256.clone(),
                found: sha256.to_owned(),
            });
        }
        let mut scratch = model.clone();
        let mut masks = Masks::new();
        for mask in &self.masks {
            let wrong = || MaskError::Mask(mask.value.clone());
            let part = parts
                .iter()
                .find(|part| part.constant == mask.value)
                .ok_or_else(wrong)?;
            let bytes = from_base64(&mask.mask)
                .filter(|bytes| {
                    digest(bytes) == mask.digest && bytes.len() == mask.elements.div_ceil(8)
                })
                .ok_or_else(wrong)?;
            let gone: Vec<bool> = (0..mask.elements)
                .map(|at| bytes[at / 8] >> (at % 8) & 1 == 1)
                .collect();
            let stays = in_matrix_order(&mut scratch, part, &gone).ok_or_else(wrong)?;
            let pattern = self.pattern.parse().unwrap_or_default();
            if !super::SparsityPattern::holds(&pattern, part.shape, &stays) {
                return Err(MaskError::Pattern {
                    value: mask.value.clone(),
                    pattern: self.pattern.clone(),
                });
            }
            masks.insert(mask.value.clone(), stays);
        }
        Ok(masks)
    }
}

/// The numbers of a constant in the order of the file, after matrices of these numbers were put into it.
fn stored(scratch: &mut Model, part: &SparsePart, matrix: &[f64]) -> Option<Vec<f32>> {
    part.view.set_matrix(scratch, matrix)?;
    scratch.constant(part.view.weight.constant)?.to_f32()
}

/// Whether each element of the file goes. Found by writing numbers: whatever lies between file and matrix (a transposition,
/// scales) is passed the way that weights pass it.
fn in_file_order(scratch: &mut Model, part: &SparsePart, stays: &[bool]) -> Option<Vec<bool>> {
    // Packed numbers are counted row by row, as the matrices are.
    if part.view.weight.is_packed() {
        return Some(stays.iter().map(|stays| !stays).collect());
    }
    let with = |number: f64| -> Vec<f64> {
        stays
            .iter()
            .map(|stays| if *stays { number } else { 0.0 })
            .collect()
    };
    let zero = stored(scratch, part, &vec![0.0; stays.len()])?;
    let (high, low) = (
        stored(scratch, part, &with(1e4))?,
        stored(scratch, part, &with(-1e4))?,
    );
    // A zero point may be the largest or the smallest number, never both.
    let same = |at: usize| high[at] == zero[at] && low[at] == zero[at];
    Some((0..zero.len()).map(same).collect())
}

/// The same backwards: whether each weight of the matrices stays.
fn in_matrix_order(scratch: &mut Model, part: &SparsePart, gone: &[bool]) -> Option<Vec<bool>> {
    if part.view.weight.is_packed() {
        let whole = gone.len() == part.shape.elements();
        return whole.then(|| gone.iter().map(|gone| !gone).collect());
    }
    let zero = stored(scratch, part, &vec![0.0; part.shape.elements()])?;
    if zero.len() != gone.len() {
        return None;
    }
    let numbers: Vec<f32> = zero
        .iter()
        .zip(gone)
        .map(|(zero, gone)| match (*gone, *zero > 0.0) {
            (true, _) => *zero,
            (false, true) => zero - 1.0,
            (false, false) => zero + 1.0,
        })
        .collect();
    let tensor = scratch.constant(part.view.weight.constant)?;
    let message = encode(tensor.dtype, tensor.dims, &numbers)?.to_proto(&part.constant);
    *scratch.tensor_proto_mut(part.view.weight.constant)? = message;
    let matrix = part.view.matrix(scratch)?;
    Some(matrix.iter().map(|number| *number != 0.0).collect())
}

fn packed(bits: &[bool]) -> Vec<u8> {
    let byte = |bits: &[bool]| {
        bits.iter()
            .enumerate()
            .fold(0u8, |byte, (at, bit)| byte | u8::from(*bit) << at)
    };
    bits.chunks(8).map(byte).collect()
}

fn digest(bytes: &[u8]) -> String {
    Sha256::digest(bytes)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// RFC 4648, section 4.
fn to_base64(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let number = chunk.iter().enumerate().fold(0u32, |number, (at, byte)| {
            number | u32::from(*byte) << (16 - 8 * at)
        });
        for at in 0..4 {
            let digit = ALPHABET[(number >> (18 - 6 * at) & 63) as usize];
            text.push(if at <= chunk.len() {
                char::from(digit)
            } else {
                '='
            });
        }
    }
    text
}

fn from_base64(text: &str) -> Option<Vec<u8>> {
    let digits = text.trim_end_matches('=').as_bytes();
    let mut bytes = Vec::with_capacity(digits.len() * 3 / 4);
    for chunk in digits.chunks(4) {
        let mut number = 0u32;
        for (at, digit) in chunk.iter().enumerate() {
            let value = ALPHABET.iter().position(|other| other == digit)?;
            number |= (value as u32) << (18 - 6 * at);
        }
        bytes.extend((1..chunk.len()).map(|at| (number >> (24 - 8 * at)) as u8));
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_go_through_text() {
        for length in 0..20u8 {
            let bytes: Vec<u8> = (0..length)
                .map(|at| at.wrapping_mul(37).wrapping_add(200))
                .collect();
            assert_eq!(from_base64(&to_base64(&bytes)), Some(bytes));
        }
        assert_eq!(to_base64(b"Man"), "TWFu");
        assert_eq!(to_base64(b"Ma"), "TWE=");
        assert_eq!(from_base64("T*Fu"), None);
    }
}
