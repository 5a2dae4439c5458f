//! Operators that add indices at the ends of axes, or crop them.

use super::axes::{Letters, axis_numbers, operand};
use super::elements::{ElementGrid, compose};
use super::meaning::Flow;
use super::{Cut, InferError, NodeEdit, NodeView, Operator, RewriteError, Rule};
use crate::facts::{Dim, Element, Fact};
use crate::proto::Dtype;
use crate::relation::{Builder, LabelId, Layout, Port, Reason, Relation, Segment};

struct Pad;

/// How many indices are added before and after (cropped if negative); `None` where known only at run time.
#[derive(Clone, Debug, PartialEq)]
struct PadAmounts {
    axis: usize,
    before: Option<Dim>,
    after: Option<Dim>,
}

impl PadAmounts {
    /// Both as numbers, if the axis's extent is one too or nothing is cropped.
    fn numbers(&self, extent: &Dim) -> Option<(i64, i64)> {
        let (before, after) = (self.before.as_ref()?.num()?, self.after.as_ref()?.num()?);
        let sane = (before >= 0 && after >= 0)
            || extent
                .num()
                .is_some_and(|extent| before.min(0) + after.min(0) + extent > 0);
        sane.then_some((before, after))
    }
}

impl Pad {
    /// The padded axes in the order in which their pads are given; `None` when it is not known which they are.
    fn ends(node: &NodeView, rank: usize) -> Result<Option<Vec<PadAmounts>>, InferError> {
        let pads: Vec<Option<Dim>> = if let Some(pads) = node.ints("pads") {
            pads.iter().map(|pad| Some(Dim::Num(*pad))).collect()
        } else if let Some(contents) = node.contents(1) {
            contents.0.iter().map(Element::dim).collect()
        } else {
            Vec::new()
        };
        let axes: Vec<usize> = match (node.has_input(3), node.numbers(3)) {
            (false, _) => (0..rank).collect(),
            (true, Some(axes)) => axis_numbers(&axes, rank)?,
            (true, None) => return Ok(None),
        };
        // Where the pads are an input that is not known, its length is not needed.
        let pads = if pads.is_empty() && node.has_input(1) {
            vec![None; 2 * axes.len()]
        } else {
            pads
        };
        if pads.len() != 2 * axes.len() {
            return Err(InferError(format!(
                "{} pads for {} axes",
                pads.len(),
                axes.len()
            )));
        }
        let (before, after) = pads.split_at(axes.len());
        let ends = axes.into_iter().zip(before.iter().zip(after));
        Ok(Some(
            ends.map(|(axis, (before, after))| PadAmounts {
                axis,
                before: before.clone(),
                after: after.clone(),
            })
            .collect(),
        ))
    }

    fn is_constant(node: &NodeView) -> bool {
        node.string("mode").is_none_or(|mode| mode == "constant")
    }

    fn value(node: &NodeView) -> Element {
        match (node.has_input(2), node.contents(2)) {
            (true, Some(contents)) => contents.0.first().cloned().unwrap_or(Element::Unknown),
            (true, None) => Element::Unknown,
            (false, _) => match node.dtype(0) {
                Some(Dtype::Bool) => Element::Bool(false),
                Some(dtype) if dtype.is_integer() => Element::Int(Dim::Num(0)),
                _ => Element::Float(f64::from(node.float("value").unwrap_or(0.0))),
            },
        }
    }
}

impl Operator for Pad {
    fn infer(&self, node: &NodeView) -> Result<Vec<Fact>, InferError> {
        let Some(shape) = node.shape(0) else {
            return Ok(vec![Fact::unranked(node.dtype(0))]);
        };
        let Some(ends) = Self::ends(node, shape.len())? else {
            return Ok(vec![Fact::new(
                node.dtype(0),
                (0..shape.len()).map(|axis| node.unknown(0, axis)).collect(),
            )]);
        };
        let mut dims = shape.to_vec();
        let mut starts = vec![Some(0); shape.len()];
        for PadAmounts {
            axis,
            before,
            after,
        } in &ends
        {
            let sum = before
                .as_ref()
                .zip(after.as_ref())
                .map(|(before, after)| &(before + &dims[*axis]) + after);
            dims[*axis] = sum.unwrap_or_else(|| node.unknown(0, *axis));
            if dims[*axis].num().is_some_and(|extent| extent < 0) {
                return Err(InferError(format!("more is cropped than axis {axis} has")));
            }
            starts[*axis] = before.as_ref().and_then(Dim::num);
        }
        let value = Self::value(node);
        let contents = ElementGrid::input(node, 0)
            .filter(|_| Self::is_constant(node))
            .and_then(|grid| {
                compose(&dims, |index| {
                    let source = |(at, start): (&usize, &Option<i64>)| {
                        start.map(|start| usize::try_from(*at as i64 - start).ok())
                    };
                    let source = index
                        .iter()
                        .zip(&starts)
                        .map(source)
                        .collect::<Option<Vec<Option<usize>>>>()?;
                    let inside = source
                        .into_iter()
                        .collect::<Option<Vec<usize>>>()
                        .and_then(|source| grid.at(&source));
                    Some(inside.unwrap_or_else(|| value.clone()))
                })
            });
        Ok(vec![Fact::new(node.dtype(0), dims).with_contents(contents)])
    }

    fn relate(&self, node: &NodeView) -> Relation {
        const REPEATED: Reason = Reason::operator("padded with its own entries");
        const UNKNOWN: Reason = Reason::operator("padded by amounts known only at run time");
        let (Some(shape), Some(padded)) = (node.shape(0), node.output_shape(0)) else {
            return node.frozen(Reason::Dynamic);
        };
        let Ok(Some(ends)) = Self::ends(node, shape.len()) else {
            return node.frozen(UNKNOWN);
        };
        let constant = Self::is_constant(node);
        let mut builder = node.relation();
        let mut letters = Letters::new();
        let (mut x, mut y): (Vec<LabelId>, Vec<Layout>) = (Vec::new(), Vec::new());
        for (axis, (dim, padded)) in shape.iter().zip(padded).enumerate() {
            let numbers = ends
                .iter()
                .find(|ends| ends.axis == axis)
                .map_or(Some((0, 0)), |ends| ends.numbers(dim));
            match numbers {
                Some((before, after)) if constant || (before, after) == (0, 0) => {
                    let label = letters.free(&mut builder, dim);
                    x.push(label);
                    y.push(segments(&mut builder, label, dim, before, after));
                }
                _ => {
                    let reason = if constant { &UNKNOWN } else { &REPEATED };
                    x.push(letters.fixed(&mut builder, dim, reason));
                    y.push(letters.fixed(&mut builder, padded, reason).into());
                }
            }
        }
        builder.port(Port::In(0), "x", x);
        for (input, name) in [(1, "pads"), (2, "value"), (3, "axes")] {
            operand(&mut builder, input, name);
        }
        builder.port(Port::Out(0), "y", y);
        builder.finish()
    }

    fn rewrite(&self, node: &NodeView, cut: &Cut, edit: &mut NodeEdit) -> Result<(), RewriteError> {
        let (Some(shape), Some(x), Some(y)) = (
            node.shape(0),
            cut.relation.ports.get(&Port::In(0)),
            cut.relation.ports.get(&Port::Out(0)),
        ) else {
            return Ok(());
        };
        let Some(ends) = Self::ends(node, shape.len()).ok().flatten() else {
            return Ok(());
        };
        let mut before: Vec<Option<Dim>> = vec![None; ends.len()];
        let mut after = before.clone();
        for (place, ends) in ends.iter().enumerate() {
            let Some((old_before, old_after)) = ends.numbers(&shape[ends.axis]) else {
                continue;
            };
            let (Some(x), Some(y)) = (x.axes.get(ends.axis), y.axes.get(ends.axis)) else {
                continue;
            };
            // An axis that is padded with its own entries keeps all of them, and its pads with them.
            if !x
                .labels()
                .next()
                .is_some_and(|label| y.labels().any(|other| other == label))
            {
                continue;
            }
            let kept = x.labels().next().and_then(|label| cut.kept(label));
            let (new_before, new_after) = new_ends(
                (old_before, old_after),
                shape[ends.axis].num().unwrap_or(i64::MAX),
                kept,
                &cut.segments(y),
            );
            before[place] = (new_before != old_before).then_some(Dim::Num(new_before));
            after[place] = (new_after != old_after).then_some(Dim::Num(new_after));
        }
        before.extend(after);
        set_pads(node, edit, before);
        Ok(())
    }

    fn shape_inputs(&self, _node: &NodeView) -> Vec<u32> {
        vec![1, 3]
    }
}

/// What is added (or, below zero, taken away) before and after an axis of this extent once `kept` of its indices stay; `extents`
/// are those of the padded axis' segments then.
fn new_ends(
    (before, after): (i64, i64),
    extent: i64,
    kept: Option<&[u32]>,
    extents: &[Dim],
) -> (i64, i64) {
    // Added indices are the outer segments; cropped ones are those of the input's that are kept but not read.
    let cropped = |outside: &dyn Fn(i64) -> bool, all: i64| {
        kept.map_or(all, |kept| {
            kept.iter().filter(|at| outside(i64::from(**at))).count() as i64
        })
    };
    let new_before = match before {
        1.. => extents.first().and_then(Dim::num).unwrap_or(before),
        0 => 0,
        _ => -cropped(&|at| at < before.saturating_neg(), before.saturating_neg()),
    };
    let new_after = match after {
        1.. => extents.last().and_then(Dim::num).unwrap_or(after),
        0 => 0,
        _ => -cropped(&|at| at >= extent + after, after.saturating_neg()),
    };
    (new_before, new_after)
}

/// Gives the node other pads, in its attribute or as an input, where any change.
fn set_pads(node: &NodeView, edit: &mut NodeEdit, pads: Vec<Option<Dim>>) {
    if pads.iter().all(Option::is_none) {
        return;
    }
    match node.ints("pads") {
        None => edit.demand(1, pads),
        Some(old) => {
            let new = old
                .iter()
                .zip(pads)
                .map(|(old, new)| new.and_then(|new| new.num()).unwrap_or(*old));
            edit.set_ints("pads", new.collect());
        }
    }
}

/// An axis with indices from nowhere at its ends, or without some of its own.
fn segments(
    builder: &mut Builder,
    label: LabelId,
    extent: &Dim,
    before: i64,
    after: i64,
) -> Layout {
    let mut layout = Layout::from(label);
    if let (true, Some(extent)) = (before < 0 || after < 0, extent.num()) {
        let read = before.saturating_neg().max(0)..extent - after.saturating_neg().max(0);
        layout = Layout::pick(label, read.filter_map(|at| u32::try_from(at).ok()));
    }
    let mut fill = |count: i64| {
        (count > 0).then(|| Segment::Product(smallvec::smallvec![builder.fill(Dim::Num(count))]))
    };
    let (before, after) = (fill(before), fill(after));
    Layout(before.into_iter().chain(layout.0).chain(after).collect())
}

/// Pads or crops evenly at both ends to given extents.
struct CenterCropPad;

impl CenterCropPad {
    fn axes(node: &NodeView, rank: usize) -> Result<Vec<usize>, InferError> {
        node.ints("axes")
            .map_or_else(|| Ok((0..rank).collect()), |axes| axis_numbers(axes, rank))
    }
}

impl Operator for CenterCropPad {
    fn infer(&self, node: &NodeView) -> Result<Vec<Fact>, InferError> {
        let Some(shape) = node.shape(0) else {
            return Ok(vec![Fact::unranked(node.dtype(0))]);
        };
        let mut dims = shape.to_vec();
        for (place, axis) in Self::axes(node, shape.len())?.into_iter().enumerate() {
            let extent = node
                .contents(1)
                .and_then(|contents| contents.0.get(place)?.dim());
            dims[axis] = extent.unwrap_or_else(|| node.unknown(0, axis));
        }
        Ok(vec![Fact::new(node.dtype(0), dims)])
    }

    fn relate(&self, node: &NodeView) -> Relation {
        const CENTRED: Reason = Reason::operator("cropped or padded at both ends");
        let (Some(shape), Some(new)) = (node.shape(0), node.output_shape(0)) else {
            return node.frozen(Reason::Dynamic);
        };
        let Ok(axes) = Self::axes(node, shape.len()) else {
            return node.frozen(CENTRED);
        };
        let mut builder = node.relation();
        let mut letters = Letters::new();
        let (mut x, mut y): (Vec<LabelId>, Vec<LabelId>) = (Vec::new(), Vec::new());
        for (axis, (dim, new)) in shape.iter().zip(new).enumerate() {
            if axes.contains(&axis) {
                x.push(letters.fixed(&mut builder, dim, &CENTRED));
                y.push(letters.fixed(&mut builder, new, &CENTRED));
            } else {
                let label = letters.free(&mut builder, dim);
                x.push(label);
                y.push(label);
            }
        }
        builder.port(Port::In(0), "x", x);
        operand(&mut builder, 1, "shape");
        builder.port(Port::Out(0), "y", y);
        builder.finish()
    }

    fn shape_inputs(&self, _node: &NodeView) -> Vec<u32> {
        vec![1]
    }
}

pub(super) static RULES: &[Rule] = &[
    Rule::onnx("Pad", &Pad).flow(Flow::Moved),
    Rule::onnx("CenterCropPad", &CenterCropPad),
    Rule::microsoft("Pad", &Pad),
];

#[cfg(test)]
mod tests {
    use crate::facts::Dim;
    use crate::ops::case::OpCase;
    use crate::ops::{Demand, Setting};

    #[test]
    fn constants_are_added_at_the_ends() {
        let old = OpCase::op("Pad")
            .at(9)
            .input("bx8x5")
            .ints("pads", &[0, 0, 1, 0, 0, 2]);
        old.expect_shapes("bx8x8")
            .expect_relation("x[a, b, c] → y[a, b, 1+c+2]");
        let new = OpCase::op("Pad")
            .input("bx8xw")
            .list(&[3, 1])
            .none()
            .list(&[-1]);
        new.expect_shapes("bx8xw + 4")
            .expect_relation("x[a, b, c] pads[2] axes[1] → y[a, b, 3+c+1]");
        OpCase::op("Pad")
            .input("8")
            .list(&[-2, 1])
            .expect_shapes("7")
            .expect_relation("x[a] pads[2] → y[a{2..8}+1]");
        let reflect = OpCase::op("Pad")
            .input("bx8")
            .list(&[0, 1, 0, 1])
            .text("mode", "reflect");
        reflect
            .expect_shapes("bx10")
            .expect_relation("x[a, b] pads[4] → y[a, c]");
        OpCase::op("Pad")
            .input("bx8")
            .input("i64:4")
            .expect_shapes("?out0.0x?out0.1")
            .expect_relation("x[a, c] pads[4] → y[b, d]");
        OpCase::op("Pad")
            .list(&[7, 8])
            .list(&[1, -1])
            .number(1)
            .expect_contents(&[1, 7]);
    }

    #[test]
    fn pads_follow_the_cut() {
        let crop = OpCase::op("Pad").input("8").list(&[-2, -3]);
        let edit = crop.edit(&[("a", &[0, 1, 3, 7])]).unwrap();
        assert_eq!(
            edit.demands,
            [Demand {
                input: 1,
                elements: vec![None, Some(Dim::Num(-1))],
                whole: false
            }]
        );
        let grown = OpCase::op("Pad").at(9).input("8").ints("pads", &[0, 4]);
        let relation = "x[a] → y[a+4]";
        let edit = grown
            .expect_relation(relation)
            .edit(&[("", &[1, 2])])
            .unwrap();
        assert_eq!(edit.settings, [("pads", Setting::Ints(vec![0, 2]))]);
    }

    #[test]
    fn pads_of_other_axes_stay() {
        let reflect = OpCase::op("Pad")
            .input("1x8x5x5")
            .list(&[0, 0, 1, 2, 0, 0, 1, 2])
            .text("mode", "reflect");
        assert!(reflect.edit(&[("b", &[0, 3])]).unwrap().demands.is_empty());
        let old = OpCase::op("Pad")
            .at(9)
            .input("1x8x5x5")
            .ints("pads", &[0, 0, 1, 2, 0, 0, 1, 2])
            .text("mode", "edge");
        assert!(old.edit(&[("b", &[0, 3])]).unwrap().settings.is_empty());
        let both = OpCase::op("Pad")
            .input("1x8x5x5")
            .list(&[0, 2, 1, 2, 0, 0, 1, 2]);
        assert!(both.edit(&[("b", &[0, 3])]).unwrap().demands.is_empty());
    }

    #[test]
    fn center_crop_pad_fixes_its_axes() {
        let centre = OpCase::op("CenterCropPad")
            .input("bx8x5")
            .list(&[7])
            .ints("axes", &[-1]);
        centre
            .expect_shapes("bx8x7")
            .expect_relation("x[a, b, c] shape[1] → y[a, b, d]");
    }
}
