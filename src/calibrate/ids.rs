//! Inputs of which some ids of tokens go: which ids there are, and the same inputs with others in their place.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::{Apart, Dataset};
use crate::analysis::KeptTokens;
use crate::inputs::{Batches, DataError, Tensors};

/// Ids named in a message, at most.
const NAMED: usize = 8;

/// Inputs with other ids in the place of those that they hold.
#[derive(Debug)]
struct ExchangedIds {
    batches: Arc<dyn Batches>,
    /// By input, for each id, what stands in its place.
    numbers: BTreeMap<String, Arc<[i64]>>,
}

impl Batches for ExchangedIds {
    fn count(&self) -> usize {
        self.batches.count()
    }

    fn fetch(&self, number: usize) -> Result<Tensors, DataError> {
        let mut tensors = self.batches.fetch(number)?;
        for (name, numbers) in &self.numbers {
            if let Some(tensor) = tensors.get_mut(name) {
                *tensor = tensor.renumbered(numbers);
            }
        }
        Ok(tensors)
    }
}

fn exchanged(
    batches: &Arc<dyn Batches>,
    tokens: &KeptTokens,
    numbers: &Arc<[i64]>,
) -> Arc<dyn Batches> {
    let inputs = tokens.ends.inputs.iter();
    Arc::new(ExchangedIds {
        batches: batches.clone(),
        numbers: inputs.map(|name| (name.clone(), numbers.clone())).collect(),
    })
}

impl Dataset {
    /// The ids that inputs of these names hold, ascending. Errors: inputs that cannot be read.
    #[doc(hidden)]
    pub(crate) fn ids(&self, inputs: &BTreeSet<String>) -> Result<BTreeSet<i64>, DataError> {
        let mut found = BTreeSet::new();
        let apart = self.apart.iter().map(|apart| &apart.inputs);
        for batches in std::iter::once(&self.inputs).chain(apart) {
            found.extend(ids_of(&**batches, inputs)?);
        }
        Ok(found)
    }

    /// The same for a model that takes these tokens alone, by the ids that they have: in what was made up, others stand in the
    /// place of those that go. Errors: inputs that were given and hold such, or cannot be read.
    pub(crate) fn of_kept(&self, tokens: &KeptTokens) -> Result<Self, DataError> {
        let kept = &tokens.kept;
        let instead = |id: usize| {
            let known = kept.binary_search(&(id as u32)).is_ok();
            let other = kept.get(id % kept.len().max(1)).copied().unwrap_or(0);
            if known { id as i64 } else { i64::from(other) }
        };
        let numbers: Arc<[i64]> = (0..tokens.rows).map(instead).collect();
        let one = |batches: &Arc<dyn Batches>, synthetic: bool| {
            if synthetic {
                return Ok(exchanged(batches, tokens, &numbers));
            }
            check(&**batches, tokens)?;
            Ok(batches.clone())
        };
        self.mapped(one)
    }

    /// The same for a model whose ids are counted anew.
    pub(crate) fn renumbered(&self, tokens: &KeptTokens) -> Result<Self, DataError> {
        let mut numbers = vec![0; tokens.rows];
        for (new, old) in tokens.kept.iter().enumerate() {
            if let Some(number) = numbers.get_mut(*old as usize) {
                *number = new as i64;
            }
        }
        let numbers: Arc<[i64]> = numbers.into();
        self.mapped(|batches, _| Ok(exchanged(batches, tokens, &numbers)))
    }

    fn mapped(
        &self,
        one: impl Fn(&Arc<dyn Batches>, bool) -> Result<Arc<dyn Batches>, DataError>,
    ) -> Result<Self, DataError> {
        let apart = self
            .apart
            .as_ref()
            .map(|apart| -> Result<Apart, DataError> {
                Ok(Apart {
                    inputs: one(&apart.inputs, apart.synthetic)?,
                    ..apart.clone()
                })
            });
        Ok(Dataset {
            inputs: one(&self.inputs, self.synthetic)?,
            apart: apart.transpose()?,
            ..self.clone()
        })
    }
}

fn ids_of(batches: &dyn Batches, inputs: &BTreeSet<String>) -> Result<BTreeSet<i64>, DataError> {
    let mut found = BTreeSet::new();
    for number in 0..batches.count() {
        let tensors = batches.fetch(number)?;
        let held = inputs.iter().filter_map(|name| tensors.get(name)?.to_i64());
        found.extend(held.flatten());
    }
    Ok(found)
}

/// Errors: ids that are not among those that stay, with how many and which.
fn check(batches: &dyn Batches, tokens: &KeptTokens) -> Result<(), DataError> {
    let rows = tokens.rows as i64;
    let stays = |id: &i64| {
        let id = if *id < 0 { id + rows } else { *id };
        u32::try_from(id).is_ok_and(|id| tokens.kept.binary_search(&id).is_ok())
    };
    let gone: Vec<String> = ids_of(batches, &tokens.ends.inputs)?
        .iter()
        .filter(|id| !stays(id))
        .map(ToString::to_string)
        .collect();
    if gone.is_empty() {
        return Ok(());
    }
    let named = gone
        .iter()
        .take(NAMED)
        .cloned()
        .collect::<Vec<_>>()
        .join(", ");
    let more = match gone.len().saturating_sub(NAMED) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    Err(DataError::ids(format!(
        "the inputs hold {} ids of tokens that are not kept: {named}{more}",
        gone.len()
    )))
}
