//! Changes of tract's optimizer put into a model, each in time of its own size.
//!
//! tract's own way compares every node that it adds with all others, and looks for a free name among all of them, so that a model
//! takes time with the square of its nodes. What comes of it is the same here.

use std::collections::{BTreeMap, HashMap, HashSet};

use tract_onnx::prelude::{OutletId, TVec, TractResult, TypedModel};
use tract_onnx::tract_core::internal::{InletId, TypedModelPatch, bail};
use tract_onnx::tract_core::ops::dummy::Dummy;
use tract_onnx::tract_core::ops::source::TypedSource;

/// The names of a model's nodes, no two the same.
pub(super) struct NodeNames {
    taken: HashSet<String>,
    /// For each name that was asked for twice the number that was put behind it last.
    last: HashMap<String, usize>,
}

impl NodeNames {
    pub(super) fn of(model: &TypedModel) -> Self {
        let live = model.nodes.iter().filter(|node| !node.op_is::<Dummy>());
        NodeNames {
            taken: live.map(|node| node.name.clone()).collect(),
            last: HashMap::new(),
        }
    }

    /// This name, or the same with a number behind it. Numbers that tract put there are taken off: it counts from one each time
    /// that it looks for a free name, and finds the first one free as long as none stays taken.
    fn fresh(&mut self, asked: &str) -> String {
        let name = match asked.rsplit_once('.') {
            Some((name, number)) if is_number(number) && self.taken.contains(name) => name,
            _ => asked,
        };
        if self.taken.insert(name.to_owned()) {
            return name.to_owned();
        }
        let number = self.last.entry(name.to_owned()).or_default();
        loop {
            *number += 1;
            let numbered = format!("{name}~{number}");
            if self.taken.insert(numbered.clone()) {
                return numbered;
            }
        }
    }
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// Puts a change into a model: its nodes are added, the outlets that it replaces have no readers any more, and nodes that nothing
/// reads are dummies, which `compact` removes. Errors: a change that does not say what its own nodes read.
pub(super) fn apply(
    patch: TypedModelPatch,
    model: &mut TypedModel,
    names: &mut NodeNames,
) -> TractResult<()> {
    let TypedModelPatch {
        model: added,
        inputs: replaced,
        taps: mut outlets,
        shunts,
        obliterate,
        ..
    } = patch;
    let mut wired: Vec<(usize, Vec<OutletId>)> = Vec::new();
    for node in added.nodes {
        let is_source = node.op_is::<TypedSource>();
        if is_source && outlets.contains_key(&OutletId::new(node.id, 0)) {
            continue;
        }
        let facts: TVec<_> = node.outputs.into_iter().map(|output| output.fact).collect();
        let slots = facts.len();
        let place = model.add_node(node.name, node.op, facts)?;
        for slot in 0..slots {
            outlets.insert(OutletId::new(node.id, slot), OutletId::new(place, slot));
        }
        if is_source && let Some(old) = replaced.get(&node.id) {
            let inputs = model.inputs.iter_mut();
            inputs
                .filter(|input| input.node == *old)
                .for_each(|input| input.node = place);
        }
        wired.push((place, node.inputs));
    }
    let shunts: BTreeMap<OutletId, OutletId> = shunts.into_iter().collect();
    for (old, new) in &shunts {
        redirect(model, *old, mapped(&outlets, new)?)?;
    }
    for (place, inputs) in &wired {
        for (slot, input) in inputs.iter().enumerate() {
            model.add_edge(mapped(&outlets, input)?, InletId::new(*place, slot))?;
        }
    }
    for node in obliterate {
        names.taken.remove(&model.node(node).name);
        model.node_mut(node).op = Box::new(Dummy);
    }
    sweep(model, shunts.keys().map(|outlet| outlet.node), names);
    for (place, _) in wired {
        let node = model.node_mut(place);
        if !node.op_is::<Dummy>() {
            let asked = node.name.split('#').next().unwrap_or_default();
            node.name = names.fresh(asked);
        }
    }
    Ok(())
}

fn mapped(outlets: &HashMap<OutletId, OutletId>, outlet: &OutletId) -> TractResult<OutletId> {
    match outlets.get(outlet) {
        Some(found) => Ok(*found),
        None => bail!("a change reads an outlet that it does not have"),
    }
}

/// All that read one outlet read another.
fn redirect(model: &mut TypedModel, old: OutletId, new: OutletId) -> TractResult<()> {
    for reader in model.outlet_successors(old).to_vec() {
        model.add_edge(new, reader)?;
    }
    let outputs = model.outputs.iter_mut();
    outputs
        .filter(|output| **output == old)
        .for_each(|output| *output = new);
    if let Some(label) = model.outlet_labels.remove(&old) {
        model.set_outlet_label(new, label)?;
    }
    Ok(())
}

/// Makes dummies of nodes that nothing reads, and of those that only they read.
fn sweep(model: &mut TypedModel, from: impl Iterator<Item = usize>, names: &mut NodeNames) {
    let mut open: Vec<usize> = from.collect();
    while let Some(place) = open.pop() {
        let is_end = |ends: &[OutletId]| ends.iter().any(|end| end.node == place);
        let outputs = &model.node(place).outputs;
        let is_read = outputs.iter().any(|output| !output.successors.is_empty());
        if is_read || is_end(&model.outputs) || is_end(&model.inputs) {
            continue;
        }
        let node = model.node_mut(place);
        if !node.op_is::<Dummy>() {
            names.taken.remove(&node.name);
        }
        node.op = Box::new(Dummy);
        node.name = format!("Dummy-node-{place}");
        node.outputs.clear();
        for input in std::mem::take(&mut node.inputs) {
            if let Some(output) = model.node_mut(input.node).outputs.get_mut(input.slot) {
                output.successors.retain(|reader| reader.node != place);
            }
            open.push(input.node);
        }
    }
}
