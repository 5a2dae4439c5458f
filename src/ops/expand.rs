//! Operators that repeat what is there: one index becomes many.

use super::axes::{Letters, list, operand};
use super::elements::{ElementGrid, compose};
use super::meaning::Flow;
use super::{Cut, InferError, NodeEdit, NodeView, Operator, RewriteError, Rule};
use crate::facts::{Dim, Fact};
use crate::relation::{LabelId, Layout, Port, Reason, Relation};

/// Broadcasts to a shape that itself may hold ones.
struct Expand;

impl Operator for Expand {
    fn infer(&self, node: &NodeView) -> Result<Vec<Fact>, InferError> {
        let untold = Fact::unranked(node.dtype(0));
        let (Some(shape), Some(target)) = (node.shape(0), list(node, "", 1)) else {
            return Ok(vec![untold]);
        };
        let rank = shape.len().max(target.len());
        let mut dims = Vec::with_capacity(rank);
        for axis in 0..rank {
            let old = (axis + shape.len())
                .checked_sub(rank)
                .and_then(|at| shape.get(at));
            let asked = (axis + target.len())
                .checked_sub(rank)
                .and_then(|at| target.get(at));
            dims.push(match (old, asked) {
                (_, Some(Some(Dim::Num(number)))) if *number < 0 => {
                    return Err(InferError(format!("{number} in the shape")));
                }
                (Some(old), Some(Some(asked)))
                    if old.differs(asked) && !old.is_one() && !asked.is_one() =>
                {
                    return Err(InferError(format!("{old} does not broadcast to {asked}")));
                }
                (Some(old), Some(Some(asked))) => old.broadcast(asked),
                (Some(old), None) => old.clone(),
                // Only 1 or the same can stand beside a number.
                (Some(old), Some(None)) if old.num().is_some_and(|extent| extent != 1) => {
                    old.clone()
                }
                (None, Some(Some(asked))) => asked.clone(),
                _ => node.unknown(0, axis),
            });
        }
        let contents = ElementGrid::input(node, 0).and_then(|grid| {
            compose(&dims, |index| {
                let source = index
                    .iter()
                    .skip(rank - shape.len())
                    .zip(shape)
                    .map(|(at, dim)| if dim.is_one() { 0 } else { *at });
                grid.at(&source.collect::<Vec<_>>())
            })
        });
        Ok(vec![Fact::new(node.dtype(0), dims).with_contents(contents)])
    }

    fn relate(&self, node: &NodeView) -> Relation {
        let (Some(shape), Some(dims)) = (node.shape(0), node.output_shape(0)) else {
            return node.frozen(Reason::Dynamic);
        };
        let Some(new) = dims.len().checked_sub(shape.len()) else {
            return node.frozen(Reason::Dynamic);
        };
        let mut builder = node.relation();
        let mut letters = Letters::new();
        let (mut x, mut y): (Vec<LabelId>, Vec<LabelId>) = (Vec::new(), Vec::new());
        for (axis, dim) in dims.iter().enumerate() {
            match axis.checked_sub(new).and_then(|axis| shape.get(axis)) {
                None => y.push(letters.free(&mut builder, dim)),
                Some(old) if old == dim => {
                    let label = letters.free(&mut builder, dim);
                    x.push(label);
                    y.push(label);
                }
                Some(old) if old.is_one() => {
                    x.push(builder.fill(Dim::Num(1)));
                    y.push(letters.free(&mut builder, dim));
                }
                Some(old) => {
                    x.push(letters.fixed(&mut builder, old, &Reason::Dynamic));
                    y.push(letters.fixed(&mut builder, dim, &Reason::Dynamic));
                }
            }
        }
        builder.port(Port::In(0), "x", x);
        operand(&mut builder, 1, "shape");
        builder.port(Port::Out(0), "y", y);
        builder.finish()
    }

    fn rewrite(&self, node: &NodeView, cut: &Cut, edit: &mut NodeEdit) -> Result<(), RewriteError> {
        let (Some(old), Some(new), Some(target)) = (
            node.output_shape(0),
            cut.dims(Port::Out(0)),
            list(node, "", 1),
        ) else {
            return Ok(());
        };
        let skip = new.len().saturating_sub(target.len());
        let changed = |((asked, old), new): ((&Option<Dim>, &Dim), Dim)| {
            // A 1 in the shape takes whatever the input has.
            let follows = asked.as_ref().is_some_and(Dim::is_one);
            // What is computed may be of heads merged into the batch: a symbol's multiple.
            (!follows && *old != new && (new.num().is_some() || asked.is_some())).then_some(new)
        };
        let elements: Vec<Option<Dim>> = target
            .iter()
            .zip(old.iter().skip(skip))
            .zip(new.into_iter().skip(skip))
            .map(changed)
            .collect();
        if elements.iter().any(Option::is_some) {
            edit.demand(1, elements);
        }
        Ok(())
    }

    fn shape_inputs(&self, _node: &NodeView) -> Vec<u32> {
        vec![1]
    }
}

/// Repeats each axis as a whole so many times.
struct Tile;

impl Tile {
    fn repeats(node: &NodeView, rank: usize) -> Result<Vec<Option<Dim>>, InferError> {
        match list(node, "", 1) {
            None => Ok(vec![None; rank]),
            Some(repeats) if repeats.len() == rank => Ok(repeats),
            Some(repeats) => Err(InferError(format!(
                "{} repeats for {rank} axes",
                repeats.len()
            ))),
        }
    }
}

impl Operator for Tile {
    fn infer(&self, node: &NodeView) -> Result<Vec<Fact>, InferError> {
        let Some(shape) = node.shape(0) else {
            return Ok(vec![Fact::unranked(node.dtype(0))]);
        };
        let repeats = Self::repeats(node, shape.len())?;
        if let Some(negative) = repeats
            .iter()
            .flatten()
            .filter_map(Dim::num)
            .find(|repeats| *repeats < 0)
        {
            return Err(InferError(format!("{negative} repeats")));
        }
        let tiled = |(axis, (dim, repeats)): (usize, (&Dim, &Option<Dim>))| {
            repeats
                .as_ref()
                .map_or_else(|| node.unknown(0, axis), |repeats| dim * repeats)
        };
        let dims: Vec<Dim> = shape.iter().zip(&repeats).enumerate().map(tiled).collect();
        let contents = ElementGrid::input(node, 0).and_then(|grid| {
            compose(&dims, |index| {
                let source = index
                    .iter()
                    .zip(shape)
                    .map(|(at, dim)| at.checked_rem(dim.count()?));
                grid.at(&source.collect::<Option<Vec<_>>>()?)
            })
        });
        Ok(vec![Fact::new(node.dtype(0), dims).with_contents(contents)])
    }

    fn relate(&self, node: &NodeView) -> Relation {
        const UNKNOWN: Reason =
            Reason::operator("repeated a number of times known only at run time");
        let (Some(shape), Some(dims)) = (node.shape(0), node.output_shape(0)) else {
            return node.frozen(Reason::Dynamic);
        };
        let Ok(repeats) = Self::repeats(node, shape.len()) else {
            return node.frozen(UNKNOWN);
        };
        let mut builder = node.relation();
        let mut letters = Letters::new();
        let (mut x, mut y): (Vec<LabelId>, Vec<Layout>) = (Vec::new(), Vec::new());
        for ((dim, tiled), repeats) in shape.iter().zip(dims).zip(&repeats) {
            let Some(repeats) = repeats else {
                x.push(letters.fixed(&mut builder, dim, &UNKNOWN));
                y.push(letters.fixed(&mut builder, tiled, &UNKNOWN).into());
                continue;
            };
            let label = letters.free(&mut builder, dim);
            x.push(label);
            y.push(match (repeats.is_one(), dim.is_one()) {
                (true, _) => label.into(),
                (false, true) => builder.free("t", repeats.clone()).into(),
                (false, false) => Layout::product(&[builder.free("t", repeats.clone()), label]),
            });
        }
        builder.port(Port::In(0), "x", x);
        operand(&mut builder, 1, "repeats");
        builder.port(Port::Out(0), "y", y);
        builder.finish()
    }

    fn rewrite(&self, node: &NodeView, cut: &Cut, edit: &mut NodeEdit) -> Result<(), RewriteError> {
        let (Some(shape), Some(y)) = (node.shape(0), cut.relation.ports.get(&Port::Out(0))) else {
            return Ok(());
        };
        let repeats = Self::repeats(node, shape.len()).unwrap_or_default();
        // The repeats are the outer label; where it is the only one, the input's axis is 1. They stay what they were where only the
        // inner one is cut, however they are computed from it (heads merged into the batch, divided by the heads).
        let changed = |(axis, repeats): (&Layout, &Option<Dim>)| {
            let repeats = repeats.as_ref().filter(|repeats| !repeats.is_one())?;
            let mut labels = axis.labels();
            let outer = labels
                .next()
                .and_then(|label| cut.kept(label))
                .map(|kept| Dim::from(kept.len()));
            outer.or_else(|| {
                labels
                    .any(|label| cut.kept(label).is_some())
                    .then(|| repeats.clone())
            })
        };
        let elements: Vec<Option<Dim>> = y.axes.iter().zip(&repeats).map(changed).collect();
        if elements.iter().any(Option::is_some) {
            edit.demand(1, elements);
        }
        Ok(())
    }

    fn shape_inputs(&self, _node: &NodeView) -> Vec<u32> {
        vec![1]
    }
}

pub(super) static RULES: &[Rule] = &[
    Rule::onnx("Expand", &Expand).flow(Flow::Moved),
    Rule::onnx("Tile", &Tile).flow(Flow::Moved),
];

#[cfg(test)]
mod tests {
    use crate::facts::Dim;
    use crate::ops::Demand;
    use crate::ops::case::OpCase;

    fn demand(elements: &[Option<i64>]) -> Demand {
        Demand {
            input: 1,
            elements: elements
                .iter()
                .map(|element| element.map(Dim::Num))
                .collect(),
            whole: false,
        }
    }

    #[test]
    fn expand_makes_many_of_one() {
        let heads = OpCase::op("Expand").input("bx2x1xsx64").computed(&[
            Dim::symbol("b"),
            Dim::Num(2),
            Dim::Num(4),
            Dim::symbol("s"),
            Dim::Num(64),
        ]);
        heads
            .expect_shapes("bx2x4xsx64")
            .expect_relation("x[a, b, 1, d, e] shape[5] → y[a, b, c, d, e]");
        let token = OpCase::op("Expand")
            .input("1x1x768")
            .computed(&[Dim::symbol("b"), Dim::Num(-1)]);
        assert!(std::panic::catch_unwind(|| token.facts()).is_err());
        OpCase::op("Expand")
            .input("3")
            .list(&[2, 1])
            .expect_shapes("2x3")
            .expect_relation("x[b] shape[2] → y[a, b]");
        OpCase::op("Expand")
            .input("bx8")
            .input("i64:2")
            .expect_shapes("?out0.0x8")
            .expect_relation("x[a, c] shape[2] → y[b, c]");
        OpCase::op("Expand")
            .number(7)
            .list(&[3])
            .expect_shapes("3")
            .expect_contents(&[7, 7, 7]);
    }

    #[test]
    fn expand_demands_the_new_extents() {
        let heads = OpCase::op("Expand").input("2x1x64").list(&[2, 4, 1]);
        let edit = heads.edit(&[("b", &[0, 3]), ("c", &[1, 2])]).unwrap();
        assert_eq!(edit.demands, [demand(&[None, Some(2), None])]);
    }

    #[test]
    fn tile_repeats_axes() {
        let tiled = OpCase::op("Tile").input("bx8x1").list(&[1, 3, 5]);
        let tiled = tiled
            .expect_shapes("bx24x5")
            .expect_relation("x[a, b, 1] repeats[3] → y[a, t·b, t2]");
        assert_eq!(
            tiled.edit(&[("b", &[0, 1]), ("t2", &[0])]).unwrap().demands,
            [demand(&[None, Some(3), Some(1)])]
        );
        assert_eq!(
            tiled.edit(&[("t", &[2])]).unwrap().demands,
            [demand(&[None, Some(1), None])]
        );
        OpCase::op("Tile")
            .input("bx8")
            .computed(&[Dim::Num(1), Dim::symbol("n")])
            .expect_shapes("bx8*n");
        OpCase::op("Tile")
            .list(&[1, 2])
            .list(&[2])
            .expect_shapes("4")
            .expect_contents(&[1, 2, 1, 2]);
    }
}
