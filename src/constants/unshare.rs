//! Shared constants given to each reader apart.
//!
//! Exporters merge constants that happen to be equal (two zero biases, the same shape). Read as one tensor they would tie
//! layers together that have nothing to do with each other, so analysis works on a model in which every reader has its own;
//! [`reshare`] merges again what a cut left equal. A matrix that several nodes read is a design (a module used twice, tied
//! weights): it stays one unless somebody asks for copies by name, and says what they cost.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::origins::{Copies, same};
use crate::model::{
    Index, LoadError, Model, Names, NodeId, Origin, TensorRef, ValueEntry, ValueId,
};
use crate::proto::NodeProto;
use crate::proto::{Dtype, TensorProto};

/// Matrices above this size are never copied because they look like an accident.
const LARGEST_COPY: i64 = 4096;

/// How a constant comes to have several readers, as far as it tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sharing {
    /// It looks like others by chance: a bias, a scale, a shape, a table of one number.
    Accident,
    /// A small matrix: a module used twice, or a table that costs little to have twice.
    Small,
    /// A large matrix.
    Large,
}

/// Constants of the main graph that several nodes read, by name, and how they come to be shared.
pub fn shared(model: &Model) -> BTreeMap<String, Sharing> {
    let shared = |(value, entry): (ValueId, &ValueEntry)| {
        let several = entry.graph == Index::MAIN && entry.readers.len() > 1 && !entry.is_output;
        let tensor = model
            .tensor_proto(value)
            .filter(|_| several && matches!(entry.origin, Origin::Initializer(_)))?;
        Some((entry.name.clone(), sharing(tensor)?))
    };
    model.index().values().filter_map(shared).collect()
}

/// `None`: a large table of whole numbers, which stays one.
fn sharing(tensor: &TensorProto) -> Option<Sharing> {
    let small = tensor.dims.iter().product::<i64>() <= LARGEST_COPY;
    let vector = tensor.dims.iter().filter(|dim| **dim != 1).count() <= 1;
    let weight = Dtype::from_code(tensor.data_type()).is_some_and(Dtype::is_weight);
    match (small, weight) {
        _ if vector => Some(Sharing::Accident),
        (true, false) => Some(Sharing::Accident),
        (true, true) => Some(if is_uniform(tensor) {
            Sharing::Accident
        } else {
            Sharing::Small
        }),
        (false, true) => Some(Sharing::Large),
        (false, false) => None,
    }
}

/// Whether all elements are the same.
fn is_uniform(tensor: &TensorProto) -> bool {
    let Ok(tensor) = TensorRef::from_proto(tensor) else {
        return false;
    };
    let width = (tensor.bytes.len() / tensor.elements().max(1)).max(1);
    let mut elements = tensor.bytes.chunks(width);
    elements
        .next()
        .is_none_or(|first| elements.all(|element| element == first))
}

/// Gives every reader of these constants of the main graph a copy of its own, but those that read extents alone: what asks for the
/// shape of the constant asks for that of what is computed with it. Errors: none on a model that loaded.
pub fn unshare(
    mut model: Model,
    apart: &BTreeSet<String>,
    reads_extents: &dyn Fn(&NodeProto) -> bool,
) -> Result<(Model, Copies), LoadError> {
    if apart.is_empty() {
        return Ok((model, Copies::new()));
    }
    let mut names = Names::of(&model);
    let mut copies = Copies::new();
    let wanted = model
        .index()
        .values()
        .filter(|(_, entry)| entry.graph == Index::MAIN && apart.contains(&entry.name));
    let work: Vec<_> = wanted
        .map(|(value, entry)| (value, entry.name.clone(), entry.readers.clone()))
        .collect();
    for (value, name, readers) in work {
        let Some(tensor) = model.tensor_proto(value).cloned() else {
            continue;
        };
        let asks = |reader: &(NodeId, u32)| reads_extents(model.node(reader.0));
        let readers: Vec<_> = readers.into_iter().filter(|reader| !asks(reader)).collect();
        for (node, slot) in readers.into_iter().skip(1) {
            // A reader inside a subgraph sees main-graph names too.
            let copy = names.numbered(&format!("{name}__"), 2);
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

/// Copies that are equal to their original, or to each other, by name, with the name of the first of those that are alike.
fn alike(model: &Model, copies: &Copies) -> HashMap<String, String> {
    let mut renamed: HashMap<String, String> = HashMap::new();
    let graph = model.graph(Index::MAIN);
    let tensors: HashMap<&str, _> = graph
        .initializer
        .iter()
        .map(|tensor| (tensor.name(), tensor))
        .collect();
    let mut families: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for copy in copies.keys() {
        let mut source = copy.as_str();
        while let Some(next) = copies.get(source) {
            source = next;
        }
        families.entry(source).or_default().push(copy);
    }
    for (original, family) in families {
        let mut leaders: Vec<&str> = Vec::new();
        for name in std::iter::once(original).chain(family) {
            let Some(tensor) = tensors.get(name) else {
                continue;
            };
            match leaders
                .iter()
                .find(|leader| same(tensors[**leader], tensor))
            {
                Some(leader) => {
                    renamed.insert(name.to_owned(), (*leader).to_owned());
                }
                None => leaders.push(name),
            }
        }
    }
    renamed
}

/// Names of constants that [`reshare`] would merge, and of those that they would be merged with.
pub fn equal_copies(model: &Model, copies: &Copies) -> BTreeSet<String> {
    let alike = alike(model, copies);
    alike
        .into_iter()
        .flat_map(|(copy, first)| [copy, first])
        .collect()
}

/// Merges copies that are still equal to their original, or to each other. Errors: none on a model that was indexed.
pub fn reshare(model: &mut Model, copies: &Copies) -> Result<(), LoadError> {
    let renamed = alike(model, copies);
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
    model
        .graph_mut(Index::MAIN)
        .initializer
        .retain(|tensor| !renamed.contains_key(tensor.name()));
    model.reindex()
}
