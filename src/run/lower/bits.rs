//! Weights of a few bits, packed in blocks, in forms that tract does not take: floats.

use super::rule::{Change, LoweringRule, Site, refusal};
use crate::model::edit::NodeExt;
use crate::model::{TensorRef, bits_at};
use crate::proto::{AttributeProto, Dtype, NodeProto};
use crate::run::Unverifiable;

pub(super) const RULES: &[LoweringRule] = &[
    LoweringRule::code("com.microsoft", "MatMulNBits", product),
    LoweringRule::code("com.microsoft", "GatherBlockQuantized", rows),
];

/// A product with the weight as floats: tract takes 2 and 4 bits with blocks in order and zero points packed likewise, and
/// multiplies by them one by one, with scales in half precision.
fn product(node: &NodeProto, site: &mut Site) -> Result<Change, Unverifiable> {
    let bits = node.int_or("bits", 4);
    let Some(x) = node.input(0) else {
        return Ok(Change::Unchanged);
    };
    let Some(weight) = dense(node, site, bits) else {
        let packed_zeros = node
            .input(3)
            .is_none_or(|name| site.dtype(Some(name)) == Some(Dtype::Uint8));
        let taken = matches!(bits, 2 | 4) && packed_zeros && node.input(4).is_none();
        return match taken {
            true => Ok(Change::Unchanged),
            false => Err(refusal(node, "its packed weight cannot be read")),
        };
    };
    let builder = &mut site.builder;
    let weight = builder.constant(&weight);
    let mut value = builder.op("MatMul", &[x, &weight], Vec::new());
    if let Some(bias) = node.input(5) {
        value = builder.op("Add", &[&value, bias], Vec::new());
    }
    builder.bind_output(&value, node, 0);
    Ok(Change::Replaced)
}

/// The weight as K × N floats: B is N × blocks × bytes, scales N × blocks, zero points packed by row or one a block.
fn dense(node: &NodeProto, site: &Site, bits: i64) -> Option<TensorRef> {
    let (sum, columns) = (count(node, "K")?, count(node, "N")?);
    let (size, bits) = (count(node, "block_size")?, usize::try_from(bits).ok()?);
    let (bytes, scales) = (
        site.tensor(node.input(1))?,
        site.tensor(node.input(2))?.to_f32()?,
    );
    let blocks = sum.div_ceil(size);
    let blob = (size * bits).div_ceil(8);
    let whole = matches!(bits, 1 | 2 | 4 | 8) && bytes.dtype == Dtype::Uint8;
    if !whole
        || bytes.bytes.len() != columns.checked_mul(blocks)?.checked_mul(blob)?
        || scales.len() != columns * blocks
    {
        return None;
    }
    let zeros = zeros(node, site, bits, [columns, blocks])?;
    let order = match node.input(4) {
        None => None,
        order => Some(site.tensor(order)?.to_i64()?),
    };
    let mut dense = vec![0.0; sum.checked_mul(columns)?];
    for (cell, number) in dense.iter_mut().enumerate() {
        let (at, column) = (cell / columns, cell % columns);
        let row = bytes.bytes.get((column * blocks + at / size) * blob..)?;
        let block = match &order {
            None => at / size,
            Some(order) => usize::try_from(*order.get(at)?)
                .ok()
                .filter(|block| *block < blocks)?,
        };
        let place = column * blocks + block;
        *number =
            (f32::from(bits_at(row, at % size, bits)?) - zeros.get(place)?) * scales.get(place)?;
    }
    Some(TensorRef::from_f32(vec![sum, columns], &dense))
}

/// One zero point for every block: half the range where none is given.
fn zeros(
    node: &NodeProto,
    site: &Site,
    bits: usize,
    [rows, blocks]: [usize; 2],
) -> Option<Vec<f32>> {
    let Some(name) = node.input(3) else {
        return Some(vec![(1u32 << (bits - 1)) as f32; rows * blocks]);
    };
    let given = site.tensor(Some(name))?;
    if given.dtype != Dtype::Uint8 {
        return given.to_f32().filter(|zeros| zeros.len() == rows * blocks);
    }
    let bytes = (blocks * bits).div_ceil(8);
    let each = (0..rows * blocks).map(|place| {
        let row = given.bytes.get(place / blocks * bytes..)?;
        Some(f32::from(bits_at(row, place % blocks, bits)?))
    });
    each.collect()
}

fn count(node: &NodeProto, name: &str) -> Option<usize> {
    node.int(name)
        .and_then(|count| usize::try_from(count).ok())
        .filter(|count| (1..1 << 24).contains(count))
}

/// tract takes rows of two 4-bit numbers a byte, quantized along the last axis.
fn rows(node: &NodeProto, site: &mut Site) -> Result<Change, Unverifiable> {
    let (Some(table), Some(at)) = (site.tensor(node.input(0)), node.input(1)) else {
        return Ok(Change::Unchanged);
    };
    let (Some(scales), zeros) = (site.tensor(node.input(2)), site.tensor(node.input(3))) else {
        return Ok(Change::Unchanged);
    };
    if node.input(3).is_some() && zeros.is_none() {
        return Ok(Change::Unchanged);
    }
    let rank = table.dims.len() as i64;
    let wrapped = |axis: i64| if axis < 0 { axis + rank } else { axis };
    let (from, along) = (
        wrapped(node.int_or("gather_axis", 0)),
        wrapped(node.int_or("quantize_axis", 1)),
    );
    let size = node.int_or("block_size", 128);
    let strange = || refusal(node, "its blocks cannot be read");
    let extent = |tensor: &TensorRef| {
        let axis = usize::try_from(along).ok()?;
        tensor.dims.get(axis).map(|extent| *extent as i64)
    };
    let width = extent(&table).ok_or_else(strange)?;
    let blocks = extent(&scales).ok_or_else(strange)?;
    let bits = node.int_or("bits", 4);
    // Numbers of fewer than eight bits stand alone where the file gives them a type of their own.
    let packed = bits < 8
        && table.dtype == Dtype::Uint8
        && width.saturating_mul(8 / bits.max(1)) > size.saturating_mul(blocks - 1)
        && width <= size * blocks * bits / 8;
    let plain = rank == 2 && from == 0 && along == 1;
    // tract reads two zero points from every byte, also where a row has an odd number of them.
    let uneven = zeros.is_some() && (blocks * bits) % 8 != 0;
    if packed && plain && bits == 4 && !uneven && size >= 16 && size & (size - 1) == 0 {
        return Ok(Change::Unchanged);
    }
    if packed {
        let dense = if plain {
            unpacked(&table, &scales, zeros.as_ref(), size, bits)
        } else {
            None
        };
        let strange = || refusal(node, "packed along another axis than tract takes");
        gathered(node, site, at, &dense.ok_or_else(strange)?, from);
        return Ok(Change::Replaced);
    }
    let middle = if bits == 8 && table.dtype == Dtype::Uint8 {
        128.0
    } else {
        0.0
    };
    let zeros = zeros.unwrap_or_else(|| {
        TensorRef::from_f32(scales.dims.clone(), &vec![middle; scales.elements()])
    });
    let dense = super::blocks::dequantize(&table, &scales, Some(&zeros), along, size)
        .ok_or_else(strange)?;
    gathered(node, site, at, &dense, from);
    Ok(Change::Replaced)
}

/// Rows of floats instead.
fn gathered(node: &NodeProto, site: &mut Site, at: &str, table: &TensorRef, axis: i64) {
    let table = site.builder.constant(table);
    let value = site.builder.op(
        "Gather",
        &[&table, at],
        vec![AttributeProto::int("axis", axis)],
    );
    site.builder.bind_output(&value, node, 0);
}

/// The rows of a table (rows × bytes) as floats: scales are rows × blocks, zero points packed by row, half the range by default.
fn unpacked(
    table: &TensorRef,
    scales: &TensorRef,
    zeros: Option<&TensorRef>,
    size: i64,
    bits: i64,
) -> Option<TensorRef> {
    let (size, bits) = (
        usize::try_from(size).ok()?,
        usize::try_from(bits)
            .ok()
            .filter(|bits| matches!(bits, 1 | 2 | 4))?,
    );
    let (&[rows, bytes], &[_, blocks]) = (&table.dims[..], &scales.dims[..]) else {
        return None;
    };
    let (width, packed) = (bytes * 8 / bits, (blocks * bits).div_ceil(8));
    let factors = scales.to_f32()?;
    let mut dense = Vec::with_capacity(rows.checked_mul(width)?);
    for row in 0..rows {
        let numbers = table.bytes.get(row * bytes..)?;
        for at in 0..width {
            let block = at / size;
            let zero = match zeros {
                Some(zeros) => bits_at(zeros.bytes.get(row * packed..)?, block, bits)?,
                None => 1 << (bits - 1),
            };
            dense.push(
                (f32::from(bits_at(numbers, at, bits)?) - f32::from(zero))
                    * factors.get(row * blocks + block)?,
            );
        }
    }
    Some(TensorRef::from_f32(vec![rows, width], &dense))
}
