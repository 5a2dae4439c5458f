//! Linear attention: a recurrence over tokens with one state per head. Heads and dimensions of values may go; those of queries
//! and keys stay, for the delta rules read the state back with the keys.

use super::fit::{expect, frozen_misfit, unless_ranked};
use super::frozen::outputs;
use super::operand::{aligned, describe_or_freeze, free, layouts, per_axis};
use super::{Cut, InferError, NodeEdit, NodeView, Operator, RewriteError, Rule};
use crate::facts::{Dim, Fact};
use crate::relation::{Builder, LabelId, Layout, Port, Reason, Relation, Term};

/// LinearAttention (27 and later), also ONNX Runtime's: a recurrence over tokens with one state per value head.
struct LinearAttention;

/// The extents of a linear attention.
struct LinearExtents {
    b: Dim,
    t: Dim,
    /// Heads of keys.
    keys: i64,
    /// Heads of values, one state each.
    states: i64,
    /// Heads of queries.
    queries: i64,
    /// Head size of queries and keys.
    d: Dim,
    /// Head size of values.
    e: Dim,
    /// States of as many last tokens; 0: of the last one only, without an axis of their own.
    window: i64,
}

impl LinearExtents {
    /// `None` when a rank or a number of heads is unknown.
    fn of(node: &NodeView) -> Result<Option<Self>, InferError> {
        let (Some(q), Some(key), Some(v)) = (node.shape(0), node.shape(1), node.shape(2)) else {
            return Ok(None);
        };
        let ([b, t, width], [_, _, keys], [_, _, values]) = (q, key, v) else {
            return Err(InferError("query, key and value must have 3 axes".into()));
        };
        let count = |name| {
            node.int(name)
                .filter(|count| *count > 0)
                .ok_or_else(|| InferError(format!("no {name}")))
        };
        let (queries, states) = (count("q_num_heads")?, count("kv_num_heads")?);
        let frozen_misfit = || {
            InferError(format!(
                "{width}, {keys} and {values} channels of {queries} and {states} heads"
            ))
        };
        let (d, e) = (
            width.exact_div(&Dim::Num(queries)),
            values.exact_div(&Dim::Num(states)),
        );
        let (d, e) = (d.ok_or_else(frozen_misfit)?, e.ok_or_else(frozen_misfit)?);
        let Some(keys) = keys
            .exact_div(&d)
            .ok_or_else(frozen_misfit)?
            .num()
            .filter(|keys| *keys > 0)
        else {
            return Ok(None);
        };
        if states % keys != 0 || (queries % states != 0 && states % queries != 0) {
            return Err(frozen_misfit());
        }
        let window = node.int("state_window").unwrap_or(0).max(0);
        let extents = LinearExtents {
            b: b.clone(),
            t: t.clone(),
            keys,
            states,
            queries,
            d,
            e,
            window,
        };
        expect(node, 3, &extents.state().iter().collect::<Vec<_>>())?;
        Ok(Some(extents))
    }

    fn state(&self) -> Vec<Dim> {
        let window = (self.window > 0).then_some(Dim::Num(self.window));
        window
            .into_iter()
            .chain([
                self.b.clone(),
                Dim::Num(self.states),
                self.d.clone(),
                self.e.clone(),
            ])
            .collect()
    }

    /// Heads of the output: of the queries, or of the values where those are more.
    fn outputs(&self) -> Dim {
        Dim::Num(self.queries.max(self.states))
    }
}

/// The heads of each tensor as products: heads of values in as many steps as keys, queries and values share them out.
struct Heads {
    keys: Vec<LabelId>,
    states: Vec<LabelId>,
    queries: Vec<LabelId>,
    outputs: Vec<LabelId>,
}

impl Heads {
    /// `None` where keys and queries share the heads of the values out in ways that do not fit each other.
    fn new(builder: &mut Builder, at: &LinearExtents) -> Option<Self> {
        let shared = at.queries.min(at.states);
        let steps = [at.keys.min(shared), at.keys.max(shared), at.states];
        if steps[1] % steps[0] != 0 || steps[2] % steps[1] != 0 {
            return None;
        }
        let first = builder.free("k", steps[0]);
        let more =
            |builder: &mut Builder, extent: i64| (extent > 1).then(|| builder.free("k", extent));
        let middle = more(builder, steps[1] / steps[0]);
        let last = more(builder, steps[2] / steps[1]);
        let repeat = if at.queries > at.states {
            Some(builder.free("r", at.queries / at.states))
        } else {
            None
        };
        let upto = |heads: i64| -> Vec<LabelId> {
            let parts = [
                (steps[0], Some(first)),
                (steps[1], middle),
                (steps[2], last),
            ];
            parts
                .into_iter()
                .filter(|(extent, _)| *extent <= heads)
                .filter_map(|(_, label)| label)
                .collect()
        };
        let (states, with) = (upto(at.states), |heads: Vec<LabelId>| {
            heads.into_iter().chain(repeat).collect::<Vec<_>>()
        });
        Some(Heads {
            keys: upto(at.keys),
            queries: with(upto(shared)),
            outputs: with(states.clone()),
            states,
        })
    }
}

/// Heads, and one label more.
fn wide(heads: &[LabelId], width: LabelId) -> Layout {
    Layout::product(&[heads, &[width]].concat())
}

/// Describes gates of tokens `[b, t]`: one number for each head, one for each place of `each`, or one for all. `None`: they fit
/// none of these.
fn gates(
    builder: &mut Builder,
    (input, name): (u32, &'static str),
    [b, t]: [LabelId; 2],
    (number, heads): &(Dim, Layout),
    each: Option<Layout>,
) -> Option<()> {
    let Some(last) = builder
        .shape(Port::In(input))
        .and_then(<[Dim]>::last)
        .cloned()
    else {
        return Some(());
    };
    let layout = match each {
        _ if last == *number => heads.clone(),
        Some(each) if last == builder.extent(&each) => each,
        _ if last.is_one() => builder.fill(1i64).into(),
        _ => return None,
    };
    builder.port(Port::In(input), name, [b.into(), t.into(), layout]);
    Some(())
}

/// The two products with the keys: the one that reads the state for its update, and the one that gives the output.
fn update_and_read(
    builder: &mut Builder,
    [b, t]: [LabelId; 2],
    heads: &[LabelId],
    [d, e]: [LabelId; 2],
) {
    for _product in 0..2 {
        let labels = [b, t]
            .into_iter()
            .chain(heads.iter().copied())
            .chain([d, e])
            .collect();
        builder.term(Term {
            data: Port::Out(0),
            weight: Some(Port::In(1)),
            zero: None,
            labels,
            summed: vec![d],
            window: None,
        });
    }
}

impl Operator for LinearAttention {
    fn infer(&self, node: &NodeView) -> Result<Vec<Fact>, InferError> {
        let Some(at) = LinearExtents::of(node)? else {
            return Ok(outputs(node, []));
        };
        let y = vec![at.b.clone(), at.t.clone(), &at.outputs() * &at.e];
        let state = node.dtype(3).or_else(|| node.dtype(0));
        Ok(outputs(
            node,
            [Fact::new(node.dtype(0), y), Fact::new(state, at.state())],
        ))
    }

    fn relate(&self, node: &NodeView) -> Relation {
        if let Some(relation) = unless_ranked(node) {
            return relation;
        }
        let Ok(Some(at)) = LinearExtents::of(node) else {
            return frozen_misfit(node);
        };
        let mut builder = node.relation();
        let b = builder.free("b", at.b.clone());
        let t = builder.fixed("t", at.t.clone(), STEPS);
        let Some(heads) = Heads::new(&mut builder, &at) else {
            return node.frozen(Reason::operator(
                "keys and queries that share out the heads in different ways",
            ));
        };
        let d = builder.fixed(
            "d",
            at.d.clone(),
            Reason::operator("queries and keys of a recurrence"),
        );
        let e = builder.free("e", at.e.clone());
        let states = Layout::product(&heads.states);
        let row = |heads: &[LabelId], width: LabelId| [b.into(), t.into(), wide(heads, width)];
        builder.port(Port::In(0), "q", row(&heads.queries, d));
        builder.port(Port::In(1), "key", row(&heads.keys, d));
        builder.port(Port::In(2), "v", row(&heads.states, e));
        let window = (at.window > 0).then(|| Layout::from(builder.fixed("w", at.window, STEPS)));
        let state: Vec<Layout> = window
            .into_iter()
            .chain([b.into(), states.clone(), d.into(), e.into()])
            .collect();
        builder.port(Port::In(3), "past", state.clone());
        let of_heads = (Dim::Num(at.states), states);
        let each = wide(&heads.states, d);
        let decay = gates(&mut builder, (4, "decay"), [b, t], &of_heads, Some(each));
        if decay
            .and(gates(&mut builder, (5, "beta"), [b, t], &of_heads, None))
            .is_none()
        {
            return frozen_misfit(node);
        }
        builder.port(Port::Out(0), "y", row(&heads.outputs, e));
        builder.port(Port::Out(1), "next", state);
        update_and_read(&mut builder, [b, t], &heads.outputs, [d, e]);
        builder.finish()
    }

    fn rewrite(
        &self,
        _node: &NodeView,
        cut: &Cut,
        edit: &mut NodeEdit,
    ) -> Result<(), RewriteError> {
        let heads = |input: u32, width: &str| {
            let all = cut.dims(Port::In(input))?.pop()?;
            all.exact_div(&cut.extent_of(width)?)?.num()
        };
        let unknown = || RewriteError("head counts are not known numbers".into());
        edit.set_int("q_num_heads", heads(0, "d").ok_or_else(unknown)?);
        edit.set_int("kv_num_heads", heads(2, "e").ok_or_else(unknown)?);
        Ok(())
    }
}

/// Why tokens stay.
const STEPS: Reason = Reason::operator("time steps of a recurrence");

/// The gates of a linear attention, head by head.
struct DecayGate;

impl Operator for DecayGate {
    fn infer(&self, node: &NodeView) -> Result<Vec<Fact>, InferError> {
        let fact = |input| {
            node.input(input)
                .cloned()
                .unwrap_or_default()
                .with_contents(None)
        };
        Ok(outputs(node, [fact(0), fact(3)]))
    }

    fn relate(&self, node: &NodeView) -> Relation {
        describe_or_freeze(node, |node, builder| {
            let axes = free(builder, "p", node.shape(0)?);
            let (head, extent) = (*axes.last()?, node.shape(0)?.last()?);
            builder.port(Port::In(0), "a", axes.clone());
            per_axis(builder, 1, "bias", &head.into(), extent)?;
            per_axis(builder, 2, "scale", &head.into(), extent)?;
            if node.has_input(3) {
                aligned(builder, 3, "b", &layouts(&axes), node.shape(0)?)?;
            }
            builder.port(Port::Out(0), "decay", axes.clone());
            builder.port(Port::Out(1), "beta", axes);
            Some(())
        })
    }
}

pub(super) static RULES: &[Rule] = &[
    Rule::onnx("LinearAttention", &LinearAttention),
    Rule::microsoft("LinearAttention", &LinearAttention),
    Rule::microsoft("LinearAttentionGate", &DecayGate),
];

#[cfg(test)]
mod tests {
    use crate::ops::Setting;
    use crate::ops::case::OpCase;

    #[test]
    fn linear_attention_heads() {
        let heads = || {
            OpCase::op("LinearAttention")
                .at(27)
                .outputs(2)
                .int("q_num_heads", 4)
                .int("kv_num_heads", 4)
        };
        heads()
            .input("2x5x12")
            .input("2x5x12")
            .input("2x5x8")
            .none()
            .input("2x5x4")
            .input("2x5x1")
            .expect_shapes("2x5x8 2x4x3x2")
            .expect_relation("q[b, t, k·d] key[b, t, k·d] v[b, t, k·e] decay[b, t, k] beta[b, t, 1] → y[b, t, k·e] next[b, k, d, e]  Σ d; Σ d");
    }

    #[test]
    fn heads_in_groups() {
        let heads = |queries, states| {
            let start = OpCase::op("LinearAttention")
                .domain("com.microsoft")
                .at(1)
                .outputs(2);
            start
                .int("q_num_heads", queries)
                .int("kv_num_heads", states)
        };
        heads(8, 4).input("2x5x24").input("2x5x6").input("2x5x8").none().input("2x5x12").input("2x5x4").expect_shapes("2x5x16 2x4x3x2").expect_relation(
            "q[b, t, k·k2·r·d] key[b, t, k·d] v[b, t, k·k2·e] decay[b, t, k·k2·d] beta[b, t, k·k2] \
                 → y[b, t, k·k2·r·e] next[b, k·k2, d, e]  Σ d; Σ d",
        );
        let fewer = heads(2, 8)
            .int("state_window", 3)
            .input("2x5x6")
            .input("2x5x12")
            .input("2x5x16")
            .input("3x2x8x3x2");
        fewer.expect_shapes("2x5x16 3x2x8x3x2").expect_relation(
            "q[b, t, k·d] key[b, t, k·k2·d] v[b, t, k·k2·k3·e] past[w, b, k·k2·k3, d, e] \
             → y[b, t, k·k2·k3·e] next[w, b, k·k2·k3, d, e]  Σ d; Σ d",
        );
    }

    #[test]
    fn both_numbers_of_heads_follow() {
        let case = OpCase::op("LinearAttention")
            .at(27)
            .outputs(2)
            .int("q_num_heads", 8)
            .int("kv_num_heads", 4);
        let case = case.input("2x5x24").input("2x5x12").input("2x5x8");
        let edit = case.edit(&[("k", &[0, 2, 3])]).unwrap();
        assert_eq!(
            edit.settings,
            [
                ("q_num_heads", Setting::Int(6)),
                ("kv_num_heads", Setting::Int(3))
            ]
        );
    }

    #[test]
    fn gates_of_heads() {
        let gate = OpCase::op("LinearAttentionGate")
            .domain("com.microsoft")
            .at(1)
            .outputs(2)
            .input("bxtx6")
            .weight("6")
            .weight("6");
        gate.input("bxtx6")
            .expect_shapes("bxtx6 bxtx6")
            .expect_relation(
                "a[p, p2, p3] bias[p3] scale[p3] b[p, p2, p3] → decay[p, p2, p3] beta[p, p2, p3]",
            );
    }
}
