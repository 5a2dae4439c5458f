//! Images sampled, put together from columns, and searched for boxes.

use super::constant;
use super::fit::{expect, frozen_misfit, unless_ranked};
use super::frozen::{FrozenOperator, outputs};
use super::meaning::Decides;
use super::{InferError, NodeView, Operator, Rule};
use crate::facts::{Dim, Fact};
use crate::proto::Dtype;
use crate::relation::{LabelId, Layout, Port, Reason, Relation};

const COORDINATES: Reason = Reason::operator("coordinates of a position");
const SAMPLED: Reason = Reason::operator("positions that coordinates point at");
const BLOCKS: Reason = Reason::operator("positions of overlapping blocks");

/// Reads an image at the positions that a grid says: channel by channel, place by place.
struct GridSample;

impl Operator for GridSample {
    fn infer(&self, node: &NodeView) -> Result<Vec<Fact>, InferError> {
        let dtype = node.dtype(0);
        let (Some(x), Some(grid)) = (node.shape(0), node.shape(1)) else {
            return Ok(vec![Fact {
                dtype,
                ..Fact::default()
            }]);
        };
        let ([b, c, spatial @ ..], [_, places @ .., coordinates]) = (x, grid) else {
            return Err(InferError("an image or a grid of too few axes".into()));
        };
        if spatial.len() != places.len() || coordinates.differs(&Dim::from(spatial.len())) {
            return Err(InferError(format!(
                "a grid of {coordinates} coordinates for {} spatial axes",
                spatial.len()
            )));
        }
        let dims: Vec<&Dim> = std::iter::once(b)
            .chain(places)
            .chain([coordinates])
            .collect();
        expect(node, 1, &dims)?;
        Ok(vec![Fact::new(
            dtype,
            [b, c].into_iter().chain(places).cloned().collect(),
        )])
    }

    fn relate(&self, node: &NodeView) -> Relation {
        if let Some(frozen) = unless_ranked(node) {
            return frozen;
        }
        let (Some([b, c, spatial @ ..]), Some([_, places @ .., coordinates])) =
            (node.shape(0), node.shape(1))
        else {
            return frozen_misfit(node);
        };
        let mut builder = node.relation();
        let (b, c) = (builder.free("b", b.clone()), builder.free("c", c.clone()));
        let s: Vec<LabelId> = spatial
            .iter()
            .map(|dim| builder.fixed("s", dim.clone(), SAMPLED))
            .collect();
        let t: Vec<LabelId> = places
            .iter()
            .map(|dim| builder.free("t", dim.clone()))
            .collect();
        let z = builder.fixed("z", coordinates.clone(), COORDINATES);
        builder.port(Port::In(0), "x", [b, c].into_iter().chain(s));
        builder.port(
            Port::In(1),
            "grid",
            [b].into_iter().chain(t.iter().copied()).chain([z]),
        );
        builder.port(Port::Out(0), "y", [b, c].into_iter().chain(t));
        builder.finish()
    }
}

/// A grid that an affine map of evenly spaced positions gives.
fn affine(node: &NodeView) -> Result<Vec<Fact>, InferError> {
    let dtype = node.dtype(0);
    let size = node.contents(1).and_then(|size| size.dims());
    let rank = node
        .shape(1)
        .and_then(|dims| dims.first())
        .and_then(Dim::count)
        .filter(|rank| (4..=5).contains(rank));
    let dims = match (size.as_deref(), rank) {
        (Some([b, _, spatial @ ..]), _) => Some((b.clone(), spatial.to_vec())),
        (_, Some(rank)) => {
            let b = node.shape(0).and_then(|dims| dims.first().cloned());
            Some((
                b.unwrap_or_else(|| node.unknown(0, 0)),
                (1..rank - 1).map(|axis| node.unknown(0, axis)).collect(),
            ))
        }
        _ => None,
    };
    let shape = dims.map(|(b, spatial)| {
        let coordinates = Dim::from(spatial.len());
        std::iter::once(b)
            .chain(spatial)
            .chain([coordinates])
            .collect()
    });
    Ok(outputs(
        node,
        [Fact {
            dtype,
            shape,
            contents: None,
        }],
    ))
}

/// Adds up overlapping blocks, which lie one after the other in columns, to an image.
struct Col2Im;

impl Col2Im {
    /// Elements of a block, if the shape of it is known.
    fn block(node: &NodeView) -> Option<Dim> {
        node.contents(2)?.dims().map(|dims| Dim::product(&dims))
    }
}

impl Operator for Col2Im {
    fn infer(&self, node: &NodeView) -> Result<Vec<Fact>, InferError> {
        let dtype = node.dtype(0);
        let rank = node
            .shape(1)
            .and_then(|dims| dims.first())
            .and_then(Dim::count)
            .filter(|rank| *rank <= 8);
        let image = node.contents(1).and_then(|image| image.dims());
        let image =
            image.or_else(|| Some((0..rank?).map(|axis| node.unknown(0, axis + 2)).collect()));
        let shape = match (node.shape(0), image) {
            (Some([b, columns, _]), Some(image)) => {
                let channels = match Self::block(node) {
                    Some(block) => match columns.exact_div(&block) {
                        None if columns.num().is_some() && block.num().is_some() => {
                            return Err(InferError(format!(
                                "{columns} rows are no multiple of blocks of {block}"
                            )));
                        }
                        channels => channels,
                    },
                    None => None,
                };
                Some(
                    [b.clone(), channels.unwrap_or_else(|| node.unknown(0, 1))]
                        .into_iter()
                        .chain(image)
                        .collect(),
                )
            }
            _ => None,
        };
        Ok(vec![Fact {
            dtype,
            shape,
            contents: None,
        }])
    }

    fn relate(&self, node: &NodeView) -> Relation {
        if let Some(frozen) = unless_ranked(node) {
            return frozen;
        }
        let (Some([b, _, length]), Some([_, channels, image @ ..]), Some(block)) =
            (node.shape(0), node.output_shape(0), Self::block(node))
        else {
            return node.frozen(Reason::Dynamic);
        };
        let mut builder = node.relation();
        let (b, c) = (
            builder.free("b", b.clone()),
            builder.free("c", channels.clone()),
        );
        let k = builder.fixed("k", block, BLOCKS);
        let l = builder.fixed("l", length.clone(), BLOCKS);
        let s: Vec<LabelId> = image
            .iter()
            .map(|dim| builder.fixed("s", dim.clone(), BLOCKS))
            .collect();
        builder.port(
            Port::In(0),
            "x",
            [Layout::from(b), Layout::product(&[c, k]), l.into()],
        );
        builder.whole(
            Port::In(1),
            "image",
            &Reason::operator("the shape of the image"),
        );
        builder.whole(
            Port::In(2),
            "block",
            &Reason::operator("the shape of a block"),
        );
        builder.port(Port::Out(0), "y", [b, c].into_iter().chain(s));
        builder.finish()
    }

    fn shape_inputs(&self, _: &NodeView) -> Vec<u32> {
        vec![1, 2]
    }
}

/// As many boxes as are chosen, each by image, class and number.
fn chosen(node: &NodeView) -> Result<Vec<Fact>, InferError> {
    Ok(outputs(
        node,
        [Fact::new(
            Some(Dtype::Int64),
            vec![node.unknown(0, 0), Dim::Num(3)],
        )],
    ))
}

pub(super) static RULES: &[Rule] = &[
    Rule::onnx(
        "AffineGrid",
        &FrozenOperator {
            reason: "positions that are evenly spaced",
            infer: affine,
        },
    ),
    Rule::onnx("Col2Im", &Col2Im),
    Rule::onnx("GridSample", &GridSample).constant(constant::zero),
    Rule::onnx(
        "NonMaxSuppression",
        &FrozenOperator {
            reason: "numbers of the chosen boxes are the result",
            infer: chosen,
        },
    )
    .chooses(Decides::Always),
    Rule::microsoft("GridSample", &GridSample).constant(constant::zero),
];

#[cfg(test)]
mod tests {
    use crate::ops::case::OpCase;

    #[test]
    fn images_are_sampled_channel_by_channel() {
        let sample = OpCase::op("GridSample").input("bx8x5x6").input("bx3x4x2");
        sample
            .expect_shapes("bx8x3x4")
            .expect_relation("x[b, c, s, s2] grid[b, t, t2, z] → y[b, c, t, t2]");
        OpCase::op("AffineGrid")
            .input("bx2x3")
            .list(&[2, 8, 5, 6])
            .expect_shapes("2x5x6x2");
        OpCase::op("AffineGrid")
            .input("bx3x4")
            .input("i64:5")
            .expect_shapes("bx?out0.1x?out0.2x?out0.3x3");
    }

    #[test]
    fn columns_hold_whole_blocks_of_a_channel() {
        let columns = OpCase::op("Col2Im")
            .input("bx20x9")
            .list(&[4, 4])
            .list(&[2, 2]);
        columns
            .expect_shapes("bx5x4x4")
            .expect_relation("x[b, c·k, l] image[2] block[2] → y[b, c, s, s2]");
        OpCase::op("Col2Im")
            .input("bx20x9")
            .input("i64:2")
            .list(&[2, 2])
            .expect_shapes("bx5x?out0.2x?out0.3");
    }

    #[test]
    fn boxes_are_chosen_by_number() {
        let boxes = OpCase::op("NonMaxSuppression")
            .input("1x6x4")
            .input("1x2x6")
            .number(3);
        boxes
            .expect_shapes("?out0.0x3")
            .expect_relation("input 0[1, 6, 4] input 1[1, 2, 6] input 2[] → output 0[?out0.0, 3]");
    }
}
