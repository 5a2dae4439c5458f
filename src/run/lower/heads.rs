//! Parts that all forms of attention share, as functions in ONNX's text syntax.

use super::builder::GraphBuilder;
use crate::proto::AttributeProto;
use crate::run::Unverifiable;

/// Batch × length × (heads · size) to batch × heads × length × size.
const SPLIT: &str = "SplitHeads (x, shape) => (y) {
    parted = Reshape (x, shape)
    y = Transpose <perm = [0, 2, 1, 3]> (parted)
}";

/// Scaled products of queries and keys.
const LOGITS: &str = "Logits <scale: float> (q, k) => (y) {
    turned = Transpose <perm = [0, 1, 3, 2]> (k)
    product = MatMul (q, turned)
    factor = Constant <value_float = @scale> ()
    y = Mul (product, factor)
}";

/// Adds `low` where a key is not to be seen.
const MASKED: &str = "Masked <low: float> (logits, kept) => (y) {
    zero = Constant <value_float = 0.0> ()
    low = Constant <value_float = @low> ()
    mask = Where (kept, zero, low)
    y = Add (logits, mask)
}";

/// Values weighted by the softmax of logits, with the heads side by side again.
const MIX: &str = "Mix (logits, v, shape) => (y) {
    weights = Softmax <axis = 3> (logits)
    mixed = MatMul (weights, v)
    turned = Transpose <perm = [0, 2, 1, 3]> (mixed)
    y = Reshape (turned, shape)
}";

/// True at keys that stand before each sample's length.
const WITHIN: &str = "Within (positions, lengths) => (kept) {
    axes = Constant <value_ints = [1, 2, 3]> ()
    whole = Cast <to = 7> (lengths)
    ends = Unsqueeze (whole, axes)
    kept = Less (positions, ends)
}";

/// A mask of batch × keys, or of batch × length × keys, with an axis for the heads.
const SPREAD: &str = "Spread <axes: ints> (mask) => (kept) {
    axes = Constant <value_ints = @axes> ()
    spread = Unsqueeze (mask, axes)
    kept = Cast <to = 9> (spread)
}";

/// True at keys that are not behind their query, which is the last of so many more keys.
const CAUSAL: &str = "Causal (keys, queries, shift) => (kept) {
    end = Add (queries, shift)
    kept = Less (keys, end)
}";

/// Sizes of an attention: `keys` is the number of keys, past ones among them.
#[derive(Clone, Copy)]
pub(super) struct HeadSizes {
    pub(super) batch: i64,
    pub(super) length: i64,
    pub(super) keys: i64,
    pub(super) heads: i64,
}

/// Puts heads before positions.
pub(super) fn split(
    builder: &mut GraphBuilder,
    x: &str,
    heads: i64,
    width: i64,
) -> Result<String, Unverifiable> {
    let shape = builder.ints(&[0, 0, heads, width / heads]);
    builder.call(SPLIT, &[x, &shape], Vec::new())
}

/// Logits of queries and keys, both batch × heads × length × size. A scale of 0 counts as none given.
pub(super) fn logits(
    builder: &mut GraphBuilder,
    q: &str,
    k: &str,
    scale: Option<f32>,
    size: i64,
) -> Result<String, Unverifiable> {
    let scale = scale
        .filter(|scale| *scale != 0.0)
        .unwrap_or(1.0 / (size as f32).sqrt());
    builder.call(LOGITS, &[q, k], vec![AttributeProto::float("scale", scale)])
}

/// Adds `low` to logits where `kept` is false.
pub(super) fn masked(
    builder: &mut GraphBuilder,
    logits: &str,
    kept: &str,
    low: f32,
) -> Result<String, Unverifiable> {
    let low = vec![AttributeProto::float("low", low)];
    builder.call(MASKED, &[logits, kept], low)
}

/// Truth values from a mask of com.microsoft's operators, by its extents; `None` for a form that is not known.
pub(super) fn kept(
    builder: &mut GraphBuilder,
    mask: &str,
    dims: &[i64],
    sizes: HeadSizes,
) -> Result<Option<String>, Unverifiable> {
    let axes: &[i64] = match dims {
        [_, _] => &[1, 2],
        [_, _, _] => &[1],
        // One of twice the batch's size also holds where each sample begins.
        [lengths] if *lengths == sizes.batch => {
            let positions = builder.positions(sizes.keys, &[1, 1, 1, -1]);
            let kept = builder.call(WITHIN, &[&positions, mask], Vec::new())?;
            return Ok(Some(kept));
        }
        _ => return Ok(None),
    };
    let axes = vec![AttributeProto::ints("axes", axes)];
    Ok(Some(builder.call(SPREAD, &[mask], axes)?))
}

/// Logits at which no query sees a key behind it; the queries are the last of the keys.
pub(super) fn causal(
    builder: &mut GraphBuilder,
    logits: &str,
    sizes: HeadSizes,
) -> Result<String, Unverifiable> {
    let keys = builder.positions(sizes.keys, &[1, 1, 1, -1]);
    let queries = builder.positions(sizes.length, &[1, 1, -1, 1]);
    let shift = builder.ints(&[sizes.keys - sizes.length + 1]);
    let kept = builder.call(CAUSAL, &[&keys, &queries, &shift], Vec::new())?;
    masked(builder, logits, &kept, f32::MIN)
}

/// Values mixed by the softmax of logits, in this shape.
pub(super) fn mix(
    builder: &mut GraphBuilder,
    logits: &str,
    v: &str,
    shape: &[i64],
) -> Result<String, Unverifiable> {
    let shape = builder.ints(shape);
    builder.call(MIX, &[logits, v, &shape], Vec::new())
}
