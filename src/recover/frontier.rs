//! Activations kept between passes, so that each layer of both models is run once and not once for every layer after it.
//!
//! After the layers of some depth are mended, every value before them is final. Those of them that later layers read are
//! kept, and the next pass starts there. Whole numbers (shapes) are computed anew from what is kept: runtimes want to know
//! them before the model runs.

use std::collections::{BTreeMap, BTreeSet};

use super::order::Depths;
use super::shelf::Shelf;
use crate::analysis::Facts;
use crate::model::{Index, Model, NodeId, Origin, TensorRef, ValueId, extract_subgraph};
use crate::run::{Runtime, Session, Tensors, for_shapes};

/// Bytes of activations kept, at most; beyond, passes start further back.
const BUDGET: usize = 768 << 20;
/// So many of them in memory, the rest in a temporary file.
const MEMORY: usize = 16 << 20;

/// What is kept of one model.
#[derive(Debug)]
pub(super) struct Frontier {
    /// Names of the values kept.
    names: Vec<String>,
    /// Their numbers, run by run (in the order of the runs); empty where nothing is kept yet.
    kept: Shelf,
}

/// A part of a model made ready, and what it gives.
pub(super) struct FrontierPart {
    /// `None` where inputs and what is kept are all that is asked for.
    session: Option<Box<dyn Session>>,
    /// Names of its outputs.
    pub outputs: Vec<String>,
    /// Those that are to be kept.
    next: Vec<String>,
}

impl Default for Frontier {
    fn default() -> Self {
        Frontier {
            names: Vec::new(),
            kept: Shelf::new(0),
        }
    }
}

impl Frontier {
    /// Makes the part of a model ready that leads from what is kept to some values, and to what the passes from `depth` on
    /// will start from. `examples`: inputs of each shape, and which of the runs they are of.
    pub fn part(
        &self,
        model: &Model,
        (facts, depths, depth): (&Facts, &Depths, usize),
        taps: &[String],
        examples: &[(usize, Tensors)],
        runtime: &dyn Runtime,
    ) -> Result<FrontierPart, String> {
        let next = self.next(model, facts, depths, depth);
        let mut outputs = taps.to_vec();
        outputs.extend(next.iter().filter(|name| !taps.contains(name)).cloned());
        // What is kept already is no output of what starts there.
        outputs.retain(|name| !self.names.contains(name) || taps.contains(name));
        let examples: Vec<Tensors> = examples
            .iter()
            .map(|(at, inputs)| self.inputs(*at, inputs.clone()))
            .collect::<Result<_, _>>()?;
        let example = examples.first().cloned().unwrap_or_default();
        let starts: BTreeMap<String, TensorRef> = self
            .names
            .iter()
            .filter_map(|name| Some((name.clone(), example.get(name)?.clone())))
            .collect();
        let computed: Vec<String> = outputs
            .iter()
            .filter(|name| !example.contains_key(*name))
            .cloned()
            .collect();
        let part =
            extract_subgraph(model, &computed, &starts).map_err(|error| error.to_string())?;
        let prepare = |part: &Model, example: &Tensors| runtime.prepare_variant(part, example);
        let session = (!computed.is_empty()).then(|| for_shapes(&part, &examples, prepare));
        Ok(FrontierPart {
            session: session.transpose().map_err(|error| error.to_string())?,
            outputs: computed,
            next,
        })
    }

    /// The inputs of a run: the model's own, and what is kept.
    fn inputs(&self, at: usize, mut inputs: Tensors) -> Result<Tensors, String> {
        inputs.extend(
            self.kept
                .get(at)
                .map_err(|error| format!("activations that were put away are lost: {error}"))?,
        );
        Ok(inputs)
    }

    /// Runs a part on one of the runs (the `at`th); gives all its outputs, the inputs and what was kept, by name.
    pub fn run(&self, part: &FrontierPart, at: usize, inputs: Tensors) -> Result<Tensors, String> {
        let inputs = self.inputs(at, inputs)?;
        let outputs = match &part.session {
            Some(session) => session.run(&inputs).map_err(|error| error.to_string())?,
            None => Vec::new(),
        };
        let mut named: Tensors = part.outputs.iter().cloned().zip(outputs).collect();
        inputs.into_iter().for_each(|(name, tensor)| {
            named.entry(name).or_insert(tensor);
        });
        Ok(named)
    }

    /// Where the results of all runs are put, reduced to what `keeps` says.
    pub fn shelf() -> Shelf {
        Shelf::new(MEMORY)
    }

    /// Keeps what the next passes start from.
    pub fn advance(&mut self, part: &FrontierPart, runs: Shelf) {
        if !runs.is_empty() {
            self.names = part.next.clone();
            self.kept = runs;
        }
    }

    /// Of a run's results what the next passes start from; `None` where that is more than fits.
    pub fn keeps(part: &FrontierPart, results: &Tensors, runs: usize) -> Option<Tensors> {
        let kept: Tensors = part
            .next
            .iter()
            .filter_map(|name| Some((name.clone(), results.get(name)?.clone())))
            .collect();
        let bytes: usize = kept.values().map(|tensor| tensor.bytes.len()).sum();
        (bytes.saturating_mul(runs) <= BUDGET && kept.len() == part.next.len()).then_some(kept)
    }

    /// Values that are final before the layers of a depth and that they or later ones read.
    fn next(&self, model: &Model, facts: &Facts, depths: &Depths, depth: usize) -> Vec<String> {
        let index = model.index();
        let mut found = BTreeSet::new();
        let mut reads = |node: NodeId| {
            let entry = index.node(node);
            let after = entry
                .outputs
                .iter()
                .flatten()
                .map(|output| depths.value(*output))
                .max()
                .unwrap_or(0);
            if after >= depth {
                let inputs = inputs_of(model, node);
                inputs
                    .into_iter()
                    .filter(|input| depths.value(*input) < depth)
                    .for_each(|input| real_sources(model, facts, depths, input, &mut found));
            }
        };
        index
            .graph(Index::MAIN)
            .nodes
            .iter()
            .for_each(|node| reads(*node));
        found
            .into_iter()
            .map(|value| index.value(value).name.clone())
            .collect()
    }
}

/// The inputs of a node and what its subgraphs read from the main graph.
fn inputs_of(model: &Model, node: NodeId) -> Vec<ValueId> {
    let index = model.index();
    let entry = index.node(node);
    let mut inputs: Vec<ValueId> = entry.inputs.iter().flatten().copied().collect();
    let mut graphs = entry.subgraphs.clone();
    while let Some(graph) = graphs.pop() {
        for inner in &index.graph(graph).nodes {
            let inner = index.node(*inner);
            inputs.extend(
                inner
                    .inputs
                    .iter()
                    .flatten()
                    .filter(|input| index.value(**input).graph == Index::MAIN),
            );
            graphs.extend(&inner.subgraphs);
        }
    }
    inputs
}

/// The computed values of real numbers that a value is made from: itself, or what its shape arithmetic starts from.
fn real_sources(
    model: &Model,
    facts: &Facts,
    depths: &Depths,
    value: ValueId,
    found: &mut BTreeSet<ValueId>,
) {
    let Origin::Output(node, _) = model.index().value(value).origin else {
        return;
    };
    if model.index().value(value).graph != Index::MAIN || !depths.varies(model, value) {
        return;
    }
    if facts.of(value).dtype.is_some_and(|dtype| dtype.is_float()) {
        found.insert(value);
        return;
    }
    for input in inputs_of(model, node) {
        real_sources(model, facts, depths, input, found);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analysis::{Pins, infer, relate};
    use crate::linear::views;

    #[test]
    fn weights_that_later_passes_mend_are_not_kept() {
        let text = "opset 13\ninput x f32[n,4]\nconst w i8[4,4]\nconst v i8[4,4]\nconst s f32[] = 0.5\nd = DequantizeLinear(w, s)\n\
                    a = MatMul(x, d)\nb = Relu(a)\ne = DequantizeLinear(v, s)\nc = MatMul(b, e)\noutput c\n";
        let model = crate::model::text::model(text).unwrap();
        let facts = infer(&model, &Pins::new());
        let depths = Depths::new(
            &model,
            views(&model, &relate(&model, &facts))
                .iter()
                .map(|view| view.node),
        );
        // Before the second layer's pass all but its own output is final; its weights are no activation all the same.
        assert_eq!(Frontier::default().next(&model, &facts, &depths, 2), ["b"]);
    }
}
