//! Operators that resample spatial axes.

use super::axes::{Letters, axis_numbers, operand};
use super::constant;
use super::{Cut, InferError, NodeEdit, NodeView, Operator, RewriteError, Rule};
use crate::facts::{Dim, Fact};
use crate::relation::{LabelId, Port, Reason, Relation};

/// Resize, and Upsample before it.
struct Resize;

/// What becomes of one axis.
#[derive(Clone, Debug, PartialEq)]
enum Goal {
    /// It is passed on.
    Same,
    Scale(f64),
    Size(Dim),
    Unknown,
}

/// Where the goals are written.
struct ResizeOperands {
    scales: Option<Vec<Option<f64>>>,
    sizes: Option<Vec<Option<Dim>>>,
    /// Which input holds the sizes.
    axes: Vec<usize>,
}

const SIZES: u32 = 3;

impl Resize {
    fn operands(node: &NodeView, rank: usize) -> Result<ResizeOperands, InferError> {
        let axes = match node.ints("axes") {
            Some(axes) => axis_numbers(axes, rank)?,
            None => (0..rank).collect(),
        };
        let written = node.attribute("scales").map(|attribute| {
            attribute
                .floats
                .iter()
                .map(|scale| Some(f64::from(*scale)))
                .collect()
        });
        // Only X and the scales before version 11 and in Upsample.
        let at = if node.node.op_type() == "Upsample" || node.opset < 11 {
            1
        } else {
            2
        };
        let given: Option<Vec<Option<f64>>> = node.contents(at).map(|contents| {
            contents
                .0
                .iter()
                .map(|element| element.real())
                .collect::<Vec<_>>()
        });
        let scales: Option<Vec<Option<f64>>> = written
            .or(given)
            .filter(|scales: &Vec<Option<f64>>| !scales.is_empty());
        let sizes = (at == 2).then(|| node.contents(SIZES as usize)).flatten();
        let sizes: Option<Vec<Option<Dim>>> = sizes
            .map(|contents| contents.0.iter().map(|element| element.dim()).collect())
            .filter(|sizes: &Vec<_>| !sizes.is_empty());
        for count in [scales.as_ref().map(Vec::len), sizes.as_ref().map(Vec::len)]
            .into_iter()
            .flatten()
        {
            if count != axes.len() {
                return Err(InferError(format!(
                    "{count} scales or sizes for {} axes",
                    axes.len()
                )));
            }
        }
        Ok(ResizeOperands {
            scales,
            sizes,
            axes,
        })
    }

    fn goals(node: &NodeView, shape: &[Dim]) -> Result<Vec<Goal>, InferError> {
        let ResizeOperands {
            scales,
            sizes,
            axes,
        } = Self::operands(node, shape.len())?;
        let mut goals = vec![Goal::Same; shape.len()];
        for (place, axis) in axes.iter().enumerate() {
            let scale = scales.as_ref().and_then(|scales| *scales.get(place)?);
            let size = sizes.as_ref().and_then(|sizes| sizes.get(place)?.clone());
            goals[*axis] = match (scale, size) {
                (_, Some(size)) => Goal::Size(size),
                (Some(scale), None) if sizes.is_none() => Goal::Scale(scale),
                _ => Goal::Unknown,
            };
        }
        if sizes.is_some() {
            keep_aspect(node, shape, &axes, &mut goals);
        }
        // A crop moves what an axis of unchanged length holds.
        let crops = node.string("coordinate_transformation_mode") == Some("tf_crop_and_resize");
        for (goal, dim) in goals.iter_mut().zip(shape) {
            match goal {
                Goal::Scale(scale) if *scale == 1.0 && !crops => *goal = Goal::Same,
                Goal::Size(size)
                    if size == dim
                        && !crops
                        && node
                            .string("keep_aspect_ratio_policy")
                            .is_none_or(|policy| policy == "stretch") =>
                {
                    *goal = Goal::Same;
                }
                _ => {}
            }
        }
        Ok(goals)
    }
}

/// With an aspect policy the sizes are bounds, and all axes get one scale.
fn keep_aspect(node: &NodeView, shape: &[Dim], axes: &[usize], goals: &mut [Goal]) {
    let larger = match node.string("keep_aspect_ratio_policy") {
        Some("not_larger") => false,
        Some("not_smaller") => true,
        _ => return,
    };
    let ratio = |axis: &usize| match &goals[*axis] {
        Goal::Size(size) => {
            Some(size.num()? as f64 / shape[*axis].num().filter(|extent| *extent > 0)? as f64)
        }
        _ => None,
    };
    let ratios: Option<Vec<f64>> = axes.iter().map(ratio).collect();
    let scale = ratios.and_then(|ratios| {
        ratios
            .into_iter()
            .reduce(if larger { f64::max } else { f64::min })
    });
    for axis in axes {
        goals[*axis] = match (scale, shape[*axis].num()) {
            // Halves are rounded up.
            (Some(scale), Some(extent)) => {
                Goal::Size(Dim::Num((scale * extent as f64 + 0.5).floor() as i64))
            }
            _ => Goal::Unknown,
        };
    }
}

/// `floor(extent · scale)`; `None` where that cannot be told.
fn scaled(extent: &Dim, scale: f64) -> Option<Dim> {
    if let Dim::Num(extent) = extent {
        // Scales are single precision: the product is as the runtime has it.
        return Some(Dim::Num((*extent as f32 * scale as f32).floor() as i64));
    }
    if scale.fract() == 0.0 {
        return Some(extent * &Dim::Num(scale as i64));
    }
    let inverse = 1.0 / scale;
    (inverse.fract() == 0.0)
        .then(|| extent.floor_div(&Dim::Num(inverse as i64)))
        .flatten()
}

impl Operator for Resize {
    fn infer(&self, node: &NodeView) -> Result<Vec<Fact>, InferError> {
        let Some(shape) = node.shape(0) else {
            return Ok(vec![Fact::unranked(node.dtype(0))]);
        };
        let extent = |(axis, (goal, dim)): (usize, (Goal, &Dim))| match goal {
            Goal::Same => dim.clone(),
            Goal::Size(size) => size,
            Goal::Scale(scale) => scaled(dim, scale).unwrap_or_else(|| node.unknown(0, axis)),
            Goal::Unknown => node.unknown(0, axis),
        };
        let dims = Self::goals(node, shape)?
            .into_iter()
            .zip(shape)
            .enumerate()
            .map(extent)
            .collect();
        Ok(vec![Fact::new(node.dtype(0), dims)])
    }

    fn relate(&self, node: &NodeView) -> Relation {
        const SPATIAL: Reason = Reason::operator("spatial positions");
        let (Some(shape), Some(dims)) = (node.shape(0), node.output_shape(0)) else {
            return node.frozen(Reason::Dynamic);
        };
        let Ok(goals) = Self::goals(node, shape) else {
            return node.frozen(SPATIAL);
        };
        let mut builder = node.relation();
        let mut letters = Letters::new();
        let (mut x, mut y): (Vec<LabelId>, Vec<LabelId>) = (Vec::new(), Vec::new());
        for ((goal, dim), resized) in goals.iter().zip(shape).zip(dims) {
            if *goal == Goal::Same {
                let label = letters.free(&mut builder, dim);
                x.push(label);
                y.push(label);
            } else {
                x.push(letters.fixed(&mut builder, dim, &SPATIAL));
                y.push(letters.fixed(&mut builder, resized, &SPATIAL));
            }
        }
        builder.port(Port::In(0), "x", x);
        let names: &[&'static str] = if node.inputs.len() > 2 {
            &["roi", "scales", "sizes"]
        } else {
            &["scales"]
        };
        (1..)
            .zip(names)
            .for_each(|(input, name)| operand(&mut builder, input, name));
        builder.port(Port::Out(0), "y", y);
        builder.finish()
    }

    fn rewrite(&self, node: &NodeView, cut: &Cut, edit: &mut NodeEdit) -> Result<(), RewriteError> {
        let (Some(old), Some(new)) = (node.output_shape(0), cut.dims(Port::Out(0))) else {
            return Ok(());
        };
        let Ok(ResizeOperands {
            sizes: Some(_),
            axes,
            ..
        }) = Self::operands(node, old.len())
        else {
            return Ok(());
        };
        let changed = |axis: &usize| {
            Some(new.get(*axis)?)
                .filter(|dim| old.get(*axis) != Some(dim) && dim.num().is_some())
                .cloned()
        };
        let elements: Vec<Option<Dim>> = axes.iter().map(changed).collect();
        if elements.iter().any(Option::is_some) {
            edit.demand(SIZES, elements);
        }
        Ok(())
    }

    fn shape_inputs(&self, _node: &NodeView) -> Vec<u32> {
        vec![1, 2, SIZES]
    }
}

/// Decodes compressed images.
struct ImageDecoder;

impl Operator for ImageDecoder {
    fn infer(&self, node: &NodeView) -> Result<Vec<Fact>, InferError> {
        let channels = if node.string("pixel_format") == Some("Grayscale") {
            1
        } else {
            3
        };
        let dims = vec![node.unknown(0, 0), node.unknown(0, 1), Dim::Num(channels)];
        Ok(vec![Fact::new(Some(crate::proto::Dtype::Uint8), dims)])
    }

    fn relate(&self, node: &NodeView) -> Relation {
        node.frozen(Reason::operator("pixels of a decoded image"))
    }
}

pub(super) static RULES: &[Rule] = &[
    Rule::onnx("Resize", &Resize).constant(constant::zero_within),
    Rule::onnx("Upsample", &Resize).constant(constant::zero_within),
    Rule::onnx("ImageDecoder", &ImageDecoder),
];

#[cfg(test)]
mod tests {
    use crate::facts::Dim;
    use crate::ops::Demand;
    use crate::ops::case::OpCase;

    #[test]
    fn scales_of_one_pass_an_axis_on() {
        let scaled = OpCase::op("Resize")
            .input("bx8x7xw")
            .none()
            .floats(&[1.0, 1.0, 2.0, 0.5]);
        scaled
            .expect_shapes("bx8x14xfloor((w)/(2))")
            .expect_relation("x[a, b, c, e] scales[4] → y[a, b, d, f]");
        OpCase::op("Upsample")
            .at(9)
            .input("bx8x7x7")
            .floats(&[1.0, 1.0, 2.0, 2.0])
            .expect_shapes("bx8x14x14")
            .expect_relation("x[a, b, c, e] scales[4] → y[a, b, d, f]");
        let spatial = OpCase::op("Resize")
            .input("bx8x7x7")
            .none()
            .floats(&[1.5, 3.0])
            .ints("axes", &[2, 3]);
        spatial
            .expect_shapes("bx8x10x21")
            .expect_relation("x[a, b, c, e] scales[2] → y[a, b, d, f]");
        OpCase::op("Resize")
            .input("bx8x7x7")
            .none()
            .input("4")
            .expect_shapes("?out0.0x?out0.1x?out0.2x?out0.3");
    }

    #[test]
    fn sizes_follow_the_channels() {
        let sizes = [Dim::symbol("b"), Dim::Num(8), Dim::Num(14), Dim::Num(14)];
        let resized = OpCase::op("Resize")
            .input("bx8x7x7")
            .none()
            .none()
            .computed(&sizes);
        let resized = resized
            .expect_shapes("bx8x14x14")
            .expect_relation("x[a, b, c, e] sizes[4] → y[a, b, d, f]");
        let edit = resized.edit(&[("b", &[0, 5])]).unwrap();
        assert_eq!(
            edit.demands,
            [Demand {
                input: 3,
                elements: vec![None, Some(Dim::Num(2)), None, None],
                whole: false
            }]
        );
        let bound = OpCase::op("Resize")
            .input("1x8x10x20")
            .none()
            .none()
            .list(&[20, 20])
            .ints("axes", &[2, 3]);
        bound
            .text("keep_aspect_ratio_policy", "not_larger")
            .expect_shapes("1x8x10x20")
            .expect_relation("x[1, a, b, d] sizes[2] → y[1, a, c, e]");
    }
}
