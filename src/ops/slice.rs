//! Slice: a stretch of some axes, or every so-manieth index.

use super::axes::{Letters, axis_numbers, list, operand};
use super::elements::{ElementGrid, compose};
use super::meaning::Flow;
use super::{Cut, InferError, NodeEdit, NodeView, Operator, RewriteError, Rule};
use crate::facts::{Dim, Fact};
use crate::relation::{Layout, Port, Reason, Relation};

/// Axes with more picked indices than this are positions, not channels.
const MOST_PICKED: i64 = 1 << 20;

struct Slice;

/// What is asked of one axis; `None` where it is known only at run time.
struct SliceBounds {
    start: Option<Dim>,
    end: Option<Dim>,
    step: Option<Dim>,
}

/// What is taken of one axis.
#[derive(Clone, Debug, PartialEq)]
enum SliceRange {
    /// All of it, in order.
    Whole,
    /// `count` indices from `start` on.
    Picked { start: i64, step: i64, count: i64 },
    /// So many, but which ones is not known; `None` when their number is not known either.
    Open(Option<Dim>),
}

/// A bound as it counts on an axis of `extent`: from the front, within what a slice of this direction may reach.
fn resolve(bound: i64, extent: i64, backwards: bool, is_end: bool) -> i64 {
    let bound = if bound < 0 {
        bound.saturating_add(extent)
    } else {
        bound
    };
    match (backwards, is_end) {
        (false, _) => bound.clamp(0, extent),
        (true, false) => bound.clamp(0, (extent - 1).max(0)),
        (true, true) => bound.clamp(-1, (extent - 1).max(-1)),
    }
}

impl SliceBounds {
    fn range(&self, extent: &Dim) -> SliceRange {
        let (Some(start), Some(end), Some(step)) = (
            &self.start,
            &self.end,
            self.step.as_ref().and_then(Dim::num),
        ) else {
            return SliceRange::Open(None);
        };
        let (Some(start), Some(end), Some(number)) = (start.num(), end.num(), extent.num()) else {
            return if step == 1 {
                Self::symbolic(start, end, extent)
            } else {
                SliceRange::Open(None)
            };
        };
        let (start, end) = (
            resolve(start, number, step < 0, false),
            resolve(end, number, step < 0, true),
        );
        let distance = if step < 0 { start - end } else { end - start };
        let count = if step == 0 {
            0
        } else {
            Dim::Num(distance.max(0))
                .ceil_div(step.saturating_abs())
                .and_then(|count| count.num())
                .unwrap_or(0)
        };
        if (start, step, count) == (0, 1, number) {
            SliceRange::Whole
        } else {
            SliceRange::Picked { start, step, count }
        }
    }

    /// A bound that counts from the end is made one that counts from the front. A bound that is an expression is taken to
    /// lie within the axis.
    fn front(bound: &Dim, extent: &Dim) -> Option<Dim> {
        const FAR: i64 = i32::MAX as i64;
        match bound {
            Dim::Num(number) if *number >= FAR => Some(extent.clone()),
            // An extent that is not known is taken to be 1 at least.
            Dim::Num(0 | 1) => Some(bound.clone()),
            Dim::Num(-1) => Some(extent + bound),
            Dim::Num(number) if *number < 0 => Some(Dim::max(&(extent + bound), &Dim::Num(0))),
            Dim::Num(_) => Some(bound.min(extent)),
            Dim::Expr(_) => match bound.sign()? {
                1 if matches!((bound - extent).num(), Some(beyond) if beyond > 0) => {
                    Some(extent.clone())
                }
                1 => Some(bound.clone()),
                _ => Some(extent + bound),
            },
        }
    }

    fn symbolic(start: &Dim, end: &Dim, extent: &Dim) -> SliceRange {
        let (Some(start), Some(end)) = (Self::front(start, extent), Self::front(end, extent))
        else {
            return SliceRange::Open(None);
        };
        match &end - &start {
            length if length == *extent && start == Dim::Num(0) => SliceRange::Whole,
            Dim::Num(length) => SliceRange::Open(Some(Dim::Num(length.max(0)))),
            length => SliceRange::Open(Some(length)),
        }
    }
}

impl Slice {
    /// The sliced axes in the order in which their bounds are given; `None` when it is not known which they are.
    fn bounds(
        node: &NodeView,
        rank: usize,
    ) -> Result<Option<Vec<(usize, SliceBounds)>>, InferError> {
        let (Some(starts), Some(ends)) = (list(node, "starts", 1), list(node, "ends", 2)) else {
            return Ok(None);
        };
        let axes = match node.ints_or_input("axes", 3) {
            Err(()) => return Ok(None),
            Ok(Some(axes)) => axes,
            Ok(None) => (0..starts.len() as i64).collect(),
        };
        let steps = match node.has_input(4) {
            true => list(node, "", 4).unwrap_or_else(|| vec![None; starts.len()]),
            false => vec![Some(Dim::Num(1)); starts.len()],
        };
        let axes = axis_numbers(&axes, rank)?;
        if [ends.len(), axes.len(), steps.len()]
            .iter()
            .any(|length| *length != starts.len())
        {
            return Err(InferError(
                "starts, ends, axes and steps differ in length".into(),
            ));
        }
        if steps.iter().flatten().any(|step| *step == Dim::Num(0)) {
            return Err(InferError("a step of 0".into()));
        }
        let bounds = starts
            .into_iter()
            .zip(ends)
            .zip(steps)
            .map(|((start, end), step)| SliceBounds { start, end, step });
        Ok(Some(axes.into_iter().zip(bounds).collect()))
    }

    /// What is taken of every axis; `None` when it is not known which are sliced.
    fn ranges(node: &NodeView, shape: &[Dim]) -> Result<Option<Vec<SliceRange>>, InferError> {
        let Some(bounds) = Self::bounds(node, shape.len())? else {
            return Ok(None);
        };
        let mut ranges = vec![SliceRange::Whole; shape.len()];
        for (axis, bounds) in bounds {
            ranges[axis] = bounds.range(&shape[axis]);
        }
        Ok(Some(ranges))
    }
}

impl Operator for Slice {
    fn infer(&self, node: &NodeView) -> Result<Vec<Fact>, InferError> {
        let Some(shape) = node.shape(0) else {
            return Ok(vec![Fact::unranked(node.dtype(0))]);
        };
        let Some(ranges) = Self::ranges(node, shape)? else {
            return Ok(vec![Fact::new(
                node.dtype(0),
                (0..shape.len()).map(|axis| node.unknown(0, axis)).collect(),
            )]);
        };
        let extent = |axis: usize| match &ranges[axis] {
            SliceRange::Whole => shape[axis].clone(),
            SliceRange::Picked { count, .. } => Dim::Num(*count),
            SliceRange::Open(extent) => extent.clone().unwrap_or_else(|| node.unknown(0, axis)),
        };
        let dims: Vec<Dim> = (0..shape.len()).map(extent).collect();
        let source = |range: &SliceRange, at: usize| match range {
            SliceRange::Whole => Some(at),
            SliceRange::Picked { start, step, .. } => {
                usize::try_from(start + step * at as i64).ok()
            }
            SliceRange::Open(_) => None,
        };
        let contents = ElementGrid::input(node, 0).and_then(|grid| {
            compose(&dims, |index| {
                grid.at(&ranges
                    .iter()
                    .zip(index)
                    .map(|(range, at)| source(range, *at))
                    .collect::<Option<Vec<_>>>()?)
            })
        });
        Ok(vec![Fact::new(node.dtype(0), dims).with_contents(contents)])
    }

    fn relate(&self, node: &NodeView) -> Relation {
        const UNKNOWN: Reason = Reason::operator("sliced at bounds known only at run time");
        const EMPTY: Reason = Reason::operator("nothing of the axis is taken");
        const LONG: Reason = Reason::operator("a slice of very many positions");
        let (Some(shape), Some(taken)) = (node.shape(0), node.output_shape(0)) else {
            return node.frozen(Reason::Dynamic);
        };
        let Ok(Some(ranges)) = Self::ranges(node, shape) else {
            return node.frozen(UNKNOWN);
        };
        let mut builder = node.relation();
        let mut letters = Letters::new();
        let (mut x, mut y): (Vec<Layout>, Vec<Layout>) = (Vec::new(), Vec::new());
        for ((range, dim), taken) in ranges.iter().zip(shape).zip(taken) {
            let reason = match range {
                SliceRange::Whole => {
                    let label = letters.free(&mut builder, dim);
                    x.push(label.into());
                    y.push(label.into());
                    continue;
                }
                SliceRange::Picked { start, step, count } if (1..=MOST_PICKED).contains(count) => {
                    let label = letters.free(&mut builder, dim);
                    x.push(label.into());
                    y.push(Layout::pick(
                        label,
                        (0..*count).filter_map(|at| u32::try_from(start + step * at).ok()),
                    ));
                    continue;
                }
                SliceRange::Picked { count: 0, .. } => &EMPTY,
                SliceRange::Picked { .. } => &LONG,
                SliceRange::Open(_) => &UNKNOWN,
            };
            x.push(letters.fixed(&mut builder, dim, reason).into());
            y.push(letters.fixed(&mut builder, taken, reason).into());
        }
        builder.port(Port::In(0), "x", x);
        for (input, name) in [(1, "starts"), (2, "ends"), (3, "axes"), (4, "steps")] {
            operand(&mut builder, input, name);
        }
        builder.port(Port::Out(0), "y", y);
        builder.finish()
    }

    fn rewrite(&self, node: &NodeView, cut: &Cut, edit: &mut NodeEdit) -> Result<(), RewriteError> {
        let (Some(shape), Some(port)) = (node.shape(0), cut.relation.ports.get(&Port::In(0)))
        else {
            return Ok(());
        };
        let Some(bounds) = Self::bounds(node, shape.len()).ok().flatten() else {
            return Ok(());
        };
        let mut starts: Vec<Option<Dim>> = vec![None; bounds.len()];
        let mut ends = starts.clone();
        let mut whole = starts.clone();
        for (place, (axis, bounds)) in bounds.iter().enumerate() {
            let kept = port
                .axes
                .get(*axis)
                .and_then(|layout| layout.labels().next())
                .and_then(|label| cut.kept(label));
            let range = bounds.range(&shape[*axis]);
            if let (Some(kept), SliceRange::Whole) = (kept, &range) {
                whole[place] = Some(Dim::from(kept.len()));
            }
            let (Some(kept), SliceRange::Picked { start, step, count }) = (kept, range) else {
                continue;
            };
            [starts[place], ends[place]] = new_bounds(bounds, kept, [start, step, count])?;
        }
        // Where all is taken, an end computed from the very extent that is cut follows it.
        edit.accept(2, whole);
        for (name, input, elements) in [("starts", 1, starts), ("ends", 2, ends)] {
            if elements.iter().all(Option::is_none) {
                continue;
            }
            match node.ints(name) {
                None => edit.demand(input, elements),
                Some(old) => {
                    let new = old
                        .iter()
                        .zip(elements)
                        .map(|(old, new)| new.and_then(|new| new.num()).unwrap_or(*old));
                    edit.set_ints(name, new.collect());
                }
            }
        }
        Ok(())
    }

    fn shape_inputs(&self, _node: &NodeView) -> Vec<u32> {
        vec![1, 2, 3, 4]
    }
}

/// Start and end of a slice of `[start, step, count]` once `kept` indices stay; `None` where what is written holds still.
/// Errors: a step that is not one.
fn new_bounds(
    bounds: &SliceBounds,
    kept: &[u32],
    [start, step, count]: [i64; 3],
) -> Result<[Option<Dim>; 2], RewriteError> {
    if step.unsigned_abs() != 1 {
        return Err(RewriteError(
            "a slice that takes every so-manieth index".into(),
        ));
    }
    let (first, last) = (
        start.min(start + step * (count - 1)),
        start.max(start + step * (count - 1)),
    );
    let before = |index: i64| kept.partition_point(|at| i64::from(*at) < index) as i64;
    let (low, high, extent) = (before(first), before(last + 1), kept.len() as i64);
    let (from, to) = if step < 0 {
        (high - 1, low - 1)
    } else {
        (low, high)
    };
    // What is written stays where it still means the same and does not depend on how much went.
    let element = |written: &Option<Dim>, wanted: i64, is_end: bool| {
        let written = written.as_ref().and_then(Dim::num)?;
        let lasts = written <= 0 || written >= extent;
        if lasts && resolve(written, extent, step < 0, is_end) == wanted {
            return None;
        }
        Some(Dim::Num(if wanted < 0 { -extent - 1 } else { wanted }))
    };
    Ok([
        element(&bounds.start, from.max(0), false),
        element(&bounds.end, to, true),
    ])
}

pub(super) static RULES: &[Rule] = &[Rule::onnx("Slice", &Slice).flow(Flow::Moved)];

#[cfg(test)]
mod tests {
    use crate::facts::Dim;
    use crate::ops::case::OpCase;
    use crate::ops::{Demand, Setting};

    const FAR: i64 = i64::MAX;

    fn demand(input: u32, elements: &[Option<i64>]) -> Demand {
        Demand {
            input,
            elements: elements
                .iter()
                .map(|element| element.map(Dim::Num))
                .collect(),
            whole: false,
        }
    }

    #[test]
    fn a_stretch_picks_indices() {
        let old = OpCase::op("Slice")
            .at(9)
            .input("bx8")
            .ints("axes", &[1])
            .ints("starts", &[2])
            .ints("ends", &[6]);
        old.expect_shapes("bx4")
            .expect_relation("x[a, b] → y[a, b{2..6}]");
        let new = OpCase::op("Slice")
            .input("bx8x3")
            .list(&[-4])
            .list(&[FAR])
            .list(&[-2]);
        new.expect_shapes("bx4x3")
            .expect_relation("x[a, b, c] starts[1] ends[1] axes[1] → y[a, b{4..8}, c]");
        let odd = OpCase::op("Slice")
            .input("8")
            .list(&[1])
            .list(&[8])
            .list(&[0])
            .list(&[2]);
        odd.expect_shapes("4")
            .expect_relation("x[a] starts[1] ends[1] axes[1] steps[1] → y[a{1,3..}]");
        let back = OpCase::op("Slice")
            .input("4")
            .list(&[-1])
            .list(&[i64::MIN])
            .list(&[0])
            .list(&[-1]);
        back.expect_shapes("4")
            .expect_relation("x[a] starts[1] ends[1] axes[1] steps[1] → y[a{3,2..}]");
        OpCase::op("Slice")
            .input("4x2")
            .list(&[0, 0])
            .list(&[9, 2])
            .expect_shapes("4x2")
            .expect_relation("x[a, b] starts[2] ends[2] → y[a, b]");
        OpCase::op("Slice")
            .input("4")
            .list(&[3])
            .list(&[1])
            .expect_shapes("0")
            .expect_relation("x[a] starts[1] ends[1] → y[b]");
    }

    #[test]
    fn symbolic_bounds_give_symbolic_extents() {
        let axis = |case: OpCase, start: i64, end: i64| case.list(&[start]).list(&[end]).list(&[1]);
        axis(OpCase::op("Slice").input("bxs"), 1, FAR)
            .expect_shapes("bxs - 1")
            .expect_relation("x[a, b] starts[1] ends[1] axes[1] → y[a, c]");
        axis(OpCase::op("Slice").input("bxs"), 0, FAR)
            .expect_shapes("bxs")
            .expect_relation("x[a, b] starts[1] ends[1] axes[1] → y[a, b]");
        axis(OpCase::op("Slice").input("bxs"), 0, -1).expect_shapes("bxs - 1");
        axis(OpCase::op("Slice").input("bxs"), -1, FAR).expect_shapes("bx1");
        axis(OpCase::op("Slice").input("bxs"), 0, 1).expect_shapes("bx1");
        let positions = OpCase::op("Slice")
            .input("1x512")
            .list(&[0])
            .computed(&[Dim::symbol("s")])
            .list(&[1]);
        positions
            .expect_shapes("1xs")
            .expect_relation("x[1, a] starts[1] ends[1] axes[1] → y[1, b]");
        let last = OpCase::op("Slice")
            .input("bxt")
            .computed(&[&Dim::Num(0) - &Dim::symbol("s")])
            .list(&[FAR])
            .list(&[1]);
        last.expect_shapes("bxs");
        OpCase::op("Slice")
            .input("bx8")
            .input("i64:1")
            .list(&[5])
            .list(&[1])
            .expect_shapes("bx?out0.1");
        OpCase::op("Slice")
            .input("bx8")
            .list(&[5])
            .list(&[1])
            .input("i64:1")
            .expect_shapes("?out0.0x?out0.1");
    }

    #[test]
    fn contents_are_sliced() {
        OpCase::op("Slice")
            .list(&[5, 6, 7, 8])
            .list(&[1])
            .list(&[3])
            .expect_contents(&[6, 7]);
        OpCase::op("Slice")
            .list(&[5, 6, 7, 8])
            .list(&[-1])
            .list(&[-9])
            .list(&[0])
            .list(&[-2])
            .expect_contents(&[8, 6]);
    }

    #[test]
    fn bounds_follow_the_kept_indices() {
        let middle = OpCase::op("Slice").input("8x2").list(&[2]).list(&[6]);
        let edit = middle.edit(&[("a", &[0, 2, 3, 5, 7])]).unwrap();
        assert_eq!(edit.demands, [demand(1, &[Some(1)]), demand(2, &[Some(4)])]);
        let tail = OpCase::op("Slice")
            .input("8")
            .list(&[4])
            .list(&[FAR])
            .edit(&[("a", &[0, 5, 6, 7])])
            .unwrap();
        assert_eq!(tail.demands, [demand(1, &[Some(1)])]);
        let half = OpCase::op("Slice")
            .input("8")
            .list(&[-4])
            .list(&[FAR])
            .edit(&[("a", &[0, 4, 5, 6, 7])])
            .unwrap();
        assert!(half.demands.is_empty());
        let old = OpCase::op("Slice")
            .at(9)
            .input("8")
            .ints("starts", &[0])
            .ints("ends", &[4])
            .edit(&[("a", &[1, 3, 4])])
            .unwrap();
        assert_eq!(old.settings, [("ends", Setting::Ints(vec![2]))]);
        let back = OpCase::op("Slice")
            .input("8")
            .list(&[3])
            .list(&[-9])
            .list(&[0])
            .list(&[-1]);
        assert_eq!(
            back.edit(&[("a", &[1, 3, 4])]).unwrap().demands,
            [demand(1, &[Some(1)])]
        );
        let odd = OpCase::op("Slice")
            .input("8")
            .list(&[0])
            .list(&[8])
            .list(&[0])
            .list(&[2]);
        assert!(odd.edit(&[("a", &[1, 3])]).is_err());
    }
}
