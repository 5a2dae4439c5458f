//! Which inputs hold ids of tokens, and which outputs have an entry for each.

use std::borrow::Cow;
use std::collections::BTreeSet;

use super::VocabularyError;
use crate::analysis::Facts;
use crate::analysis::{Holder, KeptTokens, Pins, TokenAxis, TokenEnds, infer, picked, relate};
use crate::calibrate::ModelInputs;
use crate::constants::functions;
use crate::inputs::{InputKind, InputSpec};
use crate::model::{Index, Model};

/// The vocabulary of a model: what the input with the most ids picks from. All of its tokens are kept.
///
/// Errors: no such input; one whose ids are computed with, which names the node; several that pick from different tables.
pub fn find(model: &Model, wanted: &ModelInputs) -> Result<KeptTokens, VocabularyError> {
    let (rows, inputs) = most_ids(&wanted.specs).ok_or(VocabularyError::None)?;
    let inlined = functions::inlined(model).ok().flatten();
    let model = inlined.map_or(Cow::Borrowed(model), |(inlined, _)| Cow::Owned(inlined));
    let facts = infer(&model, &Pins::new());
    let relations = relate(&model, &facts);
    let mut axes: Vec<(String, Vec<TokenAxis>)> = Vec::new();
    for name in inputs {
        let value = model
            .index()
            .main_value(&name)
            .ok_or(VocabularyError::None)?;
        let found = picked(&model, &facts, &relations, value).map_err(|holder| {
            let at = match holder {
                Holder::Node(node) => model.node_label(node).to_owned(),
                Holder::End(value) => model.index().value(value).name.clone(),
            };
            VocabularyError::Computes {
                input: name.clone(),
                at,
            }
        })?;
        let extents: BTreeSet<String> = found
            .iter()
            .map(|axis| {
                relations[axis.node.index()]
                    .label(axis.label)
                    .extent
                    .to_string()
            })
            .collect();
        if extents.len() > 1 {
            return Err(VocabularyError::Differ {
                input: name,
                rows: extents.into_iter().collect::<Vec<_>>().join(", "),
            });
        }
        axes.push((name, found));
    }
    one_vocabulary(&axes, rows)?;
    Ok(KeptTokens {
        ends: TokenEnds {
            inputs: axes.into_iter().map(|(name, _)| name).collect(),
            outputs: outputs(&model, &facts, rows),
        },
        rows,
        kept: (0..rows as u32).collect(),
    })
}

/// How many ids there are at most, and the inputs that may hold as many.
fn most_ids(specs: &[InputSpec]) -> Option<(usize, Vec<String>)> {
    let rows = |spec: &InputSpec| {
        let (low, high) = spec.range.filter(|_| spec.dtype.is_integer())?;
        let holds_ids = spec.kind == InputKind::Indices && low == 0;
        usize::try_from(high + 1).ok().filter(|_| holds_ids)
    };
    let most = specs.iter().filter_map(rows).max()?;
    let named = specs.iter().filter(|spec| rows(spec) == Some(most));
    Some((most, named.map(|spec| spec.name.clone()).collect()))
}

/// Errors: inputs that pick from different tables.
fn one_vocabulary(axes: &[(String, Vec<TokenAxis>)], rows: usize) -> Result<(), VocabularyError> {
    let tables =
        |found: &[TokenAxis]| -> BTreeSet<_> { found.iter().map(|axis| axis.table).collect() };
    let first = axes
        .first()
        .map(|(_, found)| tables(found))
        .unwrap_or_default();
    let shares = |(_, found): &(String, Vec<TokenAxis>)| !first.is_disjoint(&tables(found));
    if first.is_empty() {
        return Err(VocabularyError::None);
    }
    if axes.iter().all(shares) {
        return Ok(());
    }
    let names: Vec<String> = axes.iter().map(|(name, _)| format!("'{name}'")).collect();
    Err(VocabularyError::Several {
        inputs: names.join(", "),
        rows,
    })
}

/// Outputs of real numbers that have so many entries along their last axis.
fn outputs(model: &Model, facts: &Facts, rows: usize) -> BTreeSet<(String, usize)> {
    let axis = |value: &crate::model::ValueId| {
        let fact = facts.of(*value);
        let shape = fact.shape.as_deref()?;
        let last = shape.last()?.count()?;
        let scores = fact.dtype.is_some_and(|dtype| dtype.is_float());
        let name = model.index().value(*value).name.clone();
        (scores && shape.len() > 1 && last == rows).then(|| (name, shape.len() - 1))
    };
    let outputs = &model.index().graph(Index::MAIN).outputs;
    outputs.iter().filter_map(axis).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::calibrate::declared_inputs;
    use crate::model::text;

    fn found(text: &str) -> Result<KeptTokens, VocabularyError> {
        let (model, pins) = (text::model(text).unwrap(), Pins::new());
        let wanted = ModelInputs::new(&model, declared_inputs(&model, &pins, None), &pins);
        find(&model, &wanted.unwrap())
    }

    fn refused(text: &str) -> String {
        found(text).unwrap_err().to_string()
    }

    #[test]
    fn the_input_with_the_most_ids_holds_tokens() {
        let net = "input input_ids i64[b,s]\ninput token_type_ids i64[b,s]\nconst t f32[30,4]\nconst u f32[2,4]\n\
            const w f32[4,30]\nid = Cast(input_ids) {to=6}\na = Gather(t, id)\nc = Gather(u, token_type_ids)\n\
            d = Add(a, c)\nlogits = MatMul(d, w)\noutput logits\noutput d";
        let found = found(net).unwrap();
        assert_eq!((found.rows, found.kept.len()), (30, 30));
        assert_eq!(found.ends.inputs, BTreeSet::from(["input_ids".to_owned()]));
        assert_eq!(
            found.ends.outputs,
            BTreeSet::from([("logits".to_owned(), 2)])
        );
    }

    #[test]
    fn shapes_of_ids_and_parts_of_them_may_be_read() {
        let net = "input ids i64[b,8]\nconst t f32[30,4]\nconst at i64[1] = 1\nconst to i64[1] = 5\nconst ax i64[1] = 1\n\
            p = Slice(ids, at, to, ax)\nx = Gather(t, p)\nz = Gather(t, ids)\nn = Shape(ids)\noutput x\noutput z\noutput n";
        assert_eq!(found(net).unwrap().rows, 30);
    }

    #[test]
    fn ids_that_are_computed_with_are_refused_by_the_node() {
        let net = |line: &str| {
            format!(
                "input ids i64[b,s]\nconst t f32[30,4]\nconst c i64[] = 3\nx = Gather(t, ids)\n{line}\noutput x\noutput odd"
            )
        };
        for line in [
            "odd = Mul(ids, c)",
            "odd = Cast(ids) {to=1}",
            "odd = Equal(ids, c)",
            "odd = Concat(ids, ids) {axis=1}",
            "const p i64[4] = 0,1,0,0\nodd = Pad(ids, p)",
        ] {
            let said = refused(&net(line));
            assert!(
                said.contains("'odd'") && said.contains("'ids'"),
                "{line}: {said}"
            );
        }
        let given = "input ids i64[b,s]\nconst t f32[30,4]\nx = Gather(t, ids)\nodd = Identity(ids)\noutput x\noutput odd";
        assert!(refused(given).contains("'odd'"));
    }

    #[test]
    fn what_cannot_be_told_is_refused() {
        let none = "input x f32[b,4]\nconst w f32[4,4]\ny = MatMul(x, w)\noutput y";
        assert!(matches!(found(none), Err(VocabularyError::None)));
        let two = "input a i64[b,s]\ninput c i64[b,s]\nconst t f32[30,4]\nconst u f32[30,4]\nx = Gather(t, a)\n\
            y = Gather(u, c)\noutput x\noutput y";
        assert!(matches!(found(two), Err(VocabularyError::Several { .. })));
        let one = two.replace("Gather(u, c)", "Gather(t, c)");
        assert_eq!(found(&one).unwrap().ends.inputs.len(), 2);
        let uneven = "input a i64[b,s]\nconst t f32[30,4]\nconst u f32[31,4]\nx = Gather(t, a)\ny = Gather(u, a)\noutput x\noutput y";
        assert!(matches!(found(uneven), Err(VocabularyError::Differ { .. })));
    }
}
