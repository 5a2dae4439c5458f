//! Mixtures of experts: the neurons inside them may go, the same in every expert, and whole experts, with what a router says of
//! them.

use super::router::{ROUTED, enough, of_router, routed, used};
use crate::facts::{Dim, Fact};
use crate::ops::fit::{expect, frozen_misfit, unless_ranked};
use crate::ops::frozen::same;
use crate::ops::{Cut, InferError, NodeEdit, NodeView, Operator, RewriteError, Rule};
use crate::relation::{Builder, LabelId, Layout, Port, Reason, Relation, Term};

/// MoE: two layers per expert, or three with separate gates.
struct Mixture;

/// How a first layer holds gates beside its neurons.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Gates {
    None,
    Interleaved,
    Halves,
}

/// Experts, neurons of each, channels, and how gates are held.
fn extents(node: &NodeView) -> Option<(Dim, Dim, Dim, Gates)> {
    let [experts, c, n] = node.shape(4)? else {
        return None;
    };
    let [_, rows, _] = node.shape(2)? else {
        return None;
    };
    let twice = n + n;
    let gates = match node.int("swiglu_fusion").unwrap_or(0) {
        _ if rows == n => Gates::None,
        1 if *rows == twice => Gates::Interleaved,
        2 if *rows == twice => Gates::Halves,
        _ => return None,
    };
    let [tokens, _] = node.shape(1)? else {
        return None;
    };
    let fits = expect(node, 1, &[tokens, experts])
        .and(expect(node, 2, &[experts, rows, c]))
        .and(expect(node, 3, &[experts, rows]))
        .and(expect(node, 5, &[experts, c]))
        .and(expect(node, 6, &[experts, n, c]))
        .and(expect(node, 7, &[experts, n]));
    let channels = node.shape(0)?.last()?;
    (fits.is_ok() && !channels.differs(c)).then(|| (experts.clone(), n.clone(), c.clone(), gates))
}

/// The products with the layers of every expert; `two` is the label of a first layer's gates beside its neurons.
fn sums(
    builder: &mut Builder,
    node: &NodeView,
    outer: &[LabelId],
    [n, c]: [LabelId; 2],
    two: Option<LabelId>,
) {
    let mut term = |data, weight, summed: LabelId, twice: bool| {
        let labels = outer
            .iter()
            .copied()
            .chain([n, c])
            .chain(two.filter(|_| twice))
            .collect();
        builder.term(Term {
            data,
            weight: Some(Port::In(weight)),
            zero: None,
            labels,
            summed: vec![summed],
            window: None,
        });
    };
    term(Port::In(0), 2, c, true);
    if node.has_input(6) {
        term(Port::In(0), 6, c, false);
    }
    // The neurons exist only inside.
    term(Port::Out(0), 4, n, false);
}

impl Operator for Mixture {
    fn infer(&self, node: &NodeView) -> Result<Vec<Fact>, InferError> {
        same(node)
    }

    fn relate(&self, node: &NodeView) -> Relation {
        if let Some(relation) = unless_ranked(node) {
            return relation;
        }
        let (Some((experts, n, c, gates)), Some([outer @ .., _])) = (extents(node), node.shape(0))
        else {
            return frozen_misfit(node);
        };
        let mut builder = node.relation();
        let tokens: Vec<LabelId> = outer
            .iter()
            .map(|dim| builder.fixed("s", dim.clone(), ROUTED))
            .collect();
        let used = builder.fixed("", used(node), ROUTED);
        let experts = routed(&mut builder, node, experts);
        let n = builder.free("n", n);
        let c = builder.free("c", c);
        let two = builder.fixed("", 2i64, Reason::structure("gates"));
        let rows = match gates {
            Gates::None => n.into(),
            Gates::Interleaved => Layout::product(&[n, two]),
            Gates::Halves => Layout::product(&[two, n]),
        };
        let data: Vec<LabelId> = tokens.iter().copied().chain([c]).collect();
        builder.port(Port::In(0), "x", data.clone());
        of_router(&mut builder, node, (1, "router"), experts);
        builder.port(Port::In(2), "w1", [experts.into(), rows.clone(), c.into()]);
        builder.port(Port::In(3), "bias1", [experts.into(), rows]);
        builder.port(Port::In(4), "w2", [experts, c, n]);
        builder.port(Port::In(5), "bias2", [experts, c]);
        builder.port(Port::In(6), "w3", [experts, n, c]);
        builder.port(Port::In(7), "bias3", [experts, n]);
        builder.port(Port::Out(0), "y", data);
        let outer = [&tokens[..], &[used]].concat();
        let two = (gates != Gates::None).then_some(two);
        sums(&mut builder, node, &outer, [n, c], two);
        builder.finish()
    }

    fn rewrite(&self, node: &NodeView, cut: &Cut, _: &mut NodeEdit) -> Result<(), RewriteError> {
        enough(node, cut)
    }
}

pub(in crate::ops) static RULES: &[Rule] = &[Rule::microsoft("MoE", &Mixture)];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::case::OpCase;
    use crate::relation::{Fate, Routing};

    #[test]
    fn neurons_of_experts() {
        let moe = || {
            OpCase::op("MoE")
                .domain("com.microsoft")
                .at(1)
                .int("k", 2)
                .input("2x5x8")
                .input("10x3")
        };
        moe()
            .weight("3x6x8")
            .weight("3x6")
            .weight("3x8x6")
            .weight("3x8")
            .expect_shapes("2x5x8")
            .expect_relation("x[s, s2, c] router[10, E] w1[E, n, c] bias1[E, n] w2[E, c, n] bias2[E, c] → y[s, s2, c]  Σ c; Σ n");
        moe()
            .int("swiglu_fusion", 1)
            .weight("3x12x8")
            .none()
            .weight("3x8x6")
            .expect_relation(
                "x[s, s2, c] router[10, E] w1[E, n·2, c] w2[E, c, n] → y[s, s2, c]  Σ c; Σ n",
            );
    }

    #[test]
    fn as_many_experts_stay_as_a_router_takes() {
        let moe = |k: i64| {
            let start = OpCase::op("MoE").domain("com.microsoft").at(1).int("k", k);
            let router = start.input("10x8").input("10x3");
            let first = router.weight("3x6x8").none();
            first.weight("3x8x6")
        };
        let fate = |k: i64| {
            moe(k).view(|node| {
                let relation = Mixture.relate(node);
                relation.label(relation.named("E").unwrap()).fate.clone()
            })
        };
        assert!(matches!(
            fate(2),
            Fate::Routed(Routing {
                least: 2,
                by: Port::In(1),
                ..
            })
        ));
        assert!(matches!(fate(3), Fate::Fixed(_)) && matches!(fate(0), Fate::Fixed(_)));
        assert!(moe(2).edit(&[("E", &[0, 2])]).is_ok());
        assert!(moe(2).edit(&[("E", &[1])]).is_err());
    }
}
