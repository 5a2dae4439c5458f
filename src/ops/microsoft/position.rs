//! What heads know of positions: rotations of queries and keys, and biases by distance.

use super::attention::MASK;
use crate::facts::{Dim, Fact};
use crate::ops::fit::{expect, freeze_port, frozen_misfit, unless_ranked};
use crate::ops::frozen::{extent_in, outputs};
use crate::ops::heads::{heads, split};
use crate::ops::rotary::{POSITIONS, ROTATION};
use crate::ops::{Cut, InferError, NodeEdit, NodeView, Operator, RewriteError, Rule};
use crate::proto::Dtype;
use crate::relation::{LabelId, Layout, Port, Reason, Relation, Term};

/// GemmaRotaryEmbedding: queries and keys rotated together, with their halves changed places already.
struct Gemma;

impl Operator for Gemma {
    fn infer(&self, node: &NodeView) -> Result<Vec<Fact>, InferError> {
        let like = |input| {
            node.input(input)
                .cloned()
                .unwrap_or_default()
                .with_contents(None)
        };
        Ok(outputs(node, [like(1), like(3)]))
    }

    fn relate(&self, node: &NodeView) -> Relation {
        if let Some(relation) = unless_ranked(node) {
            return relation;
        }
        let (Some([_, _, width]), Some([b, h, s, d]), Some([_, more, _, _])) =
            (node.shape(0), node.shape(1), node.shape(3))
        else {
            return frozen_misfit(node);
        };
        let fits = expect(node, 2, &[b, h, s, d])
            .and(expect(node, 3, &[b, more, s, d]))
            .and(expect(node, 4, &[b, more, s, d]));
        if fits.is_err() || width.differs(d) {
            return frozen_misfit(node);
        }
        let mut builder = node.relation();
        // Angles may hold for the whole batch.
        let (b, s) = (
            builder.fixed("b", b.clone(), POSITIONS),
            builder.fixed("s", s.clone(), POSITIONS),
        );
        let (h, g) = (
            builder.free("h", h.clone()),
            builder.free("g", more.clone()),
        );
        let d = builder.free("d", d.clone());
        let angles = node
            .shape(0)
            .unwrap_or_default()
            .iter()
            .take(2)
            .map(|dim| builder.fixed("", dim.clone(), POSITIONS));
        let angles: Vec<LabelId> = angles.collect();
        builder.port(Port::In(0), "angles", angles.into_iter().chain([d]));
        for (input, name, heads) in [(1, "q", h), (2, "q2", h), (3, "key", g), (4, "key2", g)] {
            builder.port(Port::In(input), name, [b, heads, s, d]);
        }
        builder.port(Port::Out(0), "y", [b, h, s, d]);
        builder.port(Port::Out(1), "y2", [b, g, s, d]);
        builder.finish()
    }
}

/// RMSNormRotary: a slice of the last axis is normalised and rotated, head by head.
struct NormRotary;

impl NormRotary {
    fn flattens(node: &NodeView) -> bool {
        node.int("flatten_batch").unwrap_or(0) != 0
    }
}

impl Operator for NormRotary {
    fn infer(&self, node: &NodeView) -> Result<Vec<Fact>, InferError> {
        let half = if node.int("output_fp16").unwrap_or(0) != 0 {
            Dtype::Float16
        } else {
            Dtype::Bfloat16
        };
        let (Some([b, s, h, _]), Some([width])) = (node.shape(0), node.shape(1)) else {
            return Ok(outputs(node, []));
        };
        let front = if Self::flattens(node) {
            [Dim::Num(1), b * s]
        } else {
            [b.clone(), s.clone()]
        };
        let y = front.into_iter().chain([h * width]).collect();
        let before = vec![b.clone(), s.clone(), h.clone(), width.clone()];
        Ok(outputs(
            node,
            [
                Fact::new(Some(half), y),
                Fact::new(Some(Dtype::Float), before),
            ],
        ))
    }

    fn relate(&self, node: &NodeView) -> Relation {
        if let Some(relation) = unless_ranked(node) {
            return relation;
        }
        let (Some([b, s, h, stride]), Some([width])) = (node.shape(0), node.shape(1)) else {
            return frozen_misfit(node);
        };
        let mut builder = node.relation();
        let (b, s) = (
            builder.fixed("b", b.clone(), POSITIONS),
            builder.fixed("s", s.clone(), POSITIONS),
        );
        let h = builder.free("h", h.clone());
        let (x, d) = (
            builder.fixed("x", stride.clone(), ROTATION),
            builder.fixed("d", width.clone(), ROTATION),
        );
        builder.port(Port::In(0), "x", [b, s, h, x]);
        builder.port(Port::In(1), "scale", [d]);
        for (input, name) in [(2, "at"), (3, "cos"), (4, "sin"), (5, "mode")] {
            freeze_port(&mut builder, node, input, name, &POSITIONS);
        }
        let front = if Self::flattens(node) {
            [Layout::product(&[]), Layout::product(&[b, s])]
        } else {
            [b.into(), s.into()]
        };
        builder.port(
            Port::Out(0),
            "y",
            front.into_iter().chain([Layout::product(&[h, d])]),
        );
        builder.port(Port::Out(1), "normalised", [b, s, h, d]);
        builder.finish()
    }
}

/// RelativePositionBias: a row of a table for every distance.
struct Relative;

impl Operator for Relative {
    fn infer(&self, node: &NodeView) -> Result<Vec<Fact>, InferError> {
        let Some([_, h]) = node.shape(0) else {
            return Ok(outputs(node, []));
        };
        let length =
            |input: usize| extent_in(node, input).unwrap_or_else(|| node.unknown(0, input + 1));
        Ok(outputs(
            node,
            [Fact::new(
                node.dtype(0),
                vec![Dim::Num(1), h.clone(), length(1), length(2)],
            )],
        ))
    }

    fn relate(&self, node: &NodeView) -> Relation {
        if let Some(relation) = unless_ranked(node) {
            return relation;
        }
        let (Some([buckets, h]), Some([_, _, s, t])) = (node.shape(0), node.output_shape(0)) else {
            return frozen_misfit(node);
        };
        let mut builder = node.relation();
        let buckets = builder.fixed("v", buckets.clone(), DISTANCES);
        let h = builder.free("h", h.clone());
        let (s, t) = (
            builder.fixed("s", s.clone(), DISTANCES),
            builder.fixed("t", t.clone(), DISTANCES),
        );
        builder.port(Port::In(0), "table", [buckets, h]);
        freeze_port(&mut builder, node, 1, "length", &DISTANCES);
        freeze_port(&mut builder, node, 2, "length", &DISTANCES);
        let one = builder.fill(1i64);
        builder.port(Port::Out(0), "y", [one, h, s, t]);
        builder.finish()
    }

    fn shape_inputs(&self, _: &NodeView) -> Vec<u32> {
        vec![1, 2]
    }
}

/// Positions that are told apart by their distance.
const DISTANCES: Reason = Reason::operator("distances of positions");

/// GatedRelativePositionBias: a bias by distance, times a gate that each head computes from its queries.
struct Gated;

impl Gated {
    /// Batch, heads, positions of queries and keys, head size, and gates; `None`: inputs that do not fit each other.
    fn sizes(node: &NodeView) -> Option<[Dim; 6]> {
        let h = heads(node, "num_heads").ok()?;
        let width = node.shape(0)?.last()?;
        let ([_, _, s, t], [_, gates], [b, ..]) =
            (node.shape(2)?, node.shape(3)?, node.output_shape(0)?)
        else {
            return None;
        };
        let d = split(width, &h).ok()?;
        let fits = expect(node, 1, &[width])
            .and(expect(node, 2, &[&Dim::Num(1), &h, s, t]))
            .and(expect(node, 3, &[&d, gates]))
            .and(expect(
                node,
                5,
                &[&Dim::Num(1), &h, &Dim::Num(1), &Dim::Num(1)],
            ));
        fits.ok()?;
        Some([b.clone(), h, s.clone(), t.clone(), d, gates.clone()])
    }

    fn describe(node: &NodeView, [b, h, s, t, d, gates]: [Dim; 6]) -> Relation {
        let mut builder = node.relation();
        let data = node.shape(0).and_then(<[Dim]>::split_last);
        let front = data.map_or(&[][..], |(_, front)| front);
        let front: Vec<LabelId> = front
            .iter()
            .map(|dim| builder.fixed("p", dim.clone(), DISTANCES))
            .collect();
        let h = builder.free("h", h);
        let (s, t) = (
            builder.fixed("s", s, DISTANCES),
            builder.fixed("t", t, DISTANCES),
        );
        let b = builder.fixed("b", b, MASK);
        let d = builder.fixed(
            "d",
            d,
            Reason::operator("all dimensions of a head give its gate"),
        );
        let gates = builder.fixed("g", gates, Reason::structure("gates"));
        let one = builder.fill(1i64);
        let query = Layout::product(&[h, d]);
        builder.port(
            Port::In(0),
            "q",
            front
                .iter()
                .map(|label| Layout::from(*label))
                .chain([query.clone()]),
        );
        builder.port(Port::In(1), "qbias", [query]);
        builder.port(Port::In(2), "distances", [one, h, s, t]);
        builder.port(Port::In(3), "w", [d, gates]);
        builder.port(Port::In(4), "bias", [gates]);
        builder.port(Port::In(5), "scale", [one, h, one, one]);
        freeze_port(&mut builder, node, 6, "offsets", &MASK);
        builder.port(Port::Out(0), "y", [b, h, s, t]);
        let labels = front.into_iter().chain([h, d, gates]).collect();
        builder.term(Term {
            data: Port::In(0),
            weight: Some(Port::In(3)),
            zero: None,
            labels,
            summed: vec![d],
            window: None,
        });
        builder.finish()
    }
}

impl Operator for Gated {
    fn infer(&self, node: &NodeView) -> Result<Vec<Fact>, InferError> {
        let (h, Some(rel)) = (heads(node, "num_heads")?, node.shape(2)) else {
            return Ok(outputs(node, []));
        };
        let batch = node.shape(6).or(node.shape(0)).and_then(<[Dim]>::first);
        let shape = batch
            .zip(rel.get(2).zip(rel.get(3)))
            .map(|(b, (s, t))| vec![b.clone(), h, s.clone(), t.clone()]);
        Ok(outputs(
            node,
            [Fact {
                dtype: node.dtype(0),
                shape,
                contents: None,
            }],
        ))
    }

    fn relate(&self, node: &NodeView) -> Relation {
        if let Some(relation) = unless_ranked(node) {
            return relation;
        }
        match Gated::sizes(node) {
            Some(sizes) => Gated::describe(node, sizes),
            None => frozen_misfit(node),
        }
    }

    fn rewrite(&self, _: &NodeView, cut: &Cut, edit: &mut NodeEdit) -> Result<(), RewriteError> {
        let heads = cut.extent_of("h").and_then(|heads| heads.num());
        edit.set_int(
            "num_heads",
            heads.ok_or_else(|| RewriteError("num_heads has no known number".into()))?,
        );
        Ok(())
    }
}

pub(in crate::ops) static RULES: &[Rule] = &[
    Rule::microsoft("GatedRelativePositionBias", &Gated),
    Rule::microsoft("GemmaRotaryEmbedding", &Gemma),
    Rule::microsoft("RMSNormRotary", &NormRotary),
    Rule::microsoft("RelativePositionBias", &Relative),
];

#[cfg(test)]
mod tests {
    use crate::ops::case::OpCase;

    #[test]
    fn rotations_of_queries_and_keys() {
        let gemma = OpCase::op("GemmaRotaryEmbedding")
            .domain("com.microsoft")
            .at(1)
            .outputs(2)
            .input("1xsx8");
        let data = gemma
            .input("f16:1x4xsx8")
            .input("f16:1x4xsx8")
            .input("f16:1x2xsx8")
            .input("f16:1x2xsx8");
        data.expect_shapes("1x4xsx8 1x2xsx8")
            .expect_relation("angles[1, s, d] q[b, h, s, d] q2[b, h, s, d] key[b, g, s, d] key2[b, g, s, d] → y[b, h, s, d] y2[b, g, s, d]");
        let norm = OpCase::op("RMSNormRotary")
            .domain("com.microsoft")
            .at(1)
            .int("rotary_embedding_dim", 4)
            .input("f16:bxsx4x12");
        let norm = norm
            .weight("8")
            .input("i64:1")
            .weight("64x2")
            .weight("64x2");
        norm.expect_shapes("bxsx32")
            .expect_relation("x[b, s, h, x] scale[d] at[1] cos[64, 2] sin[64, 2] → y[b, s, h·d]");
    }

    #[test]
    fn biases_by_distance() {
        let table = OpCase::op("RelativePositionBias")
            .domain("com.microsoft")
            .at(1)
            .int("max_distance", 16)
            .weight("32x4");
        table
            .number(5)
            .number(5)
            .expect_shapes("1x4x5x5")
            .expect_relation("table[v, h] length[] length[] → y[1, h, s, t]");
        let gated = OpCase::op("GatedRelativePositionBias")
            .domain("com.microsoft")
            .at(1)
            .int("num_heads", 4)
            .input("2x5x16");
        let gated = gated
            .weight("16")
            .weight("1x4x5x5")
            .weight("4x8")
            .weight("8")
            .weight("1x4x1x1");
        gated
            .expect_shapes("2x4x5x5")
            .expect_relation("q[p, p2, h·d] qbias[h·d] distances[1, h, s, t] w[d, g] bias[g] scale[1, h, 1, 1] → y[b, h, s, t]  Σ d");
    }
}
