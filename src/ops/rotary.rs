//! Rotary position embedding: heads go as a whole, for a rotation mixes the dimensions of one head in pairs.

use super::fit::{freeze_port, frozen_misfit, unless_ranked};
use super::frozen::outputs;
use super::meaning::{Along, Pick};
use super::{Cut, InferError, NodeEdit, NodeView, Operator, RewriteError, Rule};
use crate::facts::{Dim, Fact};
use crate::relation::{Layout, Port, Reason, Relation};

/// RotaryEmbedding, of ai.onnx (caches second, positions last) and of ONNX Runtime (positions second).
struct Rotary {
    microsoft: bool,
}

/// Rotation mixes the dimensions of a head.
pub(super) const ROTATION: Reason = Reason::operator("rotation pairs the dimensions of a head");

/// What positions and caches are indexed by.
pub(super) const POSITIONS: Reason = Reason::operator("positions of a rotation");

impl Rotary {
    /// Heads and head size of data with three axes; `None` when they cannot be told.
    fn split(&self, node: &NodeView, width: &Dim) -> Option<(Dim, Dim)> {
        if let Some(heads) = node.int("num_heads").filter(|heads| *heads > 0) {
            return Some((Dim::Num(heads), width.exact_div(&Dim::Num(heads))?));
        }
        let partial = node.int("rotary_embedding_dim").unwrap_or(0) != 0;
        if !self.microsoft || partial {
            return None;
        }
        // Without a head count, ONNX Runtime takes the head size from the cache.
        let size = node.shape(2)?.last()? * &Dim::Num(2);
        Some((width.exact_div(&size)?, size))
    }
}

impl Operator for Rotary {
    fn infer(&self, node: &NodeView) -> Result<Vec<Fact>, InferError> {
        Ok(outputs(
            node,
            [node
                .input(0)
                .cloned()
                .unwrap_or_default()
                .with_contents(None)],
        ))
    }

    fn relate(&self, node: &NodeView) -> Relation {
        if let Some(relation) = unless_ranked(node) {
            return relation;
        }
        let mut builder = node.relation();
        match node.shape(0) {
            Some([b, heads, s, d]) => {
                let axes = [
                    builder.fixed("b", b.clone(), POSITIONS),
                    builder.free("h", heads.clone()),
                    builder.fixed("s", s.clone(), POSITIONS),
                    builder.fixed("d", d.clone(), ROTATION),
                ];
                builder.port(Port::In(0), "x", axes);
                builder.port(Port::Out(0), "y", axes);
            }
            Some([b, s, width]) => {
                let Some((heads, size)) = self.split(node, width) else {
                    return frozen_misfit(node);
                };
                let b = builder.fixed("b", b.clone(), POSITIONS);
                let s = builder.fixed("s", s.clone(), POSITIONS);
                let channels = Layout::product(&[
                    builder.free("h", heads),
                    builder.fixed("d", size, ROTATION),
                ]);
                builder.port(Port::In(0), "x", [b.into(), s.into(), channels.clone()]);
                builder.port(Port::Out(0), "y", [b.into(), s.into(), channels]);
            }
            _ => return frozen_misfit(node),
        }
        // Positions and caches know batch and positions only.
        let names = if self.microsoft {
            ["at", "cos", "sin"]
        } else {
            ["cos", "sin", "at"]
        };
        for (input, name) in (1..).zip(names) {
            freeze_port(&mut builder, node, input, name, &POSITIONS);
        }
        builder.finish()
    }

    fn rewrite(&self, node: &NodeView, cut: &Cut, edit: &mut NodeEdit) -> Result<(), RewriteError> {
        if node.int("num_heads").is_some_and(|heads| heads > 0) {
            let heads = cut.extent_of("h").and_then(|heads| heads.num());
            edit.set_int(
                "num_heads",
                heads.ok_or_else(|| RewriteError("num_heads has no known number".into()))?,
            );
        }
        Ok(())
    }
}

/// Positions in a cache without a batch.
const CACHED_ROWS: Pick = Pick {
    indices: 3,
    table: 1,
    along: Along::Rows,
};
/// The same, in the order of the contributed operator.
const MICROSOFT_CACHED_ROWS: Pick = Pick {
    indices: 1,
    table: 2,
    along: Along::Rows,
};

pub(super) static RULES: &[Rule] = &[
    Rule::onnx("RotaryEmbedding", &Rotary { microsoft: false }).picks(&[CACHED_ROWS]),
    Rule::microsoft("MRotaryEmbedding", &Rotary { microsoft: true }),
    Rule::microsoft("RotaryEmbedding", &Rotary { microsoft: true }).picks(&[MICROSOFT_CACHED_ROWS]),
];

#[cfg(test)]
mod tests {
    use crate::ops::case::OpCase;

    #[test]
    fn heads_apart() {
        OpCase::op("RotaryEmbedding")
            .at(23)
            .input("1x4xsx8")
            .input("1xsx4")
            .input("1xsx4")
            .expect_shapes("1x4xsx8")
            .expect_relation("x[b, h, s, d] cos[1, s, 4] sin[1, s, 4] → y[b, h, s, d]");
    }

    #[test]
    fn heads_packed() {
        let rotary = || {
            OpCase::op("RotaryEmbedding")
                .domain("com.microsoft")
                .input("1xsx32")
                .input("i64:1xs")
                .weight("64x4")
                .weight("64x4")
        };
        rotary()
            .expect_shapes("1xsx32")
            .expect_relation("x[b, s, h·d] at[1, s] cos[64, 4] sin[64, 4] → y[b, s, h·d]");
        rotary()
            .int("num_heads", 8)
            .int("rotary_embedding_dim", 4)
            .expect_relation("x[b, s, h·d] at[1, s] cos[64, 4] sin[64, 4] → y[b, s, h·d]");
    }

    #[test]
    fn positions_in_three_directions() {
        let rotary = OpCase::op("MRotaryEmbedding")
            .domain("com.microsoft")
            .at(1)
            .ints("mrope_section", &[2, 1, 1]);
        let data = rotary
            .input("1x4xsx8")
            .input("i64:3x1xs")
            .weight("64x4")
            .weight("64x4");
        data.expect_shapes("1x4xsx8")
            .expect_relation("x[b, h, s, d] at[3, 1, s] cos[64, 4] sin[64, 4] → y[b, h, s, d]");
    }
}
