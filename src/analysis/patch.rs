//! Constants with some of their elements replaced.

use crate::facts::{Contents, Dim, Element, Fact};
use crate::model::TensorRef;
use crate::proto::Dtype;

/// The fact with some of its contents replaced.
pub(super) fn patched(fact: &Fact, elements: &[Option<Dim>]) -> Fact {
    let old = fact
        .contents
        .as_ref()
        .map(|contents| contents.0.to_vec())
        .unwrap_or_default();
    let element = |(at, wanted): (usize, &Option<Dim>)| match wanted {
        Some(dim) => Element::Int(dim.clone()),
        None => old.get(at).cloned().unwrap_or(Element::Unknown),
    };
    let contents = Contents::new(elements.iter().enumerate().map(element).collect());
    let shape = match &fact.shape {
        Some(shape) if shape.len() == 1 => Some(vec![Dim::from(elements.len())]),
        other => other.clone(),
    };
    Fact {
        dtype: fact.dtype,
        shape,
        contents,
    }
}

/// A constant with the wanted elements, and what a value is known to hold elsewhere, if all that is plain numbers.
pub(super) fn written_down(fact: &Fact, wanted: &[Option<Dim>]) -> Option<TensorRef> {
    let stated: Option<Vec<i64>> = wanted.iter().map(|wanted| wanted.as_ref()?.num()).collect();
    let held = stated.or_else(|| fact.contents.as_ref()?.numbers())?;
    if held.len() != wanted.len() || !matches!(fact.dtype, Some(Dtype::Int64 | Dtype::Int32)) {
        return None;
    }
    let dims = fact
        .shape
        .as_ref()?
        .iter()
        .map(Dim::count)
        .collect::<Option<Vec<_>>>()?;
    let tensor = TensorRef::from_i64(dims, &held);
    let (tensor, _) = patch_tensor(&tensor, fact, wanted, false)?;
    let numbers = tensor.to_i64()?;
    Some(match fact.dtype {
        Some(Dtype::Int32) => {
            let bytes: Vec<u8> = numbers
                .iter()
                .flat_map(|number| (*number as i32).to_le_bytes())
                .collect();
            TensorRef {
                dtype: Dtype::Int32,
                dims: tensor.dims,
                bytes: bytes.into(),
            }
        }
        _ => tensor,
    })
}

/// A constant of whole numbers with some elements replaced, or replaced as a whole.
pub(super) fn patch_tensor(
    tensor: &TensorRef,
    fact: &Fact,
    wanted: &[Option<Dim>],
    whole: bool,
) -> Option<(TensorRef, Fact)> {
    let mut elements = tensor.to_i64()?;
    let mut dims = tensor.dims.clone();
    if elements.len() != wanted.len() {
        if !whole || dims.len() != 1 {
            return None;
        }
        dims = vec![wanted.len()];
        elements.resize(wanted.len(), 0);
    }
    for (element, wanted) in elements.iter_mut().zip(wanted) {
        if let Some(wanted) = wanted {
            *element = wanted.num()?;
        }
    }
    let bytes: Vec<u8> = match tensor.dtype {
        Dtype::Int64 => elements
            .iter()
            .flat_map(|element| element.to_le_bytes())
            .collect(),
        Dtype::Int32 => elements
            .iter()
            .flat_map(|element| (*element as i32).to_le_bytes())
            .collect(),
        _ => return None,
    };
    let patched_tensor = TensorRef {
        dtype: tensor.dtype,
        dims,
        bytes: bytes.into(),
    };
    Some((patched_tensor, patched(fact, wanted)))
}

/// A float tensor like another, with new elements.
pub(super) fn float_tensor(
    like: &TensorRef,
    elements: impl Iterator<Item = f64>,
) -> Option<TensorRef> {
    let bytes: Vec<u8> = match like.dtype {
        Dtype::Float => elements
            .flat_map(|element| (element as f32).to_le_bytes())
            .collect(),
        Dtype::Double => elements.flat_map(f64::to_le_bytes).collect(),
        Dtype::Float16 => elements
            .flat_map(|element| half::f16::from_f64(element).to_le_bytes())
            .collect(),
        Dtype::Bfloat16 => elements
            .flat_map(|element| half::bf16::from_f64(element).to_le_bytes())
            .collect(),
        _ => return None,
    };
    Some(TensorRef {
        dtype: like.dtype,
        dims: like.dims.clone(),
        bytes: bytes.into(),
    })
}
