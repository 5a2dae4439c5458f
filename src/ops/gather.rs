//! Operators that read entries at given positions.

use super::axes::{Letters, axis_attribute, operand};
use super::elements::{ElementGrid, compose};
use super::meaning::{Along, Flow, Pick};
use super::{Cut, InferError, NodeEdit, NodeView, Operator, RewriteError, Rule};
use crate::facts::{Dim, Element, Fact};
use crate::relation::{LabelId, Layout, Port, Reason, Relation};

/// Why an axis stays of which one index is read.
pub const ONE_READ: Reason = Reason::operator("one index is read");
pub(super) const LOOKED_UP: Reason = Reason::operator("rows are looked up at run time");

/// Reads whole slices of one axis.
struct Gather;

impl Gather {
    fn axis(node: &NodeView, rank: usize) -> Result<usize, InferError> {
        axis_attribute(node, "axis", 0, rank)
    }

    /// The positions along an axis of `extent`, if all are known and on it.
    fn positions(node: &NodeView, extent: &Dim) -> Option<Vec<u32>> {
        let extent = extent.num()?;
        let position = |at: i64| {
            u32::try_from(if at < 0 { at.checked_add(extent)? } else { at })
                .ok()
                .filter(|at| i64::from(*at) < extent)
        };
        node.numbers(1)?.into_iter().map(position).collect()
    }
}

impl Operator for Gather {
    fn infer(&self, node: &NodeView) -> Result<Vec<Fact>, InferError> {
        let untold = Fact::unranked(node.dtype(0));
        let (Some(shape), Some(indices)) = (node.shape(0), node.shape(1)) else {
            return Ok(vec![untold]);
        };
        let axis = Self::axis(node, shape.len())?;
        let dims: Vec<Dim> = shape[..axis]
            .iter()
            .chain(indices)
            .chain(&shape[axis + 1..])
            .cloned()
            .collect();
        let contents = ElementGrid::input(node, 0)
            .zip(ElementGrid::input(node, 1))
            .zip(shape[axis].num())
            .and_then(|((grid, positions), extent)| {
                compose(&dims, |index| {
                    let (outer, rest) = index.split_at_checked(axis)?;
                    let (position, inner) = rest.split_at_checked(indices.len())?;
                    let Some(position) = positions
                        .at(position)?
                        .dim()
                        .and_then(|position| position.num())
                    else {
                        return Some(Element::Unknown);
                    };
                    let position = usize::try_from(if position < 0 {
                        position + extent
                    } else {
                        position
                    })
                    .ok()?;
                    grid.at(&outer
                        .iter()
                        .chain([&position])
                        .chain(inner)
                        .copied()
                        .collect::<Vec<_>>())
                })
            });
        Ok(vec![Fact::new(node.dtype(0), dims).with_contents(contents)])
    }

    fn relate(&self, node: &NodeView) -> Relation {
        let (Some(shape), Some(indices)) = (node.shape(0), node.shape(1)) else {
            return node.frozen(Reason::Dynamic);
        };
        let Ok(axis) = Self::axis(node, shape.len()) else {
            return node.frozen(Reason::Dynamic);
        };
        let mut builder = node.relation();
        let mut letters = Letters::new();
        let outer = letters.all(&mut builder, &shape[..axis]);
        let positions = Self::positions(node, &shape[axis])
            .filter(|positions| !positions.is_empty() && indices.len() == 1);
        let (along, read, constant): (LabelId, Vec<Layout>, bool) = match positions {
            Some(positions) => {
                let label = letters.free(&mut builder, &shape[axis]);
                (label, vec![Layout::pick(label, positions)], true)
            }
            None => {
                let reason = if indices.is_empty() && node.numbers(1).is_some() {
                    ONE_READ
                } else {
                    LOOKED_UP
                };
                let label = letters.fixed(&mut builder, &shape[axis], &reason);
                (
                    label,
                    letters
                        .all(&mut builder, indices)
                        .into_iter()
                        .map(Layout::from)
                        .collect(),
                    false,
                )
            }
        };
        let inner = letters.all(&mut builder, &shape[axis + 1..]);
        builder.port(
            Port::In(0),
            "data",
            outer
                .iter()
                .copied()
                .chain([along])
                .chain(inner.iter().copied()),
        );
        if constant {
            operand(&mut builder, 1, "indices");
        } else {
            builder.port(Port::In(1), "indices", read.clone());
        }
        let y = outer
            .into_iter()
            .map(Layout::from)
            .chain(read)
            .chain(inner.into_iter().map(Layout::from));
        builder.port(Port::Out(0), "y", y);
        builder.finish()
    }

    fn rewrite(&self, node: &NodeView, cut: &Cut, edit: &mut NodeEdit) -> Result<(), RewriteError> {
        let (Some(shape), Some(port)) = (node.shape(0), cut.relation.ports.get(&Port::In(0)))
        else {
            return Ok(());
        };
        let Ok(axis) = Self::axis(node, shape.len()) else {
            return Ok(());
        };
        let kept = port
            .axes
            .get(axis)
            .and_then(|layout| layout.labels().next())
            .and_then(|label| cut.kept(label));
        let Some(kept) = kept else { return Ok(()) };
        if node.shape(1).is_some_and(<[Dim]>::is_empty) {
            // Cut only where nobody looks at what is read: any index will do, as long as it is there.
            edit.demand(1, vec![Some(Dim::Num(0))]);
        } else if let Some(positions) = Self::positions(node, &shape[axis]) {
            edit.replace(
                1,
                positions
                    .iter()
                    .filter_map(|at| kept.binary_search(at).ok())
                    .map(|at| at as i64)
                    .collect(),
            );
        }
        Ok(())
    }

    fn shape_inputs(&self, _node: &NodeView) -> Vec<u32> {
        vec![1]
    }
}

/// Reads single elements along one axis.
struct GatherElements;

impl Operator for GatherElements {
    fn infer(&self, node: &NodeView) -> Result<Vec<Fact>, InferError> {
        if let (Some(shape), Some(indices)) = (node.shape(0), node.shape(1))
            && shape.len() != indices.len()
        {
            return Err(InferError(format!(
                "indices of {} axes into a tensor of {}",
                indices.len(),
                shape.len()
            )));
        }
        Ok(vec![Fact {
            dtype: node.dtype(0),
            shape: node.shape(1).map(<[Dim]>::to_vec),
            contents: None,
        }])
    }

    fn relate(&self, node: &NodeView) -> Relation {
        let (Some(shape), Some(indices)) = (node.shape(0), node.shape(1)) else {
            return node.frozen(Reason::Dynamic);
        };
        let Ok(axis) = axis_attribute(node, "axis", 0, shape.len()) else {
            return node.frozen(Reason::Dynamic);
        };
        let mut builder = node.relation();
        let mut letters = Letters::new();
        let (mut data, mut read): (Vec<LabelId>, Vec<LabelId>) = (Vec::new(), Vec::new());
        for (at, (dim, positions)) in shape.iter().zip(indices).enumerate() {
            if at != axis && dim == positions {
                let label = letters.free(&mut builder, dim);
                data.push(label);
                read.push(label);
            } else {
                data.push(letters.fixed(&mut builder, dim, &LOOKED_UP));
                read.push(if at == axis {
                    letters.free(&mut builder, positions)
                } else {
                    letters.fixed(&mut builder, positions, &LOOKED_UP)
                });
            }
        }
        builder.port(Port::In(0), "data", data);
        builder.port(Port::In(1), "indices", read.clone());
        builder.port(Port::Out(0), "y", read);
        builder.finish()
    }
}

/// Reads slices at positions along several axes.
struct GatherND;

/// How many axes the last axis of the positions addresses, and how many before them are shared.
fn addressed(
    node: &NodeView,
    data: usize,
    indices: &[Dim],
) -> Result<Option<(usize, usize)>, InferError> {
    let batch = usize::try_from(node.int("batch_dims").unwrap_or(0))
        .map_err(|_| InferError("negative batch_dims".into()))?;
    let Some(last) = indices.last() else {
        return Err(InferError("scalar indices".into()));
    };
    let Some(count) = last.count() else {
        return Ok(None);
    };
    if batch + count > data || batch >= indices.len() {
        return Err(InferError(format!(
            "{count} positions after {batch} axes of a tensor of rank {data}"
        )));
    }
    Ok(Some((batch, count)))
}

impl Operator for GatherND {
    fn infer(&self, node: &NodeView) -> Result<Vec<Fact>, InferError> {
        let untold = Fact::unranked(node.dtype(0));
        let (Some(shape), Some(indices)) = (node.shape(0), node.shape(1)) else {
            return Ok(vec![untold]);
        };
        let Some((batch, count)) = addressed(node, shape.len(), indices)? else {
            return Ok(vec![untold]);
        };
        let dims = indices
            .iter()
            .take(indices.len() - 1)
            .chain(&shape[batch + count..])
            .cloned()
            .collect();
        Ok(vec![Fact::new(node.dtype(0), dims)])
    }

    fn relate(&self, node: &NodeView) -> Relation {
        let (Some(shape), Some(indices)) = (node.shape(0), node.shape(1)) else {
            return node.frozen(Reason::Dynamic);
        };
        let Ok(Some((batch, count))) = addressed(node, shape.len(), indices) else {
            return node.frozen(LOOKED_UP);
        };
        let Some((last, outer)) = indices.split_last() else {
            return node.frozen(LOOKED_UP);
        };
        let mut builder = node.relation();
        let mut letters = Letters::new();
        let mut data: Vec<LabelId> = Vec::new();
        let mut read: Vec<LabelId> = Vec::new();
        for (at, dim) in outer.iter().enumerate() {
            let label = letters.free(&mut builder, dim);
            read.push(label);
            if at < batch {
                let same = shape[at] == *dim;
                data.push(if same {
                    label
                } else {
                    letters.fixed(&mut builder, &shape[at], &Reason::Dynamic)
                });
                if !same {
                    builder.fix(label, Reason::Dynamic);
                }
            }
        }
        for dim in &shape[batch..batch + count] {
            data.push(letters.fixed(&mut builder, dim, &LOOKED_UP));
        }
        let inner = letters.all(&mut builder, &shape[batch + count..]);
        let last = builder.fixed("", last.clone(), LOOKED_UP);
        builder.port(
            Port::In(0),
            "data",
            data.into_iter().chain(inner.iter().copied()),
        );
        builder.port(Port::In(1), "indices", read.iter().copied().chain([last]));
        builder.port(Port::Out(0), "y", read.into_iter().chain(inner));
        builder.finish()
    }
}

/// Keeps the indices of one axis that a condition names.
struct Compress;

impl Operator for Compress {
    fn infer(&self, node: &NodeView) -> Result<Vec<Fact>, InferError> {
        let Some(axis) = node.int("axis") else {
            return Ok(vec![Fact::new(node.dtype(0), vec![node.unknown(0, 0)])]);
        };
        let Some(shape) = node.shape(0) else {
            return Ok(vec![Fact::unranked(node.dtype(0))]);
        };
        let axis = super::axes::axis_number(axis, shape.len())?;
        let mut dims = shape.to_vec();
        dims[axis] = node.unknown(0, axis);
        Ok(vec![Fact::new(node.dtype(0), dims)])
    }

    fn relate(&self, node: &NodeView) -> Relation {
        const CHOSEN: Reason = Reason::operator("indices are chosen by a condition");
        let (Some(shape), Some(kept)) = (node.shape(0), node.output_shape(0)) else {
            return node.frozen(Reason::Dynamic);
        };
        let Some(axis) = node
            .int("axis")
            .and_then(|axis| NodeView::axis(axis, shape.len().min(kept.len())))
        else {
            return node.frozen(CHOSEN);
        };
        let mut builder = node.relation();
        let mut letters = Letters::new();
        let mut x = letters.all(&mut builder, &shape[..axis]);
        let mut y = x.clone();
        x.push(letters.fixed(&mut builder, &shape[axis], &CHOSEN));
        y.push(letters.fixed(&mut builder, &kept[axis], &CHOSEN));
        let inner = letters.all(&mut builder, &shape[axis + 1..]);
        builder.port(Port::In(0), "x", x.into_iter().chain(inner.iter().copied()));
        operand(&mut builder, 1, "condition");
        builder.port(Port::Out(0), "y", y.into_iter().chain(inner));
        builder.finish()
    }
}

/// Indices along one axis.
const BY_AXIS: Pick = Pick {
    indices: 1,
    table: 0,
    along: Along::Axis("axis"),
};
/// Positions behind axes that are the same in both.
const BY_POSITION: Pick = Pick {
    indices: 1,
    table: 0,
    along: Along::Each(Some("batch_dims")),
};

pub(super) static RULES: &[Rule] = &[
    Rule::onnx("Gather", &Gather)
        .flow(Flow::Picked)
        .picks(&[BY_AXIS]),
    Rule::onnx("GatherElements", &GatherElements)
        .flow(Flow::Picked)
        .picks(&[BY_AXIS]),
    Rule::onnx("GatherND", &GatherND)
        .flow(Flow::Picked)
        .picks(&[BY_POSITION]),
    Rule::microsoft("GatherND", &GatherND)
        .flow(Flow::Picked)
        .picks(&[BY_POSITION]),
    Rule::onnx("Compress", &Compress).flow(Flow::Moved),
];

#[cfg(test)]
mod tests {
    use crate::facts::{Dim, Element};
    use crate::ops::Demand;
    use crate::ops::case::OpCase;

    #[test]
    fn an_embedding_ties_its_width() {
        let embedding = OpCase::op("Gather").weight("1000x64").input("i64:bxs");
        embedding
            .expect_shapes("bxsx64")
            .expect_relation("data[a, d] indices[b, c] → y[b, c, d]");
    }

    #[test]
    fn known_positions_pick_indices() {
        let picked = OpCase::op("Gather")
            .input("bx6")
            .list(&[4, 0, -1])
            .int("axis", 1);
        let picked = picked
            .expect_shapes("bx3")
            .expect_relation("data[a, b] indices[3] → y[a, b{4,0..}]");
        let edit = picked.edit(&[("b", &[1, 4, 5])]).unwrap();
        assert_eq!(
            edit.demands,
            [Demand {
                input: 1,
                elements: vec![Some(Dim::Num(1)), Some(Dim::Num(2))],
                whole: true
            }]
        );
        OpCase::op("Gather")
            .input("3xbx8")
            .number(1)
            .expect_shapes("bx8")
            .expect_relation("data[a, b, c] indices[] → y[b, c]");
        OpCase::op("Gather")
            .input("1xbx8")
            .number(0)
            .expect_shapes("bx8")
            .expect_relation("data[1, a, b] indices[] → y[a, b]");
        OpCase::op("Gather")
            .input("bxsx8")
            .number(0)
            .int("axis", 1)
            .expect_shapes("bx8")
            .expect_relation("data[a, b, c] indices[] → y[a, c]");
    }

    #[test]
    fn shape_chains_are_followed() {
        let shape = [Dim::symbol("b"), Dim::Num(3)];
        let batch = OpCase::op("Gather")
            .computed(&shape)
            .number(0)
            .expect_shapes("")
            .facts();
        assert_eq!(
            *batch[0].contents.clone().unwrap().0,
            [Element::Int(Dim::symbol("b"))]
        );
        OpCase::op("Gather")
            .list(&[5, 6, 7])
            .list(&[-1, 0])
            .expect_shapes("2")
            .expect_contents(&[7, 5]);
    }

    #[test]
    fn elements_and_slices_are_looked_up() {
        let elements = OpCase::op("GatherElements")
            .input("bx8x5")
            .input("i64:bx3x5")
            .int("axis", 1);
        elements
            .expect_shapes("bx3x5")
            .expect_relation("data[a, b, d] indices[a, c, d] → y[a, c, d]");
        let slices = OpCase::op("GatherND")
            .input("bx7x8x64")
            .input("i64:bxkx2")
            .int("batch_dims", 1);
        slices
            .expect_shapes("bxkx64")
            .expect_relation("data[a, c, d, e] indices[a, b, 2] → y[a, b, e]");
        let chosen = OpCase::op("Compress")
            .input("bx8x5")
            .input("bool:8")
            .int("axis", 1);
        chosen
            .expect_shapes("bx?out0.1x5")
            .expect_relation("x[a, b, d] condition[8] → y[a, c, d]");
    }
}
