//! Constants written as text: a type, and numbers or a rule to draw them.

use rand::Rng;

use super::error::TextError;
use super::typed;
use crate::model::TensorRef;
use crate::proto::{Dtype, TensorProto};
use crate::rng::rng;

/// Reads `NAME TYPE[DIMS]`, and behind `=` its numbers.
pub(super) fn constant(text: &str) -> Result<TensorProto, TextError> {
    let (head, fill) = text.split_once('=').unwrap_or((text, ""));
    let (name, kind) = head
        .trim()
        .split_once(' ')
        .ok_or(TextError::Missing("type"))?;
    let (dtype, dims) = typed(kind)?;
    let dims: Vec<usize> = dims
        .iter()
        .map(|dim| dim.parse().map_err(|_| TextError::Dims))
        .collect::<Result<_, _>>()?;
    let numbers = numbers(name, dtype, dims.iter().product(), fill.trim())?;
    Ok(tensor(dtype, dims, &numbers).to_proto(name))
}

/// Numbers of a constant: as written, or drawn by its name.
fn numbers(name: &str, dtype: Dtype, count: usize, fill: &str) -> Result<Vec<f64>, TextError> {
    let mut random = rng(0, name);
    Ok(match fill {
        "" if dtype.is_float() => (0..count).map(|_| random.random_range(-1.0..1.0)).collect(),
        "" => (0..count)
            .map(|_| f64::from(random.random_range(0..2u8)))
            .collect(),
        "positive" => (0..count).map(|_| random.random_range(0.5..1.5)).collect(),
        "full" if !dtype.is_float() && dtype.bits() <= 8 => {
            let (bits, signed) = (
                dtype.bits() as u32,
                matches!(dtype, Dtype::Int8 | Dtype::Int4),
            );
            let lowest = if signed { -(1i64 << (bits - 1)) } else { 0 };
            (0..count)
                .map(|_| random.random_range(lowest..lowest + (1 << bits)) as f64)
                .collect()
        }
        list => {
            let numbers: Vec<f64> = list
                .split(',')
                .map(|x| {
                    x.trim()
                        .parse()
                        .map_err(|_| TextError::NoNumber(x.to_owned()))
                })
                .collect::<Result<_, _>>()?;
            match numbers.as_slice() {
                [one] => vec![*one; count],
                many if many.len() == count => numbers,
                many => {
                    return Err(TextError::Count {
                        numbers: many.len(),
                        elements: count,
                    });
                }
            }
        }
    })
}

/// Numbers as a tensor of a type.
fn tensor(dtype: Dtype, dims: Vec<usize>, numbers: &[f64]) -> TensorRef {
    let mut bytes = Vec::new();
    if dtype.bits() == 4 {
        // The first of two numbers is in the lower half of the byte.
        let nibble = |x: Option<&f64>| x.map_or(0, |x| *x as i64 as u8 & 15);
        bytes.extend(
            numbers
                .chunks(2)
                .map(|pair| nibble(pair.first()) | nibble(pair.get(1)) << 4),
        );
        return TensorRef {
            dtype,
            dims,
            bytes: bytes.into(),
        };
    }
    for x in numbers.iter().copied() {
        match dtype {
            Dtype::Float => bytes.extend((x as f32).to_le_bytes()),
            Dtype::Double => bytes.extend(x.to_le_bytes()),
            Dtype::Float16 => bytes.extend(half::f16::from_f64(x).to_le_bytes()),
            Dtype::Bfloat16 => bytes.extend(half::bf16::from_f64(x).to_le_bytes()),
            Dtype::Int64 => bytes.extend((x as i64).to_le_bytes()),
            Dtype::Int32 => bytes.extend((x as i32).to_le_bytes()),
            Dtype::Int16 => bytes.extend((x as i16).to_le_bytes()),
            Dtype::Uint16 => bytes.extend((x as u16).to_le_bytes()),
            Dtype::Int8 => bytes.extend((x as i8).to_le_bytes()),
            _ => bytes.push(x as u8),
        }
    }
    TensorRef {
        dtype,
        dims,
        bytes: bytes.into(),
    }
}
