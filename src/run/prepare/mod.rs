//! A copy of the model that tract computes rightly: every rewrite here is exact, one file each.
//!
//! Invariant: values of the main graph keep their names, so outputs and taps can be found in the copy.

mod attention;
mod batch_norm;
mod bits;
mod blocks;
mod branch;
mod columns;
mod contents;
mod contrib;
mod draft;
mod embedding;
mod follow;
mod indices;
mod inputs;
mod known;
mod loops;
mod multi_head;
mod node;
mod older;
mod pads;
mod precision;
mod quantized;
mod quantized_lstm;
mod recurrent;
mod reduce;
mod rules;
mod sequences;
mod sparse;
mod spectra;
mod steps;
mod wire;

pub(super) use draft::prepare;
pub use follow::without_sequences;
pub use known::{Infer, Known};
pub(super) use node::{input, int, kind, label, output, text, texts};
