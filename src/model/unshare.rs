//! Shared constants given to each reader apart.
//!
//! Exporters merge constants that happen to be equal (two zero biases, the same shape). Read as one tensor they would tie
//! layers together that have nothing to do with each other, so analysis works on a model in which every reader has its own;
//! [`reshare`] merges again what a cut left equal.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use super::{Index, LoadError, Model, Origin};

/// Constants above this size are copied only when asked for by name: that several nodes read a large weight is a design
/// (tied weights), and a copy pays only where one reader would keep another's axes from being cut.
const LARGEST_COPY: i64 = 4096;

/// Which copies were made: name of the copy → name of the original.
pub type Copies = BTreeMap<String, String>;

/// Gives every reader of a shared initializer of the main graph a copy of its own, if the initializer is small or one of `large`.
/// Errors: none on a model that loaded.
pub fn unshare(mut model: Model, large: &BTreeSet<String>) -> Result<(Model, Copies), LoadError> {
    let mut names: HashSet<String> = model.index().values().map(|(_, entry)| entry.name.clone()).collect();
    let mut copies = Copies::new();
    let mut work = Vec::new();
    for (value, entry) in model.index().values() {
        let Origin::Initializer(_) = entry.origin else { continue };
        let small =
            model.tensor_proto(value).is_some_and(|tensor| tensor.dims.len() <= 1 || tensor.dims.iter().product::<i64>() <= LARGEST_COPY);
        if entry.graph != Index::MAIN || entry.readers.len() < 2 || entry.is_output || !(small || large.contains(&entry.name)) {
            continue;
        }
        work.push((value, entry.name.clone(), entry.readers.clone()));
    }
    for (value, name, readers) in work {
        let Some(tensor) = model.tensor_proto(value).cloned() else { continue };
        for (node, slot) in readers.into_iter().skip(1) {
            // A reader inside a subgraph sees main-graph names too.
            let copy = (2..).map(|number| format!("{name}__{number}")).find(|copy| !names.contains(copy)).unwrap_or_default();
            names.insert(copy.clone());
            model.node_mut(node).input[slot as usize] = copy.clone();
            let mut tensor = tensor.clone();
            tensor.name = Some(copy.clone());
            model.graph_mut(Index::MAIN).initializer.push(tensor);
            copies.insert(copy, name.clone());
        }
    }
    model.reindex()?;
    Ok((model, copies))
}

/// Merges copies that are still equal to their original, or to each other. Errors: none on a model that was indexed.
pub fn reshare(model: &mut Model, copies: &Copies) -> Result<(), LoadError> {
    let mut renamed: HashMap<String, String> = HashMap::new();
    {
        let graph = model.graph(Index::MAIN);
        let tensors: HashMap<&str, _> = graph.initializer.iter().map(|tensor| (tensor.name(), tensor)).collect();
        let mut families: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for (copy, original) in copies {
            families.entry(original).or_default().push(copy);
        }
        for (original, family) in families {
            let mut leaders: Vec<&str> = Vec::new();
            for name in std::iter::once(original).chain(family) {
                let Some(tensor) = tensors.get(name) else { continue };
                let same = |leader: &&&str| {
                    let other = tensors[**leader];
                    (&other.dims, other.data_type, &other.raw_data) == (&tensor.dims, tensor.data_type, &tensor.raw_data)
                        && (&other.float_data, &other.int32_data, &other.int64_data, &other.double_data, &other.uint64_data)
                            == (&tensor.float_data, &tensor.int32_data, &tensor.int64_data, &tensor.double_data, &tensor.uint64_data)
                };
                match leaders.iter().find(same) {
                    Some(leader) => {
                        renamed.insert(name.to_owned(), (*leader).to_owned());
                    }
                    None => leaders.push(name),
                }
            }
        }
    }
    if renamed.is_empty() {
        return Ok(());
    }
    let nodes: Vec<_> = model.index().nodes().map(|(node, _)| node).collect();
    for node in nodes {
        for input in &mut model.node_mut(node).input {
            if let Some(name) = renamed.get(input) {
                *input = name.clone();
            }
        }
    }
    model.graph_mut(Index::MAIN).initializer.retain(|tensor| !renamed.contains_key(tensor.name()));
    model.reindex()
}
