//! The parts that classes play in products, and which values are constants in disguise.

use std::sync::Arc;

use super::classes::Classes;
use super::relate::port_value;
use super::spaces::Spaces;
use crate::model::{Model, Origin, ValueId};
use crate::ops::{Flow, flow};
use crate::relation::{LabelId, Port, Relation, Term};

/// The parts that a class plays in products.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Role {
    pub(super) contracted_between_data: bool,
    pub(super) batch_of_data: bool,
    pub(super) depthwise: bool,
}

impl Role {
    pub(super) fn join(self, other: Role) -> Role {
        Role {
            contracted_between_data: self.contracted_between_data || other.contracted_between_data,
            batch_of_data: self.batch_of_data || other.batch_of_data,
            depthwise: self.depthwise || other.depthwise,
        }
    }
}

/// How many nodes before a product its weight may be scaled.
const FAR: usize = 8;

/// The parts of every class.
pub(super) fn roles(
    model: &Model,
    spaces: &Spaces,
    classes: &Classes,
    relations: &[Arc<Relation>],
) -> Vec<Role> {
    let mut roles = vec![Role::default(); classes.classes.len()];
    let constants = constants(model);
    for (node, _) in model.index().nodes() {
        let relation = &relations[node.index()];
        let is_constant = |port: Port| {
            let held = |value: ValueId| {
                constants[value.index()]
                    || looked_up(model, &constants, value)
                    || modulated(model, value, FAR)
            };
            port_value(model, node, port).is_some_and(held)
        };
        // Products between data, some of which exist only inside the operator.
        let (of_data, of_weights): (Vec<&Term>, Vec<&Term>) =
            products(relation).partition(|term| {
                term.weight
                    .is_none_or(|weight| !is_constant(weight) && !is_constant(term.data))
            });
        let mut play = |label: LabelId, part: &dyn Fn(&mut Role)| {
            let space = spaces.label(node, label);
            let carriers = (0..spaces.get(space).pieces.len())
                .filter_map(|piece| classes.carrier(space, piece));
            carriers.for_each(|carrier| part(&mut roles[carrier.class.index()]));
        };
        for term in &of_weights {
            depthwise(relation, term).for_each(|label| play(label, &|role| role.depthwise = true));
        }
        for term in &of_data {
            for label in on_both(relation, term) {
                // What only the scores or only the probabilities of an attention have is a dimension of its heads.
                let all = of_data.iter().all(|other| other.labels.contains(&label));
                match term.summed.contains(&label) || !all {
                    true => play(label, &|role| role.contracted_between_data = true),
                    false => play(label, &|role| role.batch_of_data = true),
                }
            }
        }
    }
    roles
}

/// Whether a port's axes run over a label.
fn on(relation: &Relation, port: Port, label: LabelId) -> bool {
    relation.ports.get(&port).is_some_and(|port| {
        port.axes
            .iter()
            .any(|axis| axis.labels().any(|other| other == label))
    })
}

/// The labels of a product that run over one channel in and out of every group of a convolution.
fn depthwise<'a>(relation: &'a Relation, term: &'a Term) -> impl Iterator<Item = LabelId> + 'a {
    let both = |label: LabelId| {
        term.weight
            .is_some_and(|weight| on(relation, term.data, label) && on(relation, weight, label))
    };
    term.labels
        .iter()
        .copied()
        .filter(move |label| both(*label) && !term.summed.contains(label) && term.window.is_some())
}

/// The labels of a product that run over both its factors, as far as they are tensors.
fn on_both<'a>(relation: &'a Relation, term: &'a Term) -> impl Iterator<Item = LabelId> + 'a {
    term.labels.iter().copied().filter(move |label| {
        on(relation, term.data, *label)
            && term
                .weight
                .is_none_or(|weight| on(relation, weight, *label))
    })
}

/// The sums of products of a relation whose factors are tensors, or exist only inside the operator.
fn products(relation: &Relation) -> impl Iterator<Item = &Term> {
    let inside = |term: &Term| matches!(term.data, Port::Out(_)) && relation.multiplies(term);
    relation
        .terms
        .iter()
        .filter(move |term| term.weight.is_some() || inside(term))
}

/// Whether a value is rows of a constant: the weights of the experts that a router chose, say.
fn looked_up(model: &Model, constants: &[bool], value: ValueId) -> bool {
    let Origin::Output(node, 0) = model.index().value(value).origin else {
        return false;
    };
    flow(model.node(node)) == Flow::Picked
        && model
            .index()
            .node(node)
            .input(0)
            .is_some_and(|table| constants[table.index()])
}

/// Whether a value is a constant matrix or kernel times numbers that the model computes (modulated convolutions: weights scaled by
/// a style for each sample). A list of one factor for each channel, as norms have it, makes no matrix. Looks `steps` nodes far.
fn modulated(model: &Model, value: ValueId, steps: usize) -> bool {
    let Origin::Output(node, 0) = model.index().value(value).origin else {
        return false;
    };
    let Some(steps) = steps.checked_sub(1) else {
        return false;
    };
    let inputs = &model.index().node(node).inputs;
    let matrix = |value: ValueId| {
        model
            .tensor_proto(value)
            .is_some_and(|tensor| tensor.dims.iter().filter(|dim| **dim > 1).count() > 1)
    };
    match flow(model.node(node)) {
        Flow::Mul => inputs
            .iter()
            .flatten()
            .any(|factor| matrix(*factor) || modulated(model, *factor, steps)),
        Flow::Same | Flow::Converted | Flow::Reshaped | Flow::Permuted | Flow::Div => inputs
            .first()
            .copied()
            .flatten()
            .is_some_and(|input| modulated(model, input, steps)),
        _ => false,
    }
}

/// Values that do not depend on the model's inputs: constants, and what is computed from them alone (dequantized,
/// transposed or cast weights).
pub fn constants(model: &Model) -> Vec<bool> {
    let mut constant: Vec<bool> = model
        .index()
        .values()
        .map(|(value, _)| model.tensor_proto(value).is_some())
        .collect();
    for (id, _) in model.index().graphs() {
        for node in &model.index().graph(id).nodes {
            let entry = model.index().node(*node);
            let from_constants = !entry.inputs.is_empty() && entry.subgraphs.is_empty();
            if from_constants
                && entry
                    .inputs
                    .iter()
                    .flatten()
                    .all(|input| constant[input.index()])
            {
                entry
                    .outputs
                    .iter()
                    .flatten()
                    .for_each(|output| constant[output.index()] = true);
            }
        }
    }
    constant
}
