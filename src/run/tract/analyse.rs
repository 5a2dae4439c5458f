//! tract's inference over a graph, with a bound: facts that contradict each other can be refined for ever.

use std::collections::{BTreeSet, HashMap};

use tract_onnx::prelude::{InferenceFact, OutletId, TVec, TractResult};
use tract_onnx::tract_hir::infer::{Factoid, InferenceModel};

/// Visits of one node. It is visited anew when a neighbour's fact is refined: a few times for each axis.
const VISITS: usize = 100;

/// Lets tract infer as far as it gets: node after node in the order of their numbers, anew where a neighbour's fact was refined.
/// What goes wrong at one node leaves the others as they are; the caller reads what came out.
pub(super) fn analyse(model: &mut InferenceModel) -> TractResult<()> {
    let mut observers: HashMap<OutletId, Vec<usize>> = HashMap::new();
    for node in model.nodes() {
        for outlet in node.op.observe_outlets(model, node)? {
            observers.entry(outlet).or_default().push(node.id);
        }
    }
    let mut waiting: BTreeSet<usize> = (0..model.nodes().len()).collect();
    let mut visits = vec![0; model.nodes().len()];
    while let Some(node) = waiting.pop_first() {
        visits[node] += 1;
        let Ok(refined) = refine(model, node) else {
            continue;
        };
        for outlet in refined {
            let producer = &model.nodes()[outlet.node];
            let readers = producer.outputs[outlet.slot].successors.iter();
            let near = readers.map(|reader| reader.node).chain([producer.id]);
            let observing = observers.get(&outlet).into_iter().flatten().copied();
            waiting.extend(
                near.filter(|other| *other != node)
                    .chain(observing)
                    .filter(|other| visits[*other] < VISITS),
            );
        }
    }
    Ok(())
}

/// Infers one node, and returns the outlets of which more is known now.
fn refine(model: &mut InferenceModel, node: usize) -> TractResult<Vec<OutletId>> {
    let place = model.node(node);
    let inputs = place.inputs.to_vec();
    let outputs: Vec<OutletId> = (0..place.outputs.len())
        .map(|slot| OutletId::new(node, slot))
        .collect();
    let observed = place.op.observe_outlets(model, place)?;
    let facts = |outlets: &[OutletId]| -> TractResult<TVec<InferenceFact>> {
        let fact = |outlet: &OutletId| model.outlet_fact(*outlet).cloned();
        outlets.iter().map(fact).collect()
    };
    let (of_inputs, of_outputs, of_observed) =
        (facts(&inputs)?, facts(&outputs)?, facts(&observed)?);
    let inferred = model.node_mut(node).op.infer(
        of_inputs.iter().collect(),
        of_outputs.iter().collect(),
        of_observed.iter().collect(),
    )?;
    let mut refined: Vec<(OutletId, InferenceFact)> = Vec::new();
    let sides = [
        (&inputs, &inferred.0),
        (&outputs, &inferred.1),
        (&observed, &inferred.2),
    ];
    for (outlet, fact) in sides
        .into_iter()
        .flat_map(|(outlets, facts)| outlets.iter().zip(facts))
    {
        let old = model.outlet_fact(*outlet)?;
        let unified = old.unify(fact)?;
        if unified != *old {
            refined.push((*outlet, unified));
        }
    }
    for (outlet, fact) in &refined {
        model.set_outlet_fact(*outlet, fact.clone())?;
    }
    Ok(refined.into_iter().map(|(outlet, _)| outlet).collect())
}
