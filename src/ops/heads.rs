//! What the rules of all attentions have in common: numbers of heads, caches, masks, and the two products.

use super::{Cut, InferError, NodeEdit, NodeView, RewriteError};
use crate::facts::Dim;
use crate::relation::{Builder, LabelId, Layout, Port, Reason, Term};

/// Softmax runs over the keys.
pub(super) const KEYS: Reason = Reason::operator("softmax over keys");
/// Keys that earlier calls left.
pub(super) const CACHE: Reason = Reason::operator("positions of a cache");
/// Queries that know their position.
pub(super) const CAUSAL: Reason = Reason::operator("causal attention counts positions");

/// A number of heads. Errors: the attribute is not there, or not above zero.
pub(super) fn heads(node: &NodeView, name: &str) -> Result<Dim, InferError> {
    node.int(name)
        .filter(|heads| *heads > 0)
        .map(Dim::Num)
        .ok_or_else(|| InferError(format!("no {name}")))
}

/// The width of one head. Errors: the heads do not divide the whole.
pub(super) fn split(width: &Dim, heads: &Dim) -> Result<Dim, InferError> {
    width
        .exact_div(heads)
        .ok_or_else(|| InferError(format!("{width} is no multiple of {heads} heads")))
}

/// Positions and width of the cache whose keys come in at `keys` and whose values at the next input; `None` without one.
/// Errors: only one of them comes in, or the keys do not have 4 axes.
pub(super) fn cached<'a>(
    node: &NodeView<'a>,
    keys: usize,
) -> Result<Option<[&'a Dim; 2]>, InferError> {
    match (node.shape(keys), node.shape(keys + 1)) {
        (None, None) => Ok(None),
        (Some([_, _, p, width]), Some(_)) => Ok(Some([p, width])),
        _ => Err(InferError(
            "past_key and past_value must both have 4 axes".into(),
        )),
    }
}

/// An axis of a mask that is broadcast to `layout`: it is tied where it has the same extent, comes from nowhere where it is 1,
/// and holds `labels` fast where neither is known.
pub(super) fn broadcast(builder: &mut Builder, dim: &Dim, extent: &Dim, layout: Layout) -> Layout {
    if dim == extent {
        return layout;
    }
    if dim.is_one() {
        return builder.fill(1i64).into();
    }
    let labels: Vec<LabelId> = layout.labels().collect();
    for label in labels {
        builder.fix(label, Reason::Dynamic);
    }
    builder.fixed("", dim.clone(), Reason::Dynamic).into()
}

/// Describes an input that is broadcast to `axes` from the right.
pub(super) fn broadcast_port(
    builder: &mut Builder,
    node: &NodeView,
    input: usize,
    name: &'static str,
    axes: &[(Dim, Layout)],
) {
    let Some(dims) = node.shape(input) else {
        return;
    };
    if dims.len() > axes.len() {
        return;
    }
    let axes = &axes[axes.len() - dims.len()..];
    let layouts: Vec<Layout> = dims
        .iter()
        .zip(axes)
        .map(|(dim, (extent, layout))| broadcast(builder, dim, extent, layout.clone()))
        .collect();
    builder.port(Port::In(input as u32), name, layouts);
}

/// The two products of attention: queries with keys (`d`), and probabilities, which exist only inside, with values (`e`).
/// `from`: the inputs that hold queries, keys and values. `past`: earlier keys, and the input that holds them (their values are
/// the next one).
pub(super) fn scores_and_values(
    builder: &mut Builder,
    [q, k, v]: [u32; 3],
    outer: &[LabelId],
    [d, e]: [LabelId; 2],
    t: LabelId,
    past: Option<(LabelId, u32)>,
) {
    let mut term = |data, weight, t: LabelId, width: LabelId, summed: LabelId| {
        let labels = outer.iter().copied().chain([t, width]).collect();
        builder.term(Term {
            data,
            weight: Some(Port::In(weight)),
            zero: None,
            labels,
            summed: vec![summed],
            window: None,
        });
    };
    term(Port::In(q), k, t, d, d);
    term(Port::Out(0), v, t, e, t);
    if let Some((p, at)) = past {
        term(Port::In(q), at, p, d, d);
        term(Port::Out(0), at + 1, p, e, p);
    }
}

/// The same where queries, keys and values exist only inside.
pub(super) fn inner_products(
    builder: &mut Builder,
    outer: &[LabelId],
    [d, e]: [LabelId; 2],
    t: LabelId,
) {
    for (width, summed) in [(d, d), (e, t)] {
        let labels = outer.iter().copied().chain([t, width]).collect();
        builder.term(Term {
            data: Port::Out(0),
            weight: None,
            zero: None,
            labels,
            summed: vec![summed],
            window: None,
        });
    }
}

/// Head counts held in attributes: of queries (`k·r`) and of keys (`k`).
pub(super) fn set_heads(
    node: &NodeView,
    cut: &Cut,
    edit: &mut NodeEdit,
    queries: &'static str,
    keys: &'static str,
) -> Result<(), RewriteError> {
    let count = |name: &str| cut.extent_of(name).and_then(|extent| extent.num());
    let (Some(k), Some(r)) = (count("k"), count("r")) else {
        return Err(RewriteError("head counts are not known numbers".into()));
    };
    for (name, heads) in [(queries, k * r), (keys, k)] {
        if node.int(name).is_some() {
            edit.set_int(name, heads);
        }
    }
    Ok(())
}

/// The factor before softmax is 1/√d of the original d, unless it is given: it must not change with d.
pub(super) fn keep_scale(cut: &Cut, edit: &mut NodeEdit, given: bool) -> Result<(), RewriteError> {
    let Some(d) = cut.relation.named("d") else {
        return Ok(());
    };
    if given || cut.kept(d).is_none() {
        return Ok(());
    }
    let extent = cut
        .relation
        .label(d)
        .extent
        .num()
        .ok_or_else(|| RewriteError("head size is no known number".into()))?;
    edit.set_float("scale", (1.0 / (extent as f64).sqrt()) as f32);
    Ok(())
}
