//! A prepared copy as a plan that can be run.

use std::sync::Arc;

use tract_onnx::prelude::{
    InferenceModelExt, TValue, TVec, TractResult, TypedModel, TypedRunnableModel,
};
use tract_onnx::tract_hir::internal::IntoRunnable;

use super::guard::{TractFailure, guard};
use super::optimize::{Extent, optimized};
use super::skeleton::{parse, select};
use super::weights::Weights;
use crate::model::edit::NodeExt;
use crate::proto::{GraphProto, ModelProto};
use crate::run::Unverifiable;

/// How tract computes: fused and packed, or node by node.
pub(super) type TractPlan = Arc<TypedRunnableModel>;

/// The typed form, from which both plans are made.
pub(super) fn typed(
    proto: &ModelProto,
    weights: &Weights,
    inputs: &[String],
    outputs: &[String],
) -> Result<TypedModel, Unverifiable> {
    guard(|| select(parse(proto, weights)?, inputs, outputs)?.into_typed())
        .map_err(|error| refused("reads", &error))
}

pub(super) fn plain(typed: TypedModel) -> Result<TractPlan, Unverifiable> {
    guard(|| typed.into_runnable()).map_err(|error| refused("plans", &error))
}

/// What of a failing optimizer means that the plain form computes wrongly as well, without a word.
const WRONG_PLAIN: &[&str] = &["Mask must be floating point"];

fn is_wrong_plain(error: &TractFailure) -> bool {
    let text = error.to_string();
    WRONG_PLAIN.iter().any(|wrong| text.contains(wrong))
}

/// Nodes of a graph up to which passes over the whole of it are made: each change of theirs takes time with all nodes.
const LARGE: usize = 4096;

/// The fastest plan that is no faster than what is trusted and can be made.
pub(super) fn fastest(
    typed: &TypedModel,
    graph: &GraphProto,
    trusted: Trust,
) -> Result<(TractPlan, Trust), Unverifiable> {
    if has_quantized_softmax(graph) {
        return Ok((plain(typed.clone())?, Trust::Plain));
    }
    let whole = (graph.node.len() <= LARGE).then_some(Extent::Full);
    for extent in whole
        .into_iter()
        .chain([Extent::NodeByNode])
        .filter(|extent| Trust::Optimized(*extent) >= trusted)
    {
        match at(typed, extent) {
            Ok(plan) => return Ok((plan, Trust::Optimized(extent))),
            Err(error) if is_wrong_plain(&error) => return Err(refused("optimizes", &error)),
            Err(error) => {
                tracing::debug!(%error, ?extent, "tract does not optimize the model");
            }
        }
    }
    Ok((plain(typed.clone())?, Trust::Plain))
}

/// The plan that is optimized so far. Errors: what tract says.
pub(super) fn at(typed: &TypedModel, extent: Extent) -> Result<TractPlan, TractFailure> {
    guard(|| optimized(typed.clone(), extent)?.into_runnable())
}

/// Which plan it is, the fastest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Trust {
    Optimized(Extent),
    Plain,
}

pub(super) fn run(plan: &TractPlan, inputs: TVec<TValue>) -> Result<TVec<TValue>, TractFailure> {
    guard(|| -> TractResult<_> { plan.run(inputs) })
}

fn refused(verb: &str, error: &TractFailure) -> Unverifiable {
    Unverifiable::new(format!(
        "the runtime tract fails as it {verb} the model: {error}"
    ))
}

/// A softmax between quantizing nodes, which tract fuses into one that is wrong.
fn has_quantized_softmax(graph: &GraphProto) -> bool {
    let made_by = |name: &str, op: &str| {
        graph
            .node
            .iter()
            .any(|node| node.op_type() == op && node.output(0) == Some(name))
    };
    let read_by = |name: &str, op: &str| {
        graph
            .node
            .iter()
            .any(|node| node.op_type() == op && node.input(0) == Some(name))
    };
    graph
        .node
        .iter()
        .filter(|node| node.key() == ("", "Softmax"))
        .any(|node| {
            node.input(0)
                .is_some_and(|x| made_by(x, "DequantizeLinear"))
                && node.output(0).is_some_and(|y| read_by(y, "QuantizeLinear"))
        })
}
