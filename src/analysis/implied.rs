//! Extents of inputs that operators imply: an axis runs over the same indices as another one, whose extent is known.

use std::collections::BTreeSet;

use super::infer::{Facts, InputShapes, infer_open};
use super::relate::{port_value, relate};
use super::runs::Runs;
use crate::facts::Dim;
use crate::model::{Model, NodeId};
use crate::relation::{LabelId, Relation, Segment};

/// The numbers that operators which run imply for an open extent of the inputs, ascending. `shapes` are those of the inputs,
/// all but this symbol known. Several where operators do not agree, or may broadcast.
pub fn implied(model: &Model, shapes: &InputShapes, symbol: &Dim) -> BTreeSet<i64> {
    let facts = infer_open(model, shapes);
    let relations = relate(model, &facts);
    let runs = Runs::new(model, &facts);
    let mut numbers = BTreeSet::new();
    for (node, entry) in model.index().nodes() {
        if runs.share(entry.graph) > 0.0 {
            numbers.extend(at_node(
                model,
                &facts,
                node,
                &relations[node.index()],
                symbol,
            ));
        }
    }
    numbers
}

/// The known extents of what shares an index space with the symbol at one node.
fn at_node(
    model: &Model,
    facts: &Facts,
    node: NodeId,
    relation: &Relation,
    symbol: &Dim,
) -> BTreeSet<i64> {
    // Every axis that runs over one label alone, with its extent.
    let axes: Vec<(LabelId, &Dim)> = relation
        .ports
        .iter()
        .filter_map(|(port, layout)| {
            let fact = facts.of(port_value(model, node, *port)?);
            Some(layout.axes.iter().zip(fact.shape.as_ref()?))
        })
        .flatten()
        .filter_map(|(layout, dim)| match &layout.0[..] {
            [Segment::Product(labels)] => match labels[..] {
                [label] => Some((label, dim)),
                _ => None,
            },
            _ => None,
        })
        .collect();
    let open: BTreeSet<LabelId> = axes
        .iter()
        .filter(|(_, dim)| *dim == symbol)
        .map(|(label, _)| *label)
        .collect();
    let beside = axes
        .iter()
        .filter(|(label, _)| open.contains(label))
        .filter_map(|(_, dim)| dim.num());
    let labels = open
        .iter()
        .filter_map(|label| relation.label(*label).extent.num());
    beside.chain(labels).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::text;

    fn found(text: &str, shapes: &[(&str, &[&str])]) -> Vec<i64> {
        let dim = |text: &&str| text.parse().map_or_else(|_| Dim::symbol(text), Dim::Num);
        let shapes = shapes
            .iter()
            .map(|(name, dims)| ((*name).to_owned(), dims.iter().map(dim).collect()));
        let model = text::model(text).unwrap();
        let found = implied(&model, &shapes.collect(), &Dim::symbol("s"));
        found.into_iter().collect()
    }

    #[test]
    fn an_axis_is_as_long_as_what_it_runs_with() {
        let product = "input x f32[n,s]\nconst w f32[12,4]\ny = MatMul(x, w)\noutput y";
        assert_eq!(found(product, &[("x", &["1", "s"])]), [12]);
        let recurrent =
            "input x f32[t,n,3]\ninput h f32[1,s,4]\nconst w f32[1,16,3]\nconst r f32[1,16,4]
            y, z = LSTM(x, w, r, , , h) {hidden_size=4}\noutput y";
        let shapes: [(&str, &[&str]); 2] = [("x", &["5", "7", "3"]), ("h", &["1", "s", "4"])];
        assert_eq!(found(recurrent, &shapes), [7]);
        let alone = "input x f32[n,s]\ny = Relu(x)\noutput y";
        assert!(found(alone, &[("x", &["1", "s"])]).is_empty());
    }
}
