//! From stored numbers to what a model's input wants: scale, mean, standard deviation, element type.

use super::error::Kind;
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
    pub(super) fn check(&self) -> Result<(), Kind> {
        let (mean, std) = (self.mean.len(), self.std.len());
        if mean > 1 && std > 1 && mean != std {
            return Err(Kind::Preprocess(format!("{mean} means but {std} standard deviations")));
        }
        if self.std.iter().any(|std| *std == 0.0 || !std.is_finite()) || !self.mean.iter().chain(&self.scale).all(|x| x.is_finite()) {
            return Err(Kind::Preprocess("scale, mean and standard deviation must be finite, the last not 0".into()));
        }
        Ok(())
    }

    /// Whether it is the input that mean and standard deviation are meant for.
    pub(super) fn concerns(&self, spec: &InputSpec) -> bool {
        let dims: Vec<_> = spec.shape.iter().map(|dim| dim.count()).collect();
        spec.dtype.is_float() && spec.kind == InputKind::Values && (self.channels() <= 1 || channel_axis(&dims, self.channels()).is_some())
    }

    /// Brings an array into the input's element type. `array` names it in errors.
    pub(super) fn apply(&self, array: &str, tensor: TensorRef, spec: &InputSpec) -> Result<TensorRef, Kind> {
        let wrong = |why: &str| Kind::Type {
            array: array.to_owned(),
            found: tensor.dtype.to_string(),
            expected: spec.describe(),
            why: why.to_owned(),
        };
        if !spec.dtype.is_float() {
            return to_whole(&tensor, spec.dtype).map_err(wrong);
        }
        let values = spec.kind == InputKind::Values;
        let scales = values && (tensor.dtype.is_integer() || !self.is_default()) && tensor.dtype != Dtype::Bool;
        if !scales && tensor.dtype == spec.dtype {
            return Ok(tensor);
        }
        let mut numbers = tensor.to_f64().ok_or_else(|| wrong("these are no numbers"))?;
        if scales {
            let scale = self.scale.unwrap_or(if tensor.dtype == Dtype::Uint8 { 1.0 / 255.0 } else { 1.0 });
            self.normalise(&mut numbers, &tensor.dims, scale).ok_or_else(|| {
                let dims = super::spec::dims_text(&tensor.dims);
                Kind::Preprocess(format!("array '{array}' ({dims}) has no axis of {} channels", self.channels()))
            })?;
        }
        let bytes = from_real(&numbers, spec.dtype).ok_or_else(|| wrong("no such conversion"))?;
        Ok(TensorRef { dtype: spec.dtype, dims: tensor.dims, bytes: bytes.into() })
    }

    fn normalise(&self, numbers: &mut [f64], dims: &[usize], scale: f64) -> Option<()> {
        if self.channels() <= 1 {
            let (mean, std) = (self.mean.first().copied().unwrap_or(0.0), self.std.first().copied().unwrap_or(1.0));
            numbers.iter_mut().for_each(|x| *x = (*x * scale - mean) / std);
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
            chunk.iter_mut().for_each(|x| *x = (*x * scale - mean) / std);
        }
        Some(())
    }
}

/// The axis of that many channels: the second (batch, channels, …), else the last, else the first.
fn channel_axis(dims: &[Option<usize>], channels: usize) -> Option<usize> {
    let last = dims.len().checked_sub(1)?;
    [1, last, 0].into_iter().find(|axis| dims.get(*axis).is_some_and(|dim| *dim == Some(channels)))
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
    Ok(TensorRef { dtype, dims: tensor.dims.clone(), bytes: bytes.into() })
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
        Dtype::Bool => Some(numbers.iter().map(|number| u8::from(*number != 0)).collect()),
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
        Dtype::Float => numbers.iter().flat_map(|x| (*x as f32).to_le_bytes()).collect(),
        Dtype::Double => numbers.iter().flat_map(|x| x.to_le_bytes()).collect(),
        Dtype::Float16 => numbers.iter().flat_map(|x| half::f16::from_f64(*x).to_le_bytes()).collect(),
        Dtype::Bfloat16 => numbers.iter().flat_map(|x| half::bf16::from_f64(*x).to_le_bytes()).collect(),
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
        TensorRef { dtype: Dtype::Uint8, dims, bytes: bytes.to_vec().into() }
    }

    #[test]
    fn bytes_become_fractions_and_floats_stay() {
        let plain = Preprocess::default();
        let scaled = plain.apply("x", bytes(vec![1, 2], &[0, 255]), &spec(Dtype::Float, &[1, 2])).unwrap();
        assert_eq!(scaled.to_f32().unwrap(), [0.0, 1.0]);
        let ready = TensorRef::from_f32(vec![1, 2], &[3.0, 4.0]);
        assert_eq!(plain.apply("x", ready.clone(), &spec(Dtype::Float, &[1, 2])).unwrap(), ready);
        let raw = bytes(vec![1, 2], &[0, 255]);
        assert_eq!(plain.apply("x", raw.clone(), &spec(Dtype::Uint8, &[1, 2])).unwrap(), raw);
    }

    #[test]
    fn channels_are_found_first_or_last() {
        let given = Preprocess { scale: Some(1.0), mean: vec![0.0, 10.0, 20.0], std: vec![1.0, 2.0, 4.0] };
        let first = given.apply("x", bytes(vec![1, 3, 1, 2], &[1, 2, 12, 14, 24, 28]), &spec(Dtype::Float, &[1, 3, 1, 2])).unwrap();
        assert_eq!(first.to_f32().unwrap(), [1.0, 2.0, 1.0, 2.0, 1.0, 2.0]);
        let last = given.apply("x", bytes(vec![1, 2, 1, 3], &[1, 12, 24, 2, 14, 28]), &spec(Dtype::Float16, &[1, 2, 1, 3])).unwrap();
        assert_eq!(last.to_f32().unwrap(), [1.0, 1.0, 1.0, 2.0, 2.0, 2.0]);
        assert!(given.apply("x", bytes(vec![1, 2], &[0, 1]), &spec(Dtype::Float, &[1, 2])).is_err());
    }

    #[test]
    fn whole_inputs_take_whole_numbers_only() {
        let want = spec(Dtype::Int32, &[2]);
        let plain = Preprocess::default();
        assert_eq!(plain.apply("x", TensorRef::from_i64(vec![2], &[5, -1]), &want).unwrap().to_i64().unwrap(), [5, -1]);
        assert!(plain.apply("x", TensorRef::from_f32(vec![2], &[0.5, 1.0]), &want).is_err());
        assert!(plain.apply("x", TensorRef::from_i64(vec![2], &[1 << 40, 1]), &want).is_err());
    }
}
