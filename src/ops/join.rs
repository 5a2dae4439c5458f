//! Operators that join tensors along an axis, or divide one.

use super::axes::{Letters, axis_attribute, operand, same_extent};
use super::elements::{ElementGrid, compose};
use super::meaning::Flow;
use super::{Cut, InferError, NodeEdit, NodeView, Operator, RewriteError, Rule};
use crate::facts::{Dim, Fact};
use crate::relation::{LabelId, Layout, Port, Reason, Relation};

struct Concat;

/// What a Concat joins.
struct Joined<'a> {
    /// Extents of all inputs.
    shapes: Vec<&'a [Dim]>,
    axis: usize,
    /// Extents of the output.
    dims: Vec<Dim>,
}

impl Concat {
    /// `None` when the rank of an input is unknown.
    fn parts<'a>(node: &NodeView<'a>) -> Result<Option<Joined<'a>>, InferError> {
        let Some(shapes) = (0..node.inputs.len())
            .map(|at| node.shape(at))
            .collect::<Option<Vec<_>>>()
        else {
            return Ok(None);
        };
        let Some((first, others)) = shapes.split_first() else {
            return Err(InferError("no inputs".into()));
        };
        let axis = axis_attribute(node, "axis", 1, first.len())?;
        let mut dims = first.to_vec();
        for shape in others {
            if shape.len() != dims.len() {
                return Err(InferError(format!(
                    "inputs of rank {} and {}",
                    dims.len(),
                    shape.len()
                )));
            }
            for (at, (dim, other)) in dims.iter_mut().zip(*shape).enumerate() {
                *dim = if at == axis {
                    &*dim + other
                } else {
                    same_extent(dim, other, "extents beside the joined axis")?
                };
            }
        }
        Ok(Some(Joined { shapes, axis, dims }))
    }
}

impl Operator for Concat {
    fn infer(&self, node: &NodeView) -> Result<Vec<Fact>, InferError> {
        let dtype = (0..node.inputs.len()).find_map(|at| node.dtype(at));
        let Some(Joined { shapes, axis, dims }) = Self::parts(node)? else {
            return Ok(vec![Fact::unranked(dtype)]);
        };
        let ends: Option<Vec<usize>> = shapes
            .iter()
            .scan(Some(0usize), |end, shape| {
                *end = end.and_then(|end| end.checked_add(shape[axis].count()?));
                Some(*end)
            })
            .collect();
        let grids: Option<Vec<ElementGrid>> = (0..shapes.len())
            .map(|at| ElementGrid::input(node, at))
            .collect();
        let contents = ends.zip(grids).and_then(|(ends, grids)| {
            compose(&dims, |index| {
                let part = ends.partition_point(|end| *end <= index[axis]);
                let start = if part == 0 { 0 } else { *ends.get(part - 1)? };
                let mut source = index.to_vec();
                source[axis] -= start;
                grids.get(part)?.at(&source)
            })
        });
        Ok(vec![Fact::new(dtype, dims).with_contents(contents)])
    }

    fn relate(&self, node: &NodeView) -> Relation {
        const NAMES: [&str; 10] = ["x0", "x1", "x2", "x3", "x4", "x5", "x6", "x7", "x8", "x9"];
        let Ok(Some(Joined { shapes, axis, dims })) = Self::parts(node) else {
            return node.frozen(Reason::Dynamic);
        };
        let mut builder = node.relation();
        let (mut letters, mut segments) = (Letters::new(), Letters::segments());
        let beside: Vec<Option<LabelId>> = dims
            .iter()
            .enumerate()
            .map(|(at, dim)| (at != axis).then(|| letters.free(&mut builder, dim)))
            .collect();
        let mut joined = Vec::with_capacity(shapes.len());
        for (at, shape) in shapes.iter().enumerate() {
            let label = segments.free(&mut builder, &shape[axis]);
            joined.push(label);
            let name = NAMES.get(at).map_or_else(
                || format!("x{at}").into(),
                |name| std::borrow::Cow::Borrowed(*name),
            );
            builder.port(
                Port::In(at as u32),
                name,
                beside.iter().map(|other| other.unwrap_or(label)),
            );
        }
        builder.port(
            Port::Out(0),
            "y",
            beside
                .iter()
                .map(|other| other.map_or_else(|| Layout::sum(&joined), Layout::from)),
        );
        builder.finish()
    }
}

struct SplitOperator;

/// Where a Split gets its sizes from.
enum Sizes {
    Attribute(Vec<i64>),
    Input(Vec<Dim>),
    /// As equal as can be.
    Equal(Vec<Dim>),
}

impl Sizes {
    fn dims(&self) -> Vec<Dim> {
        match self {
            Sizes::Attribute(sizes) => sizes.iter().map(|size| Dim::Num(*size)).collect(),
            Sizes::Input(sizes) | Sizes::Equal(sizes) => sizes.clone(),
        }
    }
}

impl SplitOperator {
    /// How the axis is divided; `None` when that cannot be told.
    fn sizes(node: &NodeView, whole: &Dim) -> Result<Option<Sizes>, InferError> {
        let count = node.node.output.len();
        let sizes = if node.has_input(1) {
            let Some(sizes) = node.contents(1).and_then(|contents| contents.dims()) else {
                return Ok(None);
            };
            Sizes::Input(sizes)
        } else if let Some(sizes) = node.ints("split").filter(|sizes| !sizes.is_empty()) {
            Sizes::Attribute(sizes.to_vec())
        } else {
            let parts = Dim::from(count);
            let Some(sizes) = whole
                .exact_div(&parts)
                .map(|size| vec![size; count])
                .or_else(|| Self::uneven(node, whole, count))
            else {
                return if whole.num().is_some() {
                    Err(InferError(format!("{whole} does not divide into {count}")))
                } else {
                    Ok(None)
                };
            };
            Sizes::Equal(sizes)
        };
        let dims = sizes.dims();
        let sum = dims.iter().fold(Dim::Num(0), |sum, dim| &sum + dim);
        if dims.len() != count
            || sum.differs(whole)
            || dims
                .iter()
                .any(|dim| dim.num().is_some_and(|size| size < 0))
        {
            return Err(InferError(format!(
                "sizes {dims:?} for {count} outputs of an axis of {whole}"
            )));
        }
        Ok(Some(sizes))
    }

    /// With `num_outputs` the last part may be smaller.
    fn uneven(node: &NodeView, whole: &Dim, count: usize) -> Option<Vec<Dim>> {
        let (whole, count) = (
            whole.num().filter(|_| node.int("num_outputs").is_some())?,
            i64::try_from(count).ok()?,
        );
        let size = Dim::Num(whole).ceil_div(count)?.num()?;
        Some(
            (0..count)
                .map(|at| Dim::Num(size.min(whole - size * at).max(0)))
                .collect(),
        )
    }

    fn axis(node: &NodeView, rank: usize) -> Result<usize, InferError> {
        axis_attribute(node, "axis", 0, rank)
    }
}

impl Operator for SplitOperator {
    fn infer(&self, node: &NodeView) -> Result<Vec<Fact>, InferError> {
        let count = node.node.output.len();
        let untold = Fact::unranked(node.dtype(0));
        let Some(shape) = node.shape(0) else {
            return Ok(vec![untold; count]);
        };
        let axis = Self::axis(node, shape.len())?;
        let sizes = Self::sizes(node, &shape[axis])?.map_or_else(
            || {
                (0..count)
                    .map(|output| node.unknown(output, axis))
                    .collect()
            },
            |sizes| sizes.dims(),
        );
        let grid = ElementGrid::input(node, 0);
        let mut start = Some(0usize);
        let facts = sizes.into_iter().map(|size| {
            let mut dims = shape.to_vec();
            dims[axis] = size.clone();
            let contents = grid.as_ref().zip(start).and_then(|(grid, start)| {
                compose(&dims, |index| {
                    let mut source = index.to_vec();
                    source[axis] += start;
                    grid.at(&source)
                })
            });
            start = start.and_then(|start| start.checked_add(size.count()?));
            Fact::new(node.dtype(0), dims).with_contents(contents)
        });
        Ok(facts.collect())
    }

    fn relate(&self, node: &NodeView) -> Relation {
        const NAMES: [&str; 10] = ["y0", "y1", "y2", "y3", "y4", "y5", "y6", "y7", "y8", "y9"];
        let Some(shape) = node.shape(0) else {
            return node.frozen(Reason::Dynamic);
        };
        let Ok(axis) = Self::axis(node, shape.len()) else {
            return node.frozen(Reason::Dynamic);
        };
        let sizes = Self::sizes(node, &shape[axis])
            .ok()
            .flatten()
            .map(|sizes| sizes.dims());
        let numbers = sizes
            .as_ref()
            .is_some_and(|sizes| sizes.iter().all(|size| size.num().is_some()));
        let known = numbers && shape[axis].num().is_some();
        let sizes = sizes.unwrap_or_else(|| {
            (0..node.outputs.len())
                .map(|output| node.unknown(output, axis))
                .collect()
        });
        let mut builder = node.relation();
        let (mut letters, mut segments) = (Letters::new(), Letters::segments());
        let beside: Vec<Option<LabelId>> = shape
            .iter()
            .enumerate()
            .map(|(at, dim)| (at != axis).then(|| letters.free(&mut builder, dim)))
            .collect();
        let mut parts = Vec::with_capacity(sizes.len());
        for (at, size) in sizes.iter().enumerate() {
            let label = if known {
                segments.free(&mut builder, size)
            } else {
                segments.fixed(&mut builder, size, &Reason::Dynamic)
            };
            parts.push(label);
            // A part that nobody reads has no port, and nothing else says what its indices are for.
            if node.output(at).is_none() {
                builder.fix(label, Reason::operator("part of a split that is not read"));
            }
            let name = NAMES.get(at).map_or_else(
                || format!("y{at}").into(),
                |name| std::borrow::Cow::Borrowed(*name),
            );
            builder.port(
                Port::Out(at as u32),
                name,
                beside.iter().map(|other| other.unwrap_or(label)),
            );
        }
        builder.port(
            Port::In(0),
            "x",
            beside
                .iter()
                .map(|other| other.map_or_else(|| Layout::sum(&parts), Layout::from)),
        );
        operand(&mut builder, 1, "split");
        builder.finish()
    }

    fn rewrite(&self, node: &NodeView, cut: &Cut, edit: &mut NodeEdit) -> Result<(), RewriteError> {
        let problem = || RewriteError("the sizes of a split that are not known".into());
        let Some(shape) = node.shape(0) else {
            return Ok(());
        };
        let axis = Self::axis(node, shape.len()).map_err(|_| problem())?;
        let Some(layout) = cut
            .relation
            .ports
            .get(&Port::In(0))
            .and_then(|port| port.axes.get(axis))
        else {
            return Ok(());
        };
        if layout.labels().all(|label| cut.kept(label).is_none()) {
            return Ok(());
        }
        let new = cut.segments(layout);
        let numbers = new
            .iter()
            .map(Dim::num)
            .collect::<Option<Vec<_>>>()
            .ok_or_else(problem)?;
        match Self::sizes(node, &shape[axis])
            .ok()
            .flatten()
            .ok_or_else(problem)?
        {
            Sizes::Attribute(_) => edit.set_ints("split", numbers),
            Sizes::Input(_) => edit.demand(1, new.into_iter().map(Some).collect()),
            // Still equal: the default gives the same.
            Sizes::Equal(_) if numbers.windows(2).all(|pair| pair[0] == pair[1]) => {}
            Sizes::Equal(_) if node.opset < 13 => edit.set_ints("split", numbers),
            Sizes::Equal(_) => {
                if node.int("num_outputs").is_some() {
                    edit.remove("num_outputs");
                }
                edit.replace(1, numbers);
            }
        }
        Ok(())
    }

    fn shape_inputs(&self, _node: &NodeView) -> Vec<u32> {
        vec![1]
    }
}

/// Gives a sequence, whose tensors are not followed.
struct SplitToSequence;

impl Operator for SplitToSequence {
    fn infer(&self, _node: &NodeView) -> Result<Vec<Fact>, InferError> {
        Ok(vec![Fact::default()])
    }

    fn relate(&self, node: &NodeView) -> Relation {
        node.frozen(Reason::operator("sequences are not followed"))
    }
}

pub(super) static RULES: &[Rule] = &[
    Rule::onnx("Concat", &Concat).flow(Flow::Joined),
    Rule::onnx("Split", &SplitOperator).flow(Flow::Moved),
    Rule::onnx("SplitToSequence", &SplitToSequence),
];

#[cfg(test)]
mod tests {
    use crate::facts::{Dim, Element};
    use crate::ops::case::OpCase;
    use crate::ops::{Demand, Setting};

    #[test]
    fn concat_lays_segments_side_by_side() {
        let two = OpCase::op("Concat")
            .input("bx3x5")
            .input("bx4x5")
            .int("axis", 1);
        two.expect_shapes("bx7x5")
            .expect_relation("x0[a, u, b] x1[a, v, b] → y[a, u+v, b]");
        let token = OpCase::op("Concat")
            .input("bx1x768")
            .input("bxsx768")
            .int("axis", -2);
        token
            .expect_shapes("bxs + 1x768")
            .expect_relation("x0[a, 1, b] x1[a, u, b] → y[a, 1+u, b]");
        OpCase::op("Concat")
            .input("nx2")
            .input("4x3")
            .int("axis", 1)
            .expect_shapes("4x5")
            .expect_relation("x0[a, u] x1[a, v] → y[a, u+v]");
        OpCase::op("Concat")
            .input("2")
            .input("2")
            .input("2")
            .int("axis", 0)
            .expect_shapes("6")
            .expect_relation("x0[u] x1[v] x2[w] → y[u+v+w]");
    }

    #[test]
    fn concat_joins_contents() {
        OpCase::op("Concat")
            .list(&[1])
            .list(&[2, 3])
            .list(&[4])
            .int("axis", 0)
            .expect_contents(&[1, 2, 3, 4]);
        let target = OpCase::op("Concat")
            .computed(&[Dim::symbol("b")])
            .list(&[-1])
            .int("axis", 0)
            .facts();
        let contents = target[0].contents.clone().unwrap();
        assert_eq!(
            *contents.0,
            [Element::Int(Dim::symbol("b")), Element::Int(Dim::Num(-1))]
        );
    }

    #[test]
    fn split_divides_by_attribute_input_or_equally() {
        let old = OpCase::op("Split")
            .at(11)
            .input("bx6")
            .ints("split", &[2, 4])
            .int("axis", 1)
            .outputs(2);
        old.expect_shapes("bx2 bx4")
            .expect_relation("x[a, u+v] → y0[a, u] y1[a, v]");
        let new = OpCase::op("Split")
            .input("bx6")
            .list(&[2, 4])
            .int("axis", -1)
            .outputs(2);
        new.expect_shapes("bx2 bx4")
            .expect_relation("x[a, u+v] split[2] → y0[a, u] y1[a, v]");
        OpCase::op("Split")
            .at(13)
            .input("bx6")
            .int("axis", 1)
            .outputs(3)
            .expect_shapes("bx2 bx2 bx2")
            .expect_relation("x[a, u+v+w] → y0[a, u] y1[a, v] y2[a, w]");
        OpCase::op("Split")
            .input("7x2")
            .int("num_outputs", 3)
            .outputs(3)
            .expect_shapes("3x2 3x2 1x2")
            .expect_relation("x[u+v+1, a] → y0[u, a] y1[v, a] y2[1, a]");
        OpCase::op("Split")
            .input("bx6")
            .outputs(2)
            .expect_shapes("?out0.0x6 ?out1.0x6");
        OpCase::op("Split")
            .list(&[1, 2, 3, 4])
            .list(&[1, 3])
            .outputs(2)
            .expect_shapes("1 3")
            .expect_contents(&[1]);
    }

    #[test]
    fn sizes_become_explicit_when_they_differ() {
        let equal = OpCase::op("Split")
            .input("bx8")
            .int("axis", 1)
            .int("num_outputs", 2)
            .outputs(2);
        assert!(
            equal
                .edit(&[("u", &[0, 1]), ("v", &[1, 3])])
                .unwrap()
                .demands
                .is_empty()
        );
        let edit = equal.edit(&[("v", &[1, 3])]).unwrap();
        let whole = Demand {
            input: 1,
            elements: vec![Some(Dim::Num(4)), Some(Dim::Num(2))],
            whole: true,
        };
        assert_eq!(
            (edit.demands, edit.settings),
            (vec![whole], vec![("num_outputs", Setting::Remove)])
        );
        let old = OpCase::op("Split")
            .at(11)
            .input("bx8")
            .int("axis", 1)
            .outputs(2);
        assert_eq!(
            old.edit(&[("v", &[1])]).unwrap().settings,
            [("split", Setting::Ints(vec![4, 1]))]
        );
        let sizes = OpCase::op("Split")
            .input("8")
            .list(&[2, 6])
            .outputs(2)
            .edit(&[("v", &[1])])
            .unwrap();
        assert_eq!(
            sizes.demands,
            [Demand {
                input: 1,
                elements: vec![Some(Dim::Num(2)), Some(Dim::Num(1))],
                whole: false
            }]
        );
    }
}
