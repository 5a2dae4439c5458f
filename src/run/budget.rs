//! What a run takes, counted from shapes before anything runs: a runtime that is asked for more than there is ends the
//! process or never comes back.

mod effort;

use std::collections::BTreeMap;
use std::sync::Arc;

use super::shared::RunBytes;
use super::{Tensors, Unverifiable};
use crate::analysis::{Facts, Pins, constants, infer, relate};
use crate::constants::functions;
use crate::facts::{Dim, Fact};
use crate::model::edit::NodeExt;
use crate::model::{GraphId, Index, Model, NodeId, Origin, TensorRef, ValueId, normal_domain};
use crate::ops::{lookup, meaning};
use crate::progress::{MORE_MEMORY, Memory, size_text};
use crate::proto::{Dtype, NodeProto};
use crate::relation::Relation;

/// Bytes that any run may have in use.
const ANY: u64 = 256 << 20;
/// Beyond that, so many for each byte of the inputs and the weights: a model that makes far more of little computes nothing
/// that somebody waits for.
const GROWTH: u64 = 1024;
/// Numbers of inputs beyond which nothing is made ready for a model that does not fit them.
const MANY: u64 = 1 << 24;

/// Whether a model can be run on inputs like the example within so much memory, and within a time that somebody waits for.
/// What is not known before a run counts as nothing. Gives what a run takes.
///
/// Errors: the node that is too large, how large, and what is allowed; a node that does not fit inputs that are large.
pub(super) fn within(
    model: &Model,
    example: &Tensors,
    memory: Memory,
) -> Result<RunBytes, Unverifiable> {
    if let Some(problem) = functions::endless(model) {
        return Err(problem.into());
    }
    measured(model, &shapes(example), memory, |mut need| {
        let inputs = need.inputs();
        if let Some(problem) = need.misfit(inputs) {
            return Err(problem);
        }
        let weights = need
            .model
            .index()
            .values()
            .filter(|(_, entry)| matches!(entry.origin, Origin::Initializer(_)));
        let held = weights
            .filter_map(|(value, _)| bytes(need.facts.of(value)))
            .fold(need.unpacked(), u64::saturating_add);
        need.given = held.saturating_add(inputs.saturating_mul(4));
        let most = need.memory(Index::MAIN, held)?;
        need.work()?;
        Ok(RunBytes {
            weights: held,
            most,
        })
    })
}

/// Why a model cannot be run on inputs of these shapes, by name, that would take long to make; `None` where it can, where that
/// is not known, and where they would not.
pub fn misfit(model: &Model, shapes: &Pins) -> Option<Unverifiable> {
    let numbers = |dims: &Vec<i64>| dims.iter().map(|dim| *dim as f64).product::<f64>();
    if shapes.values().map(numbers).sum::<f64>() < MANY as f64 {
        return None;
    }
    measured(model, shapes, Memory::default(), |need| {
        need.misfit(need.inputs())
    })
}

/// Multiplications and elements of one run on inputs like the example, beside a fixed number for each node. What is not known
/// before a run counts as nothing.
pub fn work(model: &Model, example: &Tensors) -> f64 {
    measured(model, &shapes(example), Memory::default(), |need| {
        need.total().0
    })
}

fn shapes(example: &Tensors) -> Pins {
    let dims = |tensor: &TensorRef| tensor.dims.iter().map(|dim| *dim as i64).collect();
    example
        .iter()
        .map(|(name, tensor)| (name.clone(), dims(tensor)))
        .collect()
}

/// Looks at a model, its functions inlined, at the shapes of one run.
fn measured<T>(model: &Model, pins: &Pins, memory: Memory, look: impl FnOnce(Need) -> T) -> T {
    let inlined = functions::inlined(model).ok().flatten();
    let model = inlined.as_ref().map_or(model, |(inlined, _)| inlined);
    let facts = infer(model, pins);
    look(Need {
        model,
        facts: &facts,
        relations: relate(model, &facts),
        constants: constants(model),
        memory,
        given: u64::MAX,
    })
}

/// A model at the shapes of one run.
struct Need<'a> {
    model: &'a Model,
    facts: &'a Facts,
    relations: Vec<Arc<Relation>>,
    /// Values that do not depend on inputs.
    constants: Vec<bool>,
    memory: Memory,
    /// Bytes of the inputs and the weights.
    given: u64,
}

impl Need<'_> {
    /// Numbers of all inputs.
    fn inputs(&self) -> u64 {
        let inputs = &self.model.index().graph(Index::MAIN).inputs;
        let numbers = |value: &ValueId| elements(self.facts.of(*value).shape.iter().flatten());
        inputs
            .iter()
            .filter_map(numbers)
            .fold(0, u64::saturating_add)
    }

    /// Bytes of the weights that are packed in the file and are not in a run.
    fn unpacked(&self) -> u64 {
        let count = |node: &NodeProto, name: &str| {
            node.int(name)
                .and_then(|n| u64::try_from(n).ok())
                .unwrap_or(0)
        };
        let nodes = self
            .model
            .index()
            .nodes()
            .map(|(node, _)| self.model.node(node));
        nodes
            .filter(|node| meaning(node).packed.is_some())
            .map(|node| {
                count(node, "N")
                    .saturating_mul(count(node, "K"))
                    .saturating_mul(4)
            })
            .fold(0, u64::saturating_add)
    }

    /// The first node that does not fit these many numbers, where they are many.
    fn misfit(&self, inputs: u64) -> Option<Unverifiable> {
        if inputs < MANY {
            return None;
        }
        let index = self.model.index();
        // An operator without a rule is none that does not fit, and a branch that is not taken need not.
        let fits = |node: NodeId| {
            let message = self.model.node(node);
            index.node(node).graph != Index::MAIN
                || lookup(message.domain(), message.op_type()).is_none()
        };
        let mut problems = self.facts.problems.iter();
        let (node, problem) = problems.find(|(node, _)| !fits(**node))?;
        Some(Unverifiable::new(format!(
            "{}: {problem}",
            self.label(*node)
        )))
    }

    /// The most bytes in use while a graph runs beside so many that are held. Errors: more than is allowed.
    fn memory(&self, graph: GraphId, held: u64) -> Result<u64, Unverifiable> {
        let index = self.model.index();
        let nodes = &index.graph(graph).nodes;
        let mut ends = self.ends(graph);
        let (mut live, mut most) = (held, held);
        for (at, node) in nodes.iter().enumerate() {
            for output in index.node(*node).outputs.iter().flatten() {
                live = self.add(*node, live, bytes(self.facts.of(*output)), &|| {
                    self.shape(*output)
                })?;
            }
            let working = self.add(*node, live, self.workspace(*node), &|| {
                "its workspace".to_owned()
            })?;
            most = most.max(working);
            for subgraph in &index.node(*node).subgraphs {
                most = most.max(self.memory(*subgraph, live)?);
            }
            for value in ends.remove(&at).unwrap_or_default() {
                live = live.saturating_sub(bytes(self.facts.of(value)).unwrap_or(0));
            }
        }
        Ok(most)
    }

    /// For each place in a graph's order the values that are not needed after it.
    fn ends(&self, graph: GraphId) -> BTreeMap<usize, Vec<ValueId>> {
        let index = self.model.index();
        let nodes = &index.graph(graph).nodes;
        let places: BTreeMap<NodeId, usize> = nodes
            .iter()
            .enumerate()
            .map(|(at, node)| (*node, at))
            .collect();
        // A reader in a subgraph reads when the node that holds it runs.
        let place = |reader: NodeId| {
            let mut node = reader;
            loop {
                match places.get(&node) {
                    Some(at) => return Some(*at),
                    None => node = index.graph(index.node(node).graph).parent?,
                }
            }
        };
        let mut ends: BTreeMap<usize, Vec<ValueId>> = BTreeMap::new();
        for (at, node) in nodes.iter().enumerate() {
            for output in index.node(*node).outputs.iter().flatten() {
                let entry = index.value(*output);
                // What constants give is computed once and kept for all runs, as far as others read it.
                let varies = |node: NodeId| {
                    index
                        .node(node)
                        .outputs
                        .iter()
                        .flatten()
                        .any(|output| !self.constants[output.index()])
                };
                let stays = self.constants[output.index()]
                    && entry.readers.iter().any(|(reader, _)| varies(*reader));
                if !entry.is_output && !stays {
                    let last = entry
                        .readers
                        .iter()
                        .filter_map(|(reader, _)| place(*reader))
                        .max()
                        .unwrap_or(at);
                    ends.entry(last).or_default().push(*output);
                }
            }
        }
        ends
    }

    /// Errors: so many bytes more are too many.
    fn add(
        &self,
        node: NodeId,
        live: u64,
        bytes: Option<u64>,
        what: &dyn Fn() -> String,
    ) -> Result<u64, Unverifiable> {
        let total = bytes.and_then(|bytes| live.checked_add(bytes));
        let fits = self.memory.holds(total);
        let explained = Memory(self.given.saturating_mul(GROWTH).max(ANY));
        if fits && explained.holds(total) {
            return Ok(total.unwrap_or(live));
        }
        let size = bytes.map_or_else(
            || "more bytes than can be counted".to_owned(),
            |bytes| size_text(bytes as f64),
        );
        let beside = if live > 0 && bytes.is_some() {
            format!(" beside {} that are in use", size_text(live as f64))
        } else {
            String::new()
        };
        let allowed = if fits {
            format!(
                "{explained} are allowed for a model whose inputs and weights have {}",
                size_text(self.given as f64)
            )
        } else {
            format!("{} are allowed; {MORE_MEMORY}", self.memory)
        };
        Err(Unverifiable::new(format!(
            "{}: {} takes {size}{beside}, and {allowed}",
            self.label(node),
            what(),
        )))
    }

    fn shape(&self, value: ValueId) -> String {
        let shape = self
            .facts
            .of(value)
            .shape
            .iter()
            .flatten()
            .map(Dim::to_string)
            .collect::<Vec<_>>()
            .join("×");
        format!("a result of {shape}")
    }

    fn label(&self, node: NodeId) -> String {
        format!(
            "{} ({})",
            self.model.node_label(node),
            self.model.node(node).op_type()
        )
    }

    /// Bytes that a convolution lays its windows out in.
    fn workspace(&self, node: NodeId) -> Option<u64> {
        let entry = self.model.index().node(node);
        let message = self.model.node(node);
        if !normal_domain(message.domain()).is_empty() || message.op_type() != "Conv" {
            return Some(0);
        }
        let shape = |value: Option<&Option<ValueId>>| {
            value
                .copied()
                .flatten()
                .and_then(|value| self.facts.of(value).shape.clone())
        };
        let (Some(x), Some(w), Some(y)) = (
            shape(entry.inputs.first()),
            shape(entry.inputs.get(1)),
            shape(entry.outputs.first()),
        ) else {
            return Some(0);
        };
        let kernel = w.get(2..).unwrap_or_default();
        if kernel.iter().all(Dim::is_one) {
            return Some(0);
        }
        elements(
            x.get(..2)
                .unwrap_or_default()
                .iter()
                .chain(kernel)
                .chain(y.get(2..).unwrap_or_default()),
        )?
        .checked_mul(4)
    }
}

/// Bytes of a value as runtimes hold it; 0 where its shape is not known, `None` where they cannot be counted.
fn bytes(fact: &Fact) -> Option<u64> {
    let bits = match fact.dtype {
        // Half precision is computed in floats.
        None | Some(Dtype::Float16 | Dtype::Bfloat16) => 32,
        Some(dtype) => dtype.bits().max(1) as u64,
    };
    elements(fact.shape.iter().flatten())?
        .checked_mul(bits)
        .map(|bits| bits.div_ceil(8))
}

/// The product of extents; 0 where one is not known, `None` where it cannot be counted.
fn elements<'a>(dims: impl Iterator<Item = &'a Dim>) -> Option<u64> {
    let Some(dims) = dims.map(Dim::count).collect::<Option<Vec<usize>>>() else {
        return Some(0);
    };
    if dims.contains(&0) {
        return Some(0);
    }
    dims.into_iter()
        .try_fold(1u64, |product, dim| product.checked_mul(dim as u64))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::text;

    fn checked(model: &str, dims: &[usize], memory: u64) -> Result<(), String> {
        let model = text::model(model).unwrap();
        let example = Tensors::from_iter([(
            "x".to_owned(),
            TensorRef::from_f32(dims.to_vec(), &vec![0.5; dims.iter().product()]),
        )]);
        let run = within(&model, &example, Memory(memory)).map_err(|error| error.reason)?;
        assert!(run.weights <= run.most && run.most <= memory);
        Ok(())
    }

    #[test]
    fn what_is_live_together_must_fit() {
        let chain = "input x f32[n,8]\na = Relu(x)\nb = Neg(a)\nc = Abs(b)\ny = Exp(c)\noutput y";
        // Two of the values at a time, of 10 × 8 numbers each.
        assert_eq!(checked(chain, &[10, 8], 640), Ok(()));
        let problem = checked(chain, &[10, 8], 639).unwrap_err();
        assert!(
            problem.starts_with("b (Neg): a result of 10×8 takes 320 bytes beside 320 bytes that are in use, and 639 bytes are"),
            "{problem}"
        );
        // The first is read at the end again.
        assert!(
            checked(
                "input x f32[n,8]\na = Relu(x)\nb = Neg(a)\nc = Abs(b)\ny = Add(c, a)\noutput y",
                &[10, 8],
                959
            )
            .is_err()
        );
        let doubling: String = (0..40)
            .map(|at| format!("c{} = Concat(c{at}, c{at}) {{axis=1}}\n", at + 1))
            .collect();
        let problem = checked(
            &format!("input x f32[n,8]\nc0 = Relu(x)\n{doubling}output c40"),
            &[1, 8],
            1 << 20,
        )
        .unwrap_err();
        assert!(problem.starts_with("c15 (Concat)"), "{problem}");
    }

    #[test]
    fn what_little_grows_to_is_limited_whatever_memory_there_is() {
        let doubling = |times: usize, weight: usize| {
            let steps: String = (0..times)
                .map(|at| format!("c{} = Concat(c{at}, c{at}) {{axis=1}}\n", at + 1))
                .collect();
            format!(
                "input x f32[n,8]\nconst w f32[8,{weight}]\nm = MatMul(x, w)\nd = ReduceSum(m) {{keepdims=1}}\nc0 = Add(x, d)\n{steps}y = ReduceSum(c{times}) {{keepdims=1}}\noutput y"
            )
        };
        let problem = checked(&doubling(23, 1), &[1, 8], u64::MAX).unwrap_err();
        assert!(
            problem
                .starts_with("c23 (Concat): a result of 1×67108864 takes 256 MiB beside 128 MiB")
                && problem.ends_with(
                    "and 256 MiB are allowed for a model whose inputs and weights have 64 bytes"
                ),
            "{problem}"
        );
        assert_eq!(checked(&doubling(22, 1), &[1, 8], u64::MAX), Ok(()));
        // The same of a model with more weights.
        assert_eq!(checked(&doubling(23, 1 << 16), &[1, 8], u64::MAX), Ok(()));
    }

    #[test]
    fn what_large_inputs_do_not_fit_is_told_before_they_are_made() {
        let model = text::model("input x f32[n,5]\nconst w f32[5,2]\na = MatMul(x, w)\nconst v f32[3]\ny = Add(a, v)\noutput y").unwrap();
        let at = |rows: i64| misfit(&model, &Pins::from([("x".to_owned(), vec![rows, 5])]));
        assert!(at(1 << 20).is_none());
        let problem = at(1 << 22).unwrap().reason;
        assert!(problem.starts_with("y (Add): "), "{problem}");
    }

    #[test]
    fn what_cannot_be_counted_does_not_fit() {
        let constant = "input x f32[8]\nconst n i64[2] = 1099511627776, 1099511627776\nb = ConstantOfShape(n)\ns = ReduceSum(b) {keepdims=0}\ny = Mul(x, s)\noutput y";
        assert!(
            checked(constant, &[8], u64::MAX)
                .unwrap_err()
                .contains("more bytes than can be counted")
        );
        let conv = "input x f32[n,3,8,8]\nconst w f32[4,3,3,3]\ny = Conv(x, w) {pads=[1, 1, 1, 1]}\noutput y";
        assert!(
            checked(conv, &[1, 3, 8, 8], 8_000)
                .unwrap_err()
                .contains("its workspace")
        );
        assert_eq!(checked(conv, &[1, 3, 8, 8], 9_000), Ok(()));
    }

    #[test]
    fn loops_without_end_are_not_begun() {
        let looped = |trips: &str, given: &str| {
            format!(
                "input x f32[2]\nconst trips i64[] = {trips}\nconst c bool[] = 1\ny = Loop({given}, x) {{body=@body}}\noutput y\ngraph body\ninput i i64[]\ninput on bool[]\ninput s f32[2]\nmore = Identity(on)\nt = Tanh(s)\noutput more\noutput t\nend"
            )
        };
        let model = |trips: &str| looped(trips, "trips, _");
        assert_eq!(checked(&model("1000"), &[2], 1 << 20), Ok(()));
        for given in ["_, _", "_, c"] {
            let problem = checked(&looped("1", given), &[2], 1 << 20).unwrap_err();
            assert!(problem.contains("never ends"), "{given}: {problem}");
        }
        assert!(
            checked(&model("1099511627776"), &[2], 1 << 20)
                .unwrap_err()
                .contains("operations")
        );
    }
}
