//! What variants of a model have in common: the values before the first node in which they differ are computed once, and every
//! variant runs from there on.
//!
//! The nodes are taken in the model's order; a stage is a place in it, with the values that are computed before and read behind.
//! One stage is held at a time, and the next is computed from it.

use std::collections::{BTreeMap, BTreeSet};

use super::{Baseline, EvaluateError, RunSetup};
use crate::analysis::{Selection, constants};
use crate::calibrate::Dataset;
use crate::inputs::{
    Batches, DataError, GatherError, Sequence, SequenceInputs, examples, in_order, size,
};
use crate::model::{Index, Model, NodeId, Origin, TensorRef, ValueId, extract_subgraph};
use crate::progress::Work;
use crate::run::{Runtime, Session, Tensors, for_shapes};
use crate::workspace::Workspace;

/// Bytes of values that a stage keeps, of all inputs together.
const BUDGET: usize = 256 << 20;
/// Stages at most: a variant that begins between two runs from the first of them.
const STAGES: usize = 12;

/// The order of a model's nodes, and what they read.
pub struct Trunk<'a> {
    prepared: &'a Workspace,
    /// The place of each node in the order of the main graph; that of the node that holds its subgraph.
    places: Vec<usize>,
    /// Values that do not depend on the model's inputs.
    constants: Vec<bool>,
}

/// A place in the order, and the values that variants start from.
#[derive(Debug, Default)]
pub struct Stage {
    at: usize,
    /// The values, run by run; empty at the beginning, where variants start from the inputs alone.
    kept: BTreeMap<usize, Tensors>,
}

impl<'a> Trunk<'a> {
    /// The order of the nodes of the whole model.
    pub fn new(prepared: &'a Workspace) -> Self {
        let index = prepared.working.index();
        let mut places = vec![usize::MAX; index.nodes().len()];
        for (place, node) in index.graph(Index::MAIN).nodes.iter().enumerate() {
            places[node.index()] = place;
        }
        // Graphs come after those that hold them.
        for (graph, entry) in index.graphs() {
            let Some(parent) = entry.parent else { continue };
            index
                .graph(graph)
                .nodes
                .iter()
                .for_each(|node| places[node.index()] = places[parent.index()]);
        }
        Trunk {
            prepared,
            places,
            constants: constants(&prepared.working),
        }
    }

    /// The place from which two cuts may compute something different.
    pub fn fork(&self, one: &Selection, other: &Selection) -> usize {
        let (model, analysis) = (&self.prepared.working, &self.prepared.analysis);
        let varies = |node: NodeId| {
            model
                .index()
                .node(node)
                .outputs
                .iter()
                .flatten()
                .any(|output| !self.constants[output.index()])
        };
        let differs = |node: &NodeId| {
            varies(*node) && analysis.kept_labels(*node, one) != analysis.kept_labels(*node, other)
        };
        let nodes = model.index().nodes().map(|(node, _)| node).filter(differs);
        nodes
            .map(|node| self.places[node.index()])
            .min()
            .unwrap_or(usize::MAX)
    }

    /// Stages for variants that fork at these places, ascending, each with the variants that start there.
    pub fn stages(&self, forks: &[usize]) -> Vec<(usize, Vec<usize>)> {
        let mut sorted: Vec<usize> = forks.to_vec();
        sorted.sort_unstable();
        let each = sorted.len().div_ceil(STAGES).max(1);
        let mut stages: BTreeMap<usize, Vec<usize>> = sorted
            .into_iter()
            .step_by(each)
            .map(|at| (at, Vec::new()))
            .collect();
        for (variant, fork) in forks.iter().enumerate() {
            if let Some((_, members)) = stages.range_mut(..=fork).next_back() {
                members.push(variant);
            }
        }
        stages.into_iter().collect()
    }

    /// The values that are computed before a place and read behind it. Whole numbers are computed anew from what they come
    /// from: runtimes want to know shapes before the model runs.
    fn frontier(&self, at: usize) -> Vec<String> {
        let index = self.prepared.working.index();
        let before = |value: ValueId| match index.value(value).origin {
            Origin::Output(node, _) => self.places[node.index()] < at,
            _ => true,
        };
        let behind = |(reader, _): &(NodeId, u32)| self.places[reader.index()] >= at;
        let main = index
            .values()
            .filter(|(_, entry)| entry.graph == Index::MAIN);
        let read = main.filter(|(value, entry)| {
            before(*value) && (entry.is_output || entry.readers.iter().any(behind))
        });
        let mut open: Vec<ValueId> = read.map(|(value, _)| value).collect();
        let (mut seen, mut found) = (BTreeSet::new(), BTreeSet::new());
        while let Some(value) = open.pop() {
            let Origin::Output(node, _) = index.value(value).origin else {
                continue;
            };
            if self.constants[value.index()] || !seen.insert(value) {
                continue;
            }
            let dtype = self.prepared.analysis.facts.of(value).dtype;
            let plain = index.node(node).subgraphs.is_empty();
            if !plain || dtype.is_some_and(|dtype| dtype.is_float()) {
                found.insert(value);
            } else {
                open.extend(index.node(node).inputs.iter().flatten());
            }
        }
        found
            .into_iter()
            .map(|value| index.value(value).name.clone())
            .collect()
    }
}

/// Inputs with the values of a stage compare_with them.
#[derive(Debug)]
struct Continued<'a> {
    inputs: &'a dyn Batches,
    stage: &'a Stage,
}

impl Batches for Continued<'_> {
    fn count(&self) -> usize {
        self.inputs.count()
    }

    fn fetch(&self, number: usize) -> Result<Tensors, DataError> {
        let mut inputs = self.inputs.fetch(number)?;
        inputs.extend(
            self.stage
                .kept
                .get(&number)
                .into_iter()
                .flatten()
                .map(|(name, tensor)| (name.clone(), tensor.clone())),
        );
        Ok(inputs)
    }

    fn sequence(&self, number: usize) -> Option<Sequence> {
        self.inputs.sequence(number)
    }

    fn sequence_axes(&self) -> Option<&SequenceInputs> {
        self.inputs.sequence_axes()
    }
}

/// The part of a model between two stages, made ready.
struct Stretch {
    session: Box<dyn Session>,
    /// Values to be kept at its end.
    names: Vec<String>,
    /// Those of them that it computes.
    computed: Vec<String>,
}

impl Stretch {
    /// Makes it ready from the values `starts`, which each of the `examples` holds with all inputs. `None` where the runtime does not take it.
    fn new(
        model: &Model,
        names: Vec<String>,
        starts: &BTreeMap<String, TensorRef>,
        examples: &[Tensors],
        runtime: &dyn Runtime,
    ) -> Option<Self> {
        let example = examples.first()?;
        let computed: Vec<String> = names
            .iter()
            .filter(|name| !example.contains_key(*name))
            .cloned()
            .collect();
        let part = extract_subgraph(model, &computed, starts).ok()?;
        Some(Stretch {
            session: for_shapes(&part, examples, |part, example| {
                runtime.prepare_variant(part, example)
            })
            .ok()?,
            names,
            computed,
        })
    }

    /// The values at its end; `None` where the run fails.
    fn run(&self, inputs: Tensors) -> Option<Tensors> {
        let results = self.session.run(&inputs).ok()?;
        let mut named: Tensors = self.computed.iter().cloned().zip(results).collect();
        named.extend(
            inputs
                .into_iter()
                .filter(|(name, _)| self.names.contains(name)),
        );
        Some(named)
    }
}

fn bytes(kept: &Option<Tensors>) -> usize {
    kept.as_ref()
        .map_or(0, |kept| size(&kept.values().cloned().collect::<Vec<_>>()))
}

impl Stage {
    /// Goes on to a later place of a model, if what is to be kept there fits; stays where it is else, and where the runtime does
    /// not run the part between. Errors: inputs that cannot be read, a stop asked for.
    pub fn advance(
        &mut self,
        to: usize,
        trunk: &Trunk,
        model: &Model,
        setup: RunSetup,
    ) -> Result<(), EvaluateError> {
        let runs = Baseline::quick_runs(setup.data);
        let values = model.index().main_values();
        let names: Vec<String> = trunk
            .frontier(to)
            .into_iter()
            .filter(|name| values.contains_key(name.as_str()))
            .collect();
        let Some(first) = runs.first() else {
            return Ok(());
        };
        if to <= self.at || names.is_empty() {
            return Ok(());
        }
        let inputs = Continued {
            inputs: &*setup.data.inputs,
            stage: self,
        };
        let mut examples = examples(&inputs, &runs)?;
        let starts = self.starts(*first);
        let Some(stretch) = Stretch::new(model, names, &starts, &examples, setup.runtime) else {
            return Ok(());
        };
        let Some(one) = stretch.run(examples.swap_remove(0)) else {
            return Ok(());
        };
        if bytes(&Some(one)).saturating_mul(runs.len()) > BUDGET {
            return Ok(());
        }
        let kept = keep(&stretch, &inputs, &runs, setup.work)?;
        if kept.len() == runs.len() {
            *self = Stage { at: to, kept };
        }
        Ok(())
    }

    fn starts(&self, run: usize) -> BTreeMap<String, TensorRef> {
        self.kept
            .get(&run)
            .into_iter()
            .flatten()
            .map(|(name, tensor)| (name.clone(), tensor.clone()))
            .collect()
    }

    /// The drift of a variant that differs from the model of the stage only behind its place.
    pub fn drift(
        &self,
        variant: &Model,
        data: &Dataset,
        bench: &Baseline,
    ) -> Result<f64, EvaluateError> {
        let runs = Baseline::quick_runs(data);
        let Some(first) = runs.first().filter(|_| !self.kept.is_empty()) else {
            return bench.quick_drift(variant, data);
        };
        let part = extract_subgraph(variant, bench.names(), &self.starts(*first));
        let inputs = Continued {
            inputs: &*data.inputs,
            stage: self,
        };
        let from_here = part
            .ok()
            .and_then(|part| bench.drift_of(&part, &inputs, &runs, data).ok());
        // What the runtime does not run in part it may run as a whole.
        from_here.map_or_else(
            || bench.quick_drift(variant, data),
            |estimate| Ok(estimate.drift),
        )
    }
}

/// The values at the end of a stretch, by run; those of runs that fail are left out.
fn keep(
    stretch: &Stretch,
    inputs: &Continued,
    runs: &[usize],
    work: &Work,
) -> Result<BTreeMap<usize, Tensors>, GatherError> {
    let mut kept = BTreeMap::new();
    let silent = Work {
        progress: &(),
        ..*work
    };
    in_order(
        inputs,
        runs,
        &silent,
        |_, inputs| Ok(stretch.run(inputs)),
        bytes,
        |numbers, made| {
            kept.extend(
                numbers
                    .iter()
                    .zip(made)
                    .filter_map(|(number, made)| Some((*number, made?))),
            );
            Ok(())
        },
    )?;
    Ok(kept)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::analysis::Options;
    use crate::model::text;
    use crate::run::{TractRuntime, choose};

    const MODEL: &str = "input x f32[n,4]\nconst w f32[4,6]\nconst v f32[6,6]\nconst u f32[6,3]\nconst rest i64[1] = -1\n\
        const at i64[1] = 0\na = MatMul(x, w)\nb = Relu(a)\ns = Shape(b)\nk = Gather(s, at) {axis=0}\nt = Concat(k, rest) {axis=0}\n\
        c = MatMul(b, v)\nd = Tanh(c)\ne = Reshape(d, t)\ny = MatMul(e, u)\nz = Exp(b)\noutput y\noutput z";

    fn filled() -> Model {
        let mut model = text::model(MODEL).unwrap();
        for name in ["w", "v", "u"] {
            let value = model.index().main_value(name).unwrap();
            let dims = model.constant(value).unwrap().dims;
            let numbers: Vec<f32> = (0..dims.iter().product())
                .map(|at: usize| (at as f32 * 0.7 + name.len() as f32).sin())
                .collect();
            let tensor = TensorRef::from_f32(dims, &numbers).to_proto(name);
            *model.tensor_proto_mut(value).unwrap() = tensor;
        }
        model
    }

    #[test]
    fn variants_run_from_where_they_differ() {
        let model = filled();
        let prepared = Workspace::new(&model, &Options::default()).unwrap();
        let input = |at: usize| {
            TensorRef::from_f32(
                vec![2, 4],
                &(0..8)
                    .map(|x| ((x * 3 + at) as f32).cos())
                    .collect::<Vec<_>>(),
            )
        };
        let inputs: Vec<Tensors> = (0..5)
            .map(|at| Tensors::from_iter([("x".to_owned(), input(at))]))
            .collect();
        let data = Dataset {
            inputs: Arc::new(inputs),
            ..Default::default()
        };
        let (runtime, work) = (TractRuntime::new(true), Work::new(&()));
        let chosen = choose(&runtime, &model, &data.inputs.example().unwrap().unwrap());
        let bench = Baseline::new(&model, &data, chosen, true, &work).unwrap();
        let trunk = Trunk::new(&prepared);
        let group = prepared
            .analysis
            .groups
            .iter()
            .position(|group| group.id == "u:0")
            .unwrap();
        let mut removed = vec![Vec::new(); prepared.analysis.groups.len()];
        removed[group] = vec![1, 4];
        let (whole, cut) = (Selection::default(), prepared.select(&removed));
        // The product that gives the group's units is the first to change.
        let fork = trunk.fork(&whole, &cut);
        let order = &prepared.working.index().graph(Index::MAIN).nodes;
        assert_eq!(prepared.working.node(order[fork]).output[0], "c");
        assert_eq!(
            trunk.frontier(fork),
            ["b"],
            "of the shape only what it comes from"
        );
        let mut stage = Stage::default();
        let setup = RunSetup {
            data: &data,
            runtime: &runtime,
            work: &work,
        };
        stage
            .advance(fork, &trunk, &prepared.working, setup)
            .unwrap();
        assert_eq!((stage.at, stage.kept.len()), (fork, 5));
        let variant = prepared.cut(&cut, &[]).unwrap();
        let (from_here, whole) = (
            stage.drift(&variant, &data, &bench).unwrap(),
            bench.quick_drift(&variant, &data).unwrap(),
        );
        assert!(
            whole > 1e-3 && (from_here - whole).abs() < 1e-6 * whole,
            "{from_here} {whole}"
        );
    }

    #[test]
    fn every_variant_has_a_stage_before_it() {
        let prepared = Workspace::new(&filled(), &Options::default()).unwrap();
        let trunk = Trunk::new(&prepared);
        let forks: Vec<usize> = (0..100).map(|at| at * 7 % 100).collect();
        let stages = trunk.stages(&forks);
        assert!(
            stages.len() <= STAGES
                && stages
                    .iter()
                    .map(|(_, members)| members.len())
                    .sum::<usize>()
                    == 100
        );
        assert!(
            stages
                .iter()
                .all(|(at, members)| members.iter().all(|member| forks[*member] >= *at))
        );
        assert_eq!(trunk.stages(&[usize::MAX, 3]).len(), 2);
        assert!(trunk.stages(&[]).is_empty());
    }
}
