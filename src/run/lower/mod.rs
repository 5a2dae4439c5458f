//! Lowers a model to a copy that tract computes rightly. Every rewrite is exact.
//!
//! Invariant: values of the main graph keep their names, so outputs and taps can be found in the copy. Families of rules know
//! [`rule`] and the builder, and nothing of each other; only the table here knows them.

mod activations;
mod apply;
mod attention;
mod batch_norm;
mod bits;
mod blocks;
mod branch;
mod builder;
mod columns;
mod contents;
mod embedding;
mod follow;
mod fused;
mod grouped_query;
mod heads;
mod indices;
mod inferred;
mod inputs;
mod learning;
mod loops;
mod lowering;
mod multi_head;
mod pads;
mod passes;
mod precision;
mod products;
mod quantized;
mod quantized_lstm;
mod recurrent;
mod reduce;
mod rotary;
mod row_sums;
mod rule;
mod sequences;
mod shapes;
mod sparse;
mod spectra;
mod steps;
mod upsample;

pub use follow::without_sequences;
pub use inferred::{Infer, InferredFacts};
pub(super) use passes::LoweredModel;

use crate::model::Model;
use crate::run::{Tensors, Unverifiable};

/// All families of rules.
const FAMILIES: &[&[rule::LoweringRule]] = &[
    activations::RULES,
    attention::RULES,
    batch_norm::RULES,
    bits::RULES,
    columns::RULES,
    embedding::RULES,
    fused::RULES,
    grouped_query::RULES,
    indices::RULES,
    learning::RULES,
    multi_head::RULES,
    pads::RULES,
    products::RULES,
    quantized::RULES,
    quantized_lstm::RULES,
    recurrent::RULES,
    reduce::RULES,
    rotary::RULES,
    shapes::RULES,
    spectra::RULES,
    steps::RULES,
    upsample::RULES,
];

/// Lowers a copy of `model` for inputs of the shapes of `example`.
pub(super) fn lower(
    model: &Model,
    example: &Tensors,
    taps: &[String],
    infer: &Infer,
) -> Result<LoweredModel, Unverifiable> {
    passes::lower(
        model,
        example,
        taps,
        infer,
        &apply::LoweringTable::new(FAMILIES),
    )
}
