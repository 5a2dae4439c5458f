//! From stored numbers to what a model's input wants: scale, mean, standard deviation, element type.

use super::error::DataErrorKind;
use super::{InputKind, InputSpec};
use crate::model::TensorRef;
use crate::proto::Dtype;

/// `(x · scale − mean) / std` on the channel axis, for inputs that are real numbers.
///
/// Whole numbers are scaled always (uint8 by 1/255 unless told otherwise), real numbers only where something was given
/// explicitly, for they are taken to be prepared already.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Preprocess {
    /// Factor; `None`: 1/255 for uint8, else 1.
    pub scale: Option<f64>,
    /// One number, or one per channel; empty: 0.
    pub mean: Vec<f64>,
    /// One number, or one per channel; empty: 1.
    pub std: Vec<f64>,
}

impl Preprocess {
    fn is_default(&self) -> bool {
        *self == Preprocess::default()
    }

    fn channels(&self) -> usize {
        self.mean.len().max(self.std.len())
    }

    /// Whether the numbers given make sense at all.
    pub(super) fn check(&self) -> Result<(), DataErrorKind> {
        let (mean, std) = (self.mean.len(), self.std.len());
        if mean > 1 && std > 1 && mean != std {
            return Err(DataErrorKind::Preprocess(format!(
                "{mean} means but {std} standard deviations"
            )));
        }
        if self.std.iter().any(|std| *std == 0.0 || !std.is_finite())
            || !self.mean.iter().chain(&self.scale).all(|x| x.is_finite())
        {
            return Err(DataErrorKind::Preprocess(
                "scale, mean and standard deviation must be finite, the last not 0".into(),
            ));
        }
        Ok(())
    }

    /// Whether it is the input that mean and standard deviation are meant for.
    pub(super) fn concerns(&self, spec: &InputSpec) -> bool {
        let dims: Vec<_> = spec.shape.iter().map(|dim| dim.count()).collect();
        spec.dtype.is_float()
            && spec.kind == InputKind::Values
            && (self.channels() <= 1 || channel_axis(&dims, self.channels()).is_some())
    }

    /// Brings an array into the input's element type. `array` names it in errors.
    pub(super) fn apply(
        &self,
        array: &str,
        tensor: TensorRef,
        spec: &InputSpec,
    ) -> Result<TensorRef, DataErrorKind> {
        let wrong = |why: &str| DataErrorKind::Type {
            array: array.to_owned(),
            found: tensor.dtype.to_string(),
            expected: spec.describe(),
            why: why.to_owned(),
        };
        if !spec.dtype.is_float() {
            return to_whole(&tensor, spec.dtype).map_err(wrong);
        }
        let values = spec.kind == InputKind::Values;
        let scales = values
            && (tensor.dtype.is_integer() || !self.is_default())
            && tensor.dtype != Dtype::Bool;
        if !scales && tensor.dtype == spec.dtype {
            return Ok(tensor);
        }
        let mut numbers = tensor
            .to_f64()
            .ok_or_else(|| wrong("these are no numbers"))?;
        if scales {
            let scale = self.factor(tensor.dtype);
            self.normalise(&mut numbers, &tensor.dims, scale)
                .ok_or_else(|| {
                    let dims = super::spec::dims_text(&tensor.dims);
                    DataErrorKind::Preprocess(format!(
                        "array '{array}' ({dims}) has no axis of {} channels",
                        self.channels()
                    ))
                })?;
        }
        let bytes = from_real(&numbers, spec.dtype).ok_or_else(|| wrong("no such conversion"))?;
        Ok(TensorRef {
            dtype: spec.dtype,
            dims: tensor.dims,
            bytes: bytes.into(),
        })
    }

    /// The factor for numbers of this type.
    fn factor(&self, dtype: Dtype) -> f64 {
        self.scale.unwrap_or(if dtype == Dtype::Uint8 {
            1.0 / 255.0
        } else {
            1.0
        })
    }

    /// What is done to numbers that are stored in a type, in a clause; empty where nothing is.
    pub(super) fn describe(&self, stored: Dtype) -> String {
        let list = |name: &str, numbers: &[f64]| {
            format!(
                "{name} {}",
                numbers
                    .iter()
                    .map(f64::to_string)
                    .collect::<Vec<_>>()
                    .join(", ")
            )
        };
        let scale = if stored.is_integer() || !self.is_default() {
            self.factor(stored)
        } else {
            1.0
        };
        let mut parts = Vec::new();
        if (scale * 255.0 - 1.0).abs() < 1e-3 {
            parts.push("× 1/255".to_owned());
        } else if scale != 1.0 {
            parts.push(format!("× {scale}"));
        }
        parts.extend((!self.mean.is_empty()).then(|| list("mean", &self.mean)));
        parts.extend((!self.std.is_empty()).then(|| list("std", &self.std)));
        parts.join(", ")
    }

    /// Why means and standard deviations do not seem to be of numbers like these, prepared from numbers of a stored type.
    pub(super) fn doubt(&self, stored: Dtype, prepared: &TensorRef) -> Option<String> {
        if self.mean.is_empty() && self.std.is_empty() {
            return None;
        }
        let numbers = prepared.to_f64()?;
        let known: Vec<_> = prepared.dims.iter().copied().map(Some).collect();
        let channels = self.channels().max(1);
        let axis = if channels > 1 {
            channel_axis(&known, channels)?
        } else {
            0
        };
        let inner = prepared
            .dims
            .get(axis + 1..)?
            .iter()
            .product::<usize>()
            .max(1);
        (0..channels).find_map(|channel| {
            let chunks = numbers
                .chunks(inner)
                .enumerate()
                .filter(|(row, _)| channels == 1 || row % channels == channel);
            let ends = ends(chunks.flat_map(|(_, chunk)| chunk.iter().copied()))?;
            self.doubt_of_channel(stored, channel, ends)
        })
    }

    /// The same of one channel, whose prepared numbers lie between two.
    fn doubt_of_channel(
        &self,
        stored: Dtype,
        channel: usize,
        (low, high): (f64, f64),
    ) -> Option<String> {
        /// Prepared numbers are small: beyond this, they were divided by what is not their deviation.
        const LARGE: f64 = 30.0;
        let number = |list: &[f64], default: f64| {
            list.get(channel)
                .or(list.first())
                .copied()
                .unwrap_or(default)
        };
        let (mean, std) = (number(&self.mean, 0.0), number(&self.std, 1.0));
        // Rounded, so that nothing is said to begin at -0.000.
        let [first, last] =
            [low, high].map(|number| ((number * std + mean) * 1e3).round() / 1e3 + 0.0);
        // How far the numbers lie to one side of the mean.
        let off = (first.min(last) - mean).max(mean - first.max(last));
        let numbers = format!(
            "numbers from {first:.3} to {last:.3} (after a factor of {})",
            self.factor(stored)
        );
        if off > 2.0 * (last - first).abs().max(1.0) {
            return Some(format!(
                "the mean {mean} does not lie among {numbers}: is it meant for 0 to 255? then scale by 1, or divide it by 255"
            ));
        }
        (low.abs().max(high.abs()) > LARGE).then(|| {
            format!(
                "mean {mean} and deviation {std} do not seem to be of {numbers}: if they are of 0 to 1, scale by 1/255"
            )
        })
    }

    fn normalise(&self, numbers: &mut [f64], dims: &[usize], scale: f64) -> Option<()> {
        if self.channels() <= 1 {
            let (mean, std) = (
                self.mean.first().copied().unwrap_or(0.0),
                self.std.first().copied().unwrap_or(1.0),
            );
            numbers
                .iter_mut()
                .for_each(|x| *x = (*x * scale - mean) / std);
            return Some(());
        }
        let known: Vec<_> = dims.iter().copied().map(Some).collect();
        let axis = channel_axis(&known, self.channels())?;
        let inner: usize = dims[axis + 1..].iter().product();
        let at = |list: &[f64], channel: usize, default| match list {
            [] => default,
            [one] => *one,
            many => many.get(channel).copied().unwrap_or(default),
        };
        for (row, chunk) in numbers.chunks_mut(inner.max(1)).enumerate() {
            let channel = row % dims[axis];
            let (mean, std) = (at(&self.mean, channel, 0.0), at(&self.std, channel, 1.0));
            chunk
                .iter_mut()
                .for_each(|x| *x = (*x * scale - mean) / std);
        }
        Some(())
    }
}

/// The smallest and the largest of the finite ones of some numbers; `None` where there are none.
fn ends(numbers: impl Iterator<Item = f64>) -> Option<(f64, f64)> {
    let finite = numbers.filter(|number| number.is_finite());
    let (low, high) = finite.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), number| {
        (low.min(number), high.max(number))
    });
    (low <= high).then_some((low, high))
}

/// The axis of that many channels: the second (batch, channels, …), else the last, else the first.
fn channel_axis(dims: &[Option<usize>], channels: usize) -> Option<usize> {
    let last = dims.len().checked_sub(1)?;
    [1, last, 0]
        .into_iter()
        .find(|axis| dims.get(*axis).is_some_and(|dim| *dim == Some(channels)))
}

/// What among the numbers of a tensor is none, and at which byte. Masks are added to scores, and may hold infinities.
pub(super) fn not_finite(tensor: &TensorRef, kind: InputKind) -> Option<(&'static str, usize)> {
    let size = tensor.dtype.bits() / 8;
    let wrong = |number: f64| match number {
        _ if number.is_nan() => Some("NaN"),
        _ if number.is_infinite() && kind != InputKind::Mask => Some("an infinity"),
        _ => None,
    };
    match tensor.dtype {
        Dtype::Float => {
            let numbers = tensor.bytes.chunks_exact(4).map(|bytes| {
                bytes
                    .first_chunk()
                    .map_or(0.0, |bytes| f32::from_le_bytes(*bytes))
            });
            numbers
                .enumerate()
                .filter(|(_, number)| !number.is_finite())
                .find_map(|(at, number)| Some((wrong(f64::from(number))?, at * size)))
        }
        dtype if dtype.is_float() => tensor
            .to_f64()?
            .into_iter()
            .enumerate()
            .find_map(|(at, number)| Some((wrong(number)?, at * size))),
        _ => None,
    }
}

fn to_whole(tensor: &TensorRef, dtype: Dtype) -> Result<TensorRef, &'static str> {
    if tensor.dtype == dtype {
        return Ok(tensor.clone());
    }
    if !dtype.is_integer() && dtype != Dtype::Bool {
        return Err("no such conversion");
    }
    let numbers = match tensor.to_i64() {
        Some(numbers) => numbers,
        None => {
            let real = tensor.to_f64().ok_or("these are no numbers")?;
            if real.iter().any(|x| x.fract() != 0.0 || x.abs() > 9e15) {
                return Err("it has fractions");
            }
            real.into_iter().map(|x| x as i64).collect()
        }
    };
    let bytes = from_whole(&numbers, dtype).ok_or("numbers are out of range")?;
    Ok(TensorRef {
        dtype,
        dims: tensor.dims.clone(),
        bytes: bytes.into(),
    })
}

/// Little-endian bytes of whole numbers in an integer or boolean type; `None` when one does not fit.
pub(super) fn from_whole(numbers: &[i64], dtype: Dtype) -> Option<Vec<u8>> {
    macro_rules! write {
        ($ty:ty) => {{
            let mut bytes = Vec::with_capacity(numbers.len() * size_of::<$ty>());
            for number in numbers {
                bytes.extend(<$ty>::try_from(*number).ok()?.to_le_bytes());
            }
            Some(bytes)
        }};
    }
    match dtype {
        Dtype::Bool => Some(
            numbers
                .iter()
                .map(|number| u8::from(*number != 0))
                .collect(),
        ),
        Dtype::Int8 => write!(i8),
        Dtype::Uint8 => write!(u8),
        Dtype::Int16 => write!(i16),
        Dtype::Uint16 => write!(u16),
        Dtype::Int32 => write!(i32),
        Dtype::Uint32 => write!(u32),
        Dtype::Int64 => write!(i64),
        Dtype::Uint64 => write!(u64),
        _ => None,
    }
}

/// Little-endian bytes of real numbers in a floating type.
pub(super) fn from_real(numbers: &[f64], dtype: Dtype) -> Option<Vec<u8>> {
    Some(match dtype {
        Dtype::Float => numbers
            .iter()
            .flat_map(|x| (*x as f32).to_le_bytes())
            .collect(),
        Dtype::Double => numbers.iter().flat_map(|x| x.to_le_bytes()).collect(),
        Dtype::Float16 => numbers
            .iter()
            .flat_map(|x| half::f16::from_f64(*x).to_le_bytes())
            .collect(),
        Dtype::Bfloat16 => numbers
            .iter()
            .flat_map(|x| half::bf16::from_f64(*x).to_le_bytes())
            .collect(),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::facts::Dim;

    fn spec(dtype: Dtype, dims: &[i64]) -> InputSpec {
        InputSpec::new("x", dtype, dims.iter().map(|dim| Dim::Num(*dim)).collect())
    }

    fn bytes(dims: Vec<usize>, bytes: &[u8]) -> TensorRef {
        TensorRef {
            dtype: Dtype::Uint8,
            dims,
            bytes: bytes.to_vec().into(),
        }
    }

    #[test]
    fn bytes_become_fractions_and_floats_stay() {
        let plain = Preprocess::default();
        let scaled = plain
            .apply(
                "x",
                bytes(vec![1, 2], &[0, 255]),
                &spec(Dtype::Float, &[1, 2]),
            )
            .unwrap();
        assert_eq!(scaled.to_f32().unwrap(), [0.0, 1.0]);
        let ready = TensorRef::from_f32(vec![1, 2], &[3.0, 4.0]);
        assert_eq!(
            plain
                .apply("x", ready.clone(), &spec(Dtype::Float, &[1, 2]))
                .unwrap(),
            ready
        );
        let raw = bytes(vec![1, 2], &[0, 255]);
        assert_eq!(
            plain
                .apply("x", raw.clone(), &spec(Dtype::Uint8, &[1, 2]))
                .unwrap(),
            raw
        );
    }

    #[test]
    fn channels_are_found_first_or_last() {
        let given = Preprocess {
            scale: Some(1.0),
            mean: vec![0.0, 10.0, 20.0],
            std: vec![1.0, 2.0, 4.0],
        };
        let first = given
            .apply(
                "x",
                bytes(vec![1, 3, 1, 2], &[1, 2, 12, 14, 24, 28]),
                &spec(Dtype::Float, &[1, 3, 1, 2]),
            )
            .unwrap();
        assert_eq!(first.to_f32().unwrap(), [1.0, 2.0, 1.0, 2.0, 1.0, 2.0]);
        let last = given
            .apply(
                "x",
                bytes(vec![1, 2, 1, 3], &[1, 12, 24, 2, 14, 28]),
                &spec(Dtype::Float16, &[1, 2, 1, 3]),
            )
            .unwrap();
        assert_eq!(last.to_f32().unwrap(), [1.0, 1.0, 1.0, 2.0, 2.0, 2.0]);
        assert!(
            given
                .apply(
                    "x",
                    bytes(vec![1, 2], &[0, 1]),
                    &spec(Dtype::Float, &[1, 2])
                )
                .is_err()
        );
    }

    #[test]
    fn constants_of_other_numbers_are_doubted() {
        let want = spec(Dtype::Float, &[1, 3, 1, 2]);
        let doubt = |scale: Option<f64>, mean: &[f64], std: &[f64]| {
            let given = Preprocess {
                scale,
                mean: mean.to_vec(),
                std: std.to_vec(),
            };
            let prepared = given
                .apply(
                    "x",
                    bytes(vec![1, 3, 1, 2], &[0, 255, 10, 200, 0, 90]),
                    &want,
                )
                .unwrap();
            given.doubt(Dtype::Uint8, &prepared)
        };
        let (mean, std) = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]);
        let of_bytes = [123.675, 116.28, 103.53];
        assert_eq!(doubt(None, &mean, &std), None);
        assert_eq!(doubt(Some(1.0), &of_bytes, &[58.395, 57.12, 57.375]), None);
        assert_eq!(doubt(None, &[0.5], &[0.5]), None);
        assert!(
            doubt(None, &of_bytes, &[58.395, 57.12, 57.375])
                .unwrap()
                .contains("the mean 123.675 does not lie among")
        );
        assert!(doubt(None, &of_bytes, &[]).is_some());
        assert!(
            doubt(Some(1.0), &mean, &std)
                .unwrap()
                .contains("scale by 1/255")
        );
        assert_eq!(
            Preprocess {
                mean: mean.to_vec(),
                ..Default::default()
            }
            .describe(Dtype::Uint8),
            "× 1/255, mean 0.485, 0.456, 0.406"
        );
        assert_eq!(Preprocess::default().describe(Dtype::Float), "");
    }

    #[test]
    fn whole_inputs_take_whole_numbers_only() {
        let want = spec(Dtype::Int32, &[2]);
        let plain = Preprocess::default();
        assert_eq!(
            plain
                .apply("x", TensorRef::from_i64(vec![2], &[5, -1]), &want)
                .unwrap()
                .to_i64()
                .unwrap(),
            [5, -1]
        );
        assert!(
            plain
                .apply("x", TensorRef::from_f32(vec![2], &[0.5, 1.0]), &want)
                .is_err()
        );
        assert!(
            plain
                .apply("x", TensorRef::from_i64(vec![2], &[1 << 40, 1]), &want)
                .is_err()
        );
    }
}
