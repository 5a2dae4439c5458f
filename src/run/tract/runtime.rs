//! The runtime and its sessions.

use std::sync::{Arc, Mutex, PoisonError};

use tract_onnx::prelude::TypedModel;

use super::optimize::Extent;
use super::plan::{Trust, at, fastest, plain, typed};
use super::session::{Formal, ResultSource, Spare, TractSession};
use super::weights::Weights;
use super::{facts, support};
use crate::model::{Model, TensorRef};
use crate::progress::Memory;
use crate::proto::GraphProto;
use crate::run::lower::{Infer, lower};
use crate::run::session::{difference, fitted};
use crate::run::shared::{InUse, RunShare};
use crate::run::{RunError, Runtime, Session, Tensors, Unverifiable, budget};

/// tract.
pub struct TractRuntime {
    /// Whether a session is made only after tract's optimized plan was compared with its plain one on the example: once for an
    /// original model is enough, its masked and pruned forms being made of the same operators.
    pub self_check: bool,
    infer: Arc<Infer>,
    weights: Arc<Weights>,
    /// The fastest way of computing that no self-check found wrong: a model's masked and pruned forms are computed as it is.
    trusted: Mutex<Trust>,
    memory: Memory,
    in_use: Arc<InUse>,
}

impl TractRuntime {
    /// A runtime that prepares models by what tract's own inference knows of them.
    pub fn new(self_check: bool) -> Self {
        Self::with_infer(self_check, Arc::new(facts::infer))
    }

    /// A runtime that prepares models by another inference.
    pub(crate) fn with_infer(self_check: bool, infer: Arc<Infer>) -> Self {
        TractRuntime {
            self_check,
            infer,
            weights: Arc::default(),
            memory: Memory::default(),
            in_use: Arc::default(),
            trusted: Mutex::new(Trust::Optimized(Extent::Full)),
        }
    }

    /// What a model may take.
    pub(crate) fn memory(&self) -> Memory {
        self.memory
    }

    /// The same for models that take no more than so much memory; larger ones are not run, and runs that together would take
    /// more wait for each other.
    pub(crate) fn within(self, memory: Memory) -> Self {
        TractRuntime { memory, ..self }
    }
}

impl Runtime for TractRuntime {
    fn name(&self) -> &str {
        "tract"
    }

    fn version(&self) -> &str {
        // All crates of tract are pinned to one version in Cargo.toml.
        "0.23.9"
    }

    fn prepare(
        &self,
        model: &Model,
        example: &Tensors,
        taps: &[String],
    ) -> Result<Box<dyn Session>, Unverifiable> {
        self.session(model, example, taps, self.self_check)
    }

    fn prepare_variant(
        &self,
        model: &Model,
        example: &Tensors,
    ) -> Result<Box<dyn Session>, Unverifiable> {
        self.session(model, example, &[], false)
    }
}

impl TractRuntime {
    fn session(
        &self,
        model: &Model,
        example: &Tensors,
        taps: &[String],
        self_check: bool,
    ) -> Result<Box<dyn Session>, Unverifiable> {
        self.weights.tidy();
        let example = &*fitted(&model.ends, example);
        let run = budget::within(model, example, self.memory)?;
        let made = TypedForm::new(model, example, taps, &*self.infer, &self.weights)?;
        let trusted = *self.trusted.lock().unwrap_or_else(PoisonError::into_inner);
        let (plan, trust) = fastest(&made.typed, &made.graph, trusted)?;
        let session = TractSession {
            plan,
            spare: if trust == Trust::Plain {
                None
            } else {
                Some(self.spare(model, example, taps))
            },
            inputs: made.inputs,
            pinned: made.pinned,
            results: made.results,
            noise: 0.0,
            ends: model.ends.clone(),
            share: RunShare::new(self.in_use.clone(), run, self.memory),
        };
        if !self_check {
            return Ok(Box::new(session));
        }
        let (outputs, allowed) = (made.graph.output.len(), allowed(&made.graph));
        let (session, trust) = settle(session, trust, &made.typed, example, outputs, allowed)?;
        let mut trusted = self.trusted.lock().unwrap_or_else(PoisonError::into_inner);
        *trusted = trust.max(*trusted);
        Ok(Box::new(session))
    }

    /// The plain form of the same model, made from the start when it is needed: kept ready it would hold all weights once more.
    fn spare(&self, model: &Model, example: &Tensors, taps: &[String]) -> Arc<Spare> {
        let (model, example, taps) = (model.clone(), example.clone(), taps.to_vec());
        let (infer, weights) = (self.infer.clone(), self.weights.clone());
        Spare::new(move || {
            let made = TypedForm::new(&model, &example, &taps, &*infer, &weights).ok()?;
            plain(made.typed).ok()
        })
    }
}

/// A model in tract's typed form, and where its inputs and results are.
struct TypedForm {
    graph: GraphProto,
    typed: TypedModel,
    inputs: Vec<Formal>,
    pinned: Vec<(String, TensorRef)>,
    results: Vec<ResultSource>,
}

impl TypedForm {
    fn new(
        model: &Model,
        example: &Tensors,
        taps: &[String],
        infer: &Infer,
        weights: &Weights,
    ) -> Result<Self, Unverifiable> {
        let lowered = lower(model, example, taps, infer)?;
        support::check(&lowered.proto)?;
        facts::check(&lowered.proto, infer)?;
        let graph = lowered.proto.graph.clone().unwrap_or_default();
        let formal = |name: &str| {
            let value = example.get(name);
            let dims = value.map_or_else(Vec::new, |value| value.dims.clone());
            Formal {
                name: name.to_owned(),
                dims,
                whole: value.is_some_and(|value| value.dtype.is_integer()),
            }
        };
        let inputs: Vec<Formal> = graph
            .input
            .iter()
            .map(|input| formal(input.name()))
            .collect();
        let outputs = graph.output.iter().map(|output| output.name().to_owned());
        let mut wanted: Vec<String> = Vec::new();
        let mut results = Vec::new();
        for name in outputs.chain(taps.iter().cloned()) {
            if example.contains_key(&name)
                && !graph.node.iter().any(|node| node.output.contains(&name))
            {
                results.push(ResultSource::Input(name));
                continue;
            }
            let at = wanted
                .iter()
                .position(|other| *other == name)
                .unwrap_or(wanted.len());
            if at == wanted.len() {
                wanted.push(name);
            }
            results.push(ResultSource::Computed(at));
        }
        let names: Vec<String> = inputs.iter().map(|input| input.name.clone()).collect();
        let typed = typed(&lowered.proto, weights, &names, &wanted)?;
        Ok(TypedForm {
            graph,
            typed,
            inputs,
            pinned: lowered.pinned,
            results,
        })
    }
}

/// The largest relative difference of two right ways of computing a model: quantized nets round to different steps.
fn allowed(graph: &GraphProto) -> f64 {
    let rounds = |op: &str| {
        op.starts_with("QLinear") || matches!(op, "QuantizeLinear" | "DynamicQuantizeLinear")
    };
    if graph.node.iter().any(|node| rounds(node.op_type())) {
        5e-2
    } else {
        1e-3
    }
}

/// The largest relative difference between two runs in their first `outputs` tensors.
fn noise(one: &[TensorRef], other: &[TensorRef], outputs: usize) -> f64 {
    let pairs = one.iter().zip(other).take(outputs);
    pairs
        .filter_map(|(one, other)| difference(one, other))
        .fold(0.0, f64::max)
}

/// The session with the plan that agrees with the plain one on the example: the fastest such, or the plain one where no
/// optimized one runs. Errors: they disagree, or the plain one fails.
fn settle(
    session: TractSession,
    trust: Trust,
    typed: &TypedModel,
    example: &Tensors,
    outputs: usize,
    allowed: f64,
) -> Result<(TractSession, Trust), Unverifiable> {
    let fail = |error: RunError| {
        Unverifiable::new(format!("the runtime tract fails on the example: {error}"))
    };
    let Trust::Optimized(extent) = trust else {
        session.run_fitted(example).map_err(fail)?;
        return Ok((session, trust));
    };
    let plain = plain(typed.clone())?;
    let right = session.run_once(&plain, example).map_err(fail)?;
    let less = || {
        if extent == Extent::Full {
            Some((at(typed, Extent::NodeByNode).ok()?, Extent::NodeByNode))
        } else {
            None
        }
    };
    let plans = std::iter::once(Some((session.plan.clone(), extent)))
        .chain(std::iter::once_with(less))
        .flatten();
    let mut apart = None;
    for (plan, extent) in plans {
        let Ok(first) = session.run_once(&plan, example) else {
            continue;
        };
        let noise = noise(&first, &right, outputs);
        if noise <= allowed {
            return Ok((
                TractSession {
                    plan,
                    noise,
                    ..session
                },
                Trust::Optimized(extent),
            ));
        }
        apart.get_or_insert(noise);
    }
    match apart {
        Some(noise) => Err(Unverifiable::new(format!(
            "the runtime tract contradicts itself: optimized and plain differ by {noise:.1e} of the output"
        ))),
        None => Ok((
            TractSession {
                plan: plain,
                spare: None,
                ..session
            },
            Trust::Plain,
        )),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use tract_onnx::tract_core::optim::Optimizer;

    use super::*;
    use crate::model::text;
    use crate::run::tract::optimize::{careful, optimized};

    /// How many operators of each name there are.
    fn operators(model: &TypedModel) -> BTreeMap<String, usize> {
        let mut counts = BTreeMap::new();
        for node in &model.nodes {
            *counts.entry(node.op().name().to_string()).or_default() += 1;
        }
        counts
    }

    #[test]
    fn changes_come_to_the_same_model_as_by_tracts_own_session() {
        let deep: String = (0..12)
            .map(|at| format!("m{at} = MatMul(r{at}, w)\nr{} = Relu(m{at})\n", at + 1))
            .collect();
        let nets = [
            format!("input r0 f32[1,4]\nconst w f32[4,4]\n{deep}output r12"),
            "input r0 f32[1,3,8,8]\nconst w f32[6,3,3,3]\nconst b f32[6]\nc = Conv(r0, w, b) {pads=[1,1,1,1]}\nr = Relu(c)\n\
             p = MaxPool(r) {kernel_shape=[2,2], strides=[2,2]}\nf = Flatten(p)\nconst v f32[96,5]\ng = MatMul(f, v)\n\
             y = Softmax(g)\noutput y"
                .to_owned(),
            "input r0 f32[2,5,4]\nconst w f32[4,4]\nq = MatMul(r0, w)\nt = Transpose(q) {perm=[0,2,1]}\ns = MatMul(q, t)\n\
             a = Softmax(s)\nz = MatMul(a, r0)\ny = Add(z, r0)\noutput y"
                .to_owned(),
        ];
        for net in nets {
            let model = text::model(&net).unwrap();
            let dims = if net.contains("1,3,8,8") {
                vec![1, 3, 8, 8]
            } else if net.contains("2,5,4") {
                vec![2, 5, 4]
            } else {
                vec![1, 4]
            };
            let numbers: Vec<f32> = (0..dims.iter().product())
                .map(|at: usize| at as f32)
                .collect();
            let example =
                Tensors::from_iter([("r0".to_owned(), TensorRef::from_f32(dims, &numbers))]);
            let weights = Weights::default();
            let typed = TypedForm::new(&model, &example, &[], &facts::infer, &weights)
                .unwrap()
                .typed;
            let mut theirs = typed.clone();
            for optimizer in [Optimizer::declutter(), Optimizer::codegen()] {
                let optimizer = careful(optimizer, Extent::Full);
                theirs
                    .optimize_with_session(&mut optimizer.session())
                    .unwrap();
            }
            let ours = optimized(typed, Extent::Full).unwrap();
            assert_eq!(operators(&ours), operators(&theirs), "{net}");
            let mut names: Vec<&String> = ours.nodes.iter().map(|node| &node.name).collect();
            names.sort_unstable();
            names.dedup();
            assert_eq!(names.len(), ours.nodes.len(), "no two nodes have one name");
        }
    }
}
