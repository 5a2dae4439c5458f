//! How the inputs and outputs of a model that was cut relate to those of the model it was cut from.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use super::TensorRef;

/// The slices of graph inputs and outputs that cuts left, by name and axis. A runtime feeds a model with these slices of
/// what the original is fed, and with the new numbers of ids; outputs are compared on them. Empty for a model that was not cut, or not at its ends.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Ends {
    axes: BTreeMap<String, BTreeMap<usize, Kept>>,
    /// By input, for each number that the original takes, that which it has now.
    numbers: BTreeMap<String, Arc<[i64]>>,
}

/// What is left of one axis.
#[derive(Clone, Debug, PartialEq)]
struct Kept {
    /// Slices of the original.
    whole: usize,
    /// Those that stay, ascending.
    indices: Vec<u32>,
}

impl Ends {
    /// Whether inputs and outputs are those of the original.
    pub fn is_empty(&self) -> bool {
        self.axes.is_empty() && self.numbers.is_empty()
    }

    /// Whether something of an input or output is gone.
    pub fn changes(&self, name: &str) -> bool {
        self.axes.contains_key(name) || self.numbers.contains_key(name)
    }

    /// Whether the ids that some input holds are counted anew.
    pub fn renumbers(&self) -> bool {
        !self.numbers.is_empty()
    }

    /// Notes that of `whole` ids that an input may hold these stay, ascending: they are counted anew, from 0.
    pub fn renumber(&mut self, name: &str, whole: usize, kept: &[u32]) {
        let mut numbers = vec![0; whole];
        for (new, old) in kept.iter().enumerate() {
            if let Some(number) = numbers.get_mut(*old as usize) {
                *number = new as i64;
            }
        }
        self.numbers.insert(name.to_owned(), numbers.into());
    }

    /// Notes that of `whole` slices of an axis these stay. After an earlier cut, `indices` count what that one left.
    pub fn keep(&mut self, name: &str, axis: usize, whole: usize, indices: Vec<u32>) {
        let axes = self.axes.entry(name.to_owned()).or_default();
        match axes.get_mut(&axis) {
            Some(kept) => {
                kept.indices = indices
                    .iter()
                    .filter_map(|index| kept.indices.get(*index as usize).copied())
                    .collect()
            }
            None => {
                axes.insert(axis, Kept { whole, indices });
            }
        }
    }

    /// The slices of the original's tensor that stay, ids counted anew. A tensor that is no longer whole is left as it is.
    pub fn of<'a>(&self, name: &str, tensor: &'a TensorRef) -> Cow<'a, TensorRef> {
        if let Some(numbers) = self.numbers.get(name) {
            return Cow::Owned(tensor.renumbered(numbers));
        }
        self.picked(name, tensor, |kept| kept.indices.clone())
    }

    /// As many slices, each the next of one that stays: what a cut in the wrong places would leave.
    pub fn shifted<'a>(&self, name: &str, tensor: &'a TensorRef) -> Cow<'a, TensorRef> {
        self.picked(name, tensor, |kept| {
            kept.indices
                .iter()
                .map(|index| (index + 1) % kept.whole as u32)
                .collect()
        })
    }

    fn picked<'a>(
        &self,
        name: &str,
        tensor: &'a TensorRef,
        pick: impl Fn(&Kept) -> Vec<u32>,
    ) -> Cow<'a, TensorRef> {
        let Some(axes) = self.axes.get(name) else {
            return Cow::Borrowed(tensor);
        };
        let whole = |axis: usize, dim: usize| axes.get(&axis).filter(|kept| kept.whole == dim);
        let picks: Vec<Option<Vec<u32>>> = tensor
            .dims
            .iter()
            .enumerate()
            .map(|(axis, dim)| whole(axis, *dim).map(&pick))
            .collect();
        if picks.iter().all(Option::is_none) {
            Cow::Borrowed(tensor)
        } else {
            Cow::Owned(tensor.select(&picks))
        }
    }
}

impl TensorRef {
    /// The same with each whole number replaced by the entry of `numbers` that it counts, from the end where it is below zero;
    /// what counts none, and a tensor of other types, stays as it is.
    pub(crate) fn renumbered(&self, numbers: &[i64]) -> TensorRef {
        let new = |old: i64| {
            let place = if old < 0 {
                old + numbers.len() as i64
            } else {
                old
            };
            let place = usize::try_from(place).ok();
            place
                .and_then(|place| numbers.get(place).copied())
                .unwrap_or(old)
        };
        let width = self.dtype.bits() / 8;
        let Some(old) = self
            .to_i64()
            .filter(|_| self.dtype.is_integer() && width > 0)
        else {
            return self.clone();
        };
        let bytes = old
            .into_iter()
            .flat_map(|old| new(old).to_le_bytes().into_iter().take(width));
        TensorRef {
            dtype: self.dtype,
            dims: self.dims.clone(),
            bytes: bytes.collect::<Vec<_>>().into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_counted_anew_whatever_their_type() {
        let mut ends = Ends::default();
        ends.renumber("ids", 6, &[1, 3, 5]);
        let long = TensorRef::from_i64(vec![2, 2], &[1, 5, -1, 3]);
        assert_eq!(
            ends.of("ids", &long).to_i64().unwrap(),
            [0, 2, 2, 1],
            "what is below zero counts from the end"
        );
        let bytes: Vec<u8> = [3i32, 1].iter().flat_map(|id| id.to_le_bytes()).collect();
        let short = TensorRef {
            dtype: crate::proto::Dtype::Int32,
            dims: vec![2],
            bytes: bytes.into(),
        };
        let new = ends.of("ids", &short).into_owned();
        assert_eq!(
            (new.dtype, new.to_i64().unwrap()),
            (short.dtype, vec![1, 0])
        );
        assert!(ends.changes("ids") && ends.renumbers() && !ends.changes("mask"));
    }

    #[test]
    fn cuts_of_cuts_count_from_the_first_model() {
        let tensor = TensorRef::from_i64(vec![4, 2], &(0..8).collect::<Vec<_>>());
        let mut ends = Ends::default();
        ends.keep("x", 0, 4, vec![0, 2, 3]);
        ends.keep("x", 0, 3, vec![1, 2]);
        let kept = ends.of("x", &tensor).into_owned();
        assert_eq!(
            (kept.dims.as_slice(), kept.to_i64().unwrap()),
            ([2, 2].as_slice(), vec![4, 5, 6, 7])
        );
        assert_eq!(
            *ends.of("x", &kept),
            kept,
            "what is cut already is not cut again"
        );
        assert_eq!(ends.shifted("x", &tensor).to_i64().unwrap(), [6, 7, 0, 1]);
        assert_eq!(*ends.of("y", &tensor), tensor);
    }
}
