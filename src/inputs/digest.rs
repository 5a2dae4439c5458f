//! A short name for all the numbers that a model was fed.

use sha2::{Digest, Sha256};

use super::{Batches, DataError};

/// SHA-256 over the names, types, shapes and numbers of all runs, in order. Errors: inputs that cannot be read.
pub fn digest(batches: &dyn Batches) -> Result<String, DataError> {
    let mut hash = Sha256::new();
    for run in 0..batches.count() {
        for (name, tensor) in batches.fetch(run)? {
            hash.update(format!("{name}\0{} {:?}\0", tensor.dtype, tensor.dims));
            hash.update(&tensor.bytes);
        }
    }
    Ok(crate::hash::hex(&hash.finalize()))
}

#[cfg(test)]
mod tests {
    use super::super::Tensors;
    use super::*;
    use crate::model::TensorRef;

    #[test]
    fn every_number_and_shape_counts() {
        let of = |dims: &[usize], numbers: &[f32]| {
            let tensor = TensorRef::from_f32(dims.to_vec(), numbers);
            digest(&vec![Tensors::from_iter([("x".to_owned(), tensor)])]).unwrap()
        };
        let one = of(&[2, 1], &[1.0, 2.0]);
        assert_eq!((one.len(), &one), (64, &of(&[2, 1], &[1.0, 2.0])));
        assert!(one != of(&[1, 2], &[1.0, 2.0]) && one != of(&[2, 1], &[1.0, 2.5]));
        assert_ne!(digest(&Vec::<Tensors>::new()).unwrap(), one);
    }
}
