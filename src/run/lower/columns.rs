//! Col2Im: blocks that lie in columns, added up to an image, by a transposed convolution that copies.

use super::rule::{Change, LoweringRule, Site, refusal};
use crate::model::TensorRef;
use crate::model::edit::NodeExt;
use crate::proto::{AttributeProto, NodeProto};
use crate::run::Unverifiable;

pub(super) const RULES: &[LoweringRule] = &[LoweringRule::code("", "Col2Im", image)];

/// One axis of the image, and how blocks lie on it.
struct ColumnSide {
    image: i64,
    block: i64,
    dilation: i64,
    stride: i64,
    before: i64,
    after: i64,
}

impl ColumnSide {
    /// What a block covers.
    fn reach(&self) -> i64 {
        self.dilation * (self.block - 1) + 1
    }

    /// How many blocks there are.
    fn count(&self) -> i64 {
        (self.image + self.before + self.after - self.reach()) / self.stride + 1
    }

    /// What no block reaches at the end.
    fn rest(&self) -> i64 {
        self.image + self.before + self.after - self.reach() - self.stride * (self.count() - 1)
    }
}

fn image(node: &NodeProto, site: &mut Site) -> Result<Change, Unverifiable> {
    let Some(x) = node.input(0) else {
        return Ok(Change::Unchanged);
    };
    let numbers = |at| {
        site.tensor(node.input(at))
            .and_then(|tensor| tensor.to_i64())
    };
    let (Some(dims), Some(image), Some(block)) = (site.shape(Some(x)), numbers(1), numbers(2))
    else {
        return Ok(Change::NeedsFacts);
    };
    let strange = || refusal(node, "blocks do not fit the image");
    let sides = sides(node, &image, &block).ok_or_else(strange)?;
    let elements: i64 = block.iter().product();
    let [batch, rows, columns] = dims[..] else {
        return Err(strange());
    };
    let counts: Vec<i64> = sides.iter().map(ColumnSide::count).collect();
    if elements <= 0
        || rows % elements != 0
        || counts.iter().product::<i64>() != columns
        || counts.iter().any(|count| *count < 1)
    {
        return Err(strange());
    }
    let builder = &mut site.builder;
    // Every channel for itself, with an axis for the places in a block and one for each side of the image.
    let apart: Vec<i64> = [batch * (rows / elements), elements]
        .into_iter()
        .chain(counts)
        .collect();
    let parts = builder.reshape(x, &apart);
    let copies = builder.constant(&copies(elements, &block).ok_or_else(strange)?);
    let each = |number: fn(&ColumnSide) -> i64| sides.iter().map(number).collect::<Vec<_>>();
    let attributes = vec![
        AttributeProto::ints("kernel_shape", &block),
        AttributeProto::ints("dilations", &each(|side| side.dilation)),
        AttributeProto::ints("strides", &each(|side| side.stride)),
        AttributeProto::ints(
            "pads",
            &[each(|side| side.before), each(|side| side.after)].concat(),
        ),
        AttributeProto::ints("output_padding", &each(ColumnSide::rest)),
    ];
    let whole = builder.op("ConvTranspose", &[&parts, &copies], attributes);
    let shape: Vec<i64> = [batch, rows / elements].into_iter().chain(image).collect();
    let value = builder.reshape(&whole, &shape);
    builder.bind_output(&value, node, 0);
    Ok(Change::Replaced)
}

/// A kernel that copies: each of so many elements of a block to its place.
fn copies(elements: i64, block: &[i64]) -> Option<TensorRef> {
    let count = usize::try_from(elements).ok()?;
    let mut copies = vec![0.0; count * count];
    copies
        .iter_mut()
        .step_by(count + 1)
        .for_each(|copy| *copy = 1.0);
    let shape = [elements, 1]
        .iter()
        .chain(block)
        .map(|extent| *extent as usize)
        .collect();
    Some(TensorRef::from_f32(shape, &copies))
}

fn sides(node: &NodeProto, image: &[i64], block: &[i64]) -> Option<Vec<ColumnSide>> {
    let rank = image.len();
    let ones = vec![1; rank];
    let none = vec![0; 2 * rank];
    let dilations = node.ints("dilations").unwrap_or(&ones);
    let strides = node.ints("strides").unwrap_or(&ones);
    let pads = node.ints("pads").unwrap_or(&none);
    if block.len() != rank
        || dilations.len() != rank
        || strides.len() != rank
        || pads.len() != 2 * rank
    {
        return None;
    }
    let side = |at: usize| {
        Some(ColumnSide {
            image: *image.get(at)?,
            block: *block.get(at)?,
            dilation: *dilations.get(at)?,
            stride: *strides.get(at)?,
            before: *pads.get(at)?,
            after: *pads.get(rank + at)?,
        })
    };
    let sides: Vec<ColumnSide> = (0..rank).map(side).collect::<Option<_>>()?;
    let sane = |side: &ColumnSide| {
        let numbers = [side.image, side.block, side.dilation, side.stride];
        numbers.iter().all(|number| (1..1 << 31).contains(number))
            && side.reach() <= side.image + side.before + side.after
    };
    sides.iter().all(sane).then_some(sides)
}
