//! Matrix products in forms that tract lacks.

use super::rule::{Change, LoweringRule, Site, refusal};
use crate::model::TensorRef;
use crate::model::edit::NodeExt;
use crate::proto::{Dtype, NodeProto};
use crate::run::Unverifiable;

pub(super) const RULES: &[LoweringRule] = &[
    LoweringRule::code("", "Gemm", double_gemm),
    LoweringRule::code("com.microsoft", "FusedMatMul", fused_matmul),
    LoweringRule::code("com.microsoft", "TransposeMatMul", fused_matmul),
    LoweringRule::code("com.microsoft", "DynamicQuantizeMatMul", dynamic_matmul),
    LoweringRule::code("com.microsoft", "MatMulIntegerToFloat", integer_to_float),
];

/// tract multiplies the bias by a factor of type float, whatever its own type.
fn double_gemm(node: &NodeProto, site: &mut Site) -> Result<Change, Unverifiable> {
    if !(0..3).any(|at| site.dtype(node.input(at)) == Some(Dtype::Double)) {
        return Ok(Change::Unchanged);
    }
    let builder = &mut site.builder;
    let mut factor = |name: &str| {
        let factor = f64::from(node.float(name).unwrap_or(1.0));
        let bytes = factor.to_le_bytes().to_vec();
        (factor != 1.0).then(|| {
            builder.constant(&TensorRef {
                dtype: Dtype::Double,
                dims: Vec::new(),
                bytes: bytes.into(),
            })
        })
    };
    let (alpha, beta) = (factor("alpha"), factor("beta"));
    let mut side = |at: usize, name: &str| {
        let value = node.input(at).unwrap_or_default();
        if node.int_or(name, 0) == 0 {
            value.to_owned()
        } else {
            builder.transpose(value, &[1, 0])
        }
    };
    let (a, b) = (side(0, "transA"), side(1, "transB"));
    let mut value = builder.op("MatMul", &[&a, &b], Vec::new());
    if let Some(alpha) = alpha {
        value = builder.op("Mul", &[&value, &alpha], Vec::new());
    }
    if let Some(bias) = node.input(2) {
        let bias = match beta {
            Some(beta) => builder.op("Mul", &[bias, &beta], Vec::new()),
            None => bias.to_owned(),
        };
        value = builder.op("Add", &[&value, &bias], Vec::new());
    }
    builder.bind_output(&value, node, 0);
    Ok(Change::Replaced)
}

fn fused_matmul(node: &NodeProto, site: &mut Site) -> Result<Change, Unverifiable> {
    if node.int_or("transBatchA", 0) != 0 || node.int_or("transBatchB", 0) != 0 {
        return Err(refusal(node, "transposes batch axes"));
    }
    let mut operands = Vec::new();
    for (at, attribute) in [(0, "transA"), (1, "transB")] {
        let value = node.input(at).unwrap_or_default().to_owned();
        if node.int_or(attribute, 0) == 0 {
            operands.push(value);
            continue;
        }
        let Some(rank) = site.shape(Some(&value)).map(|dims| dims.len() as i64) else {
            return Ok(Change::NeedsFacts);
        };
        if rank < 2 {
            operands.push(value);
            continue;
        }
        let mut permutation: Vec<i64> = (0..rank).collect();
        permutation.swap(rank as usize - 2, rank as usize - 1);
        operands.push(site.builder.transpose(&value, &permutation));
    }
    let [a, b] = operands.as_slice() else {
        return Ok(Change::Unchanged);
    };
    let mut value = site.builder.op("MatMul", &[a, b], Vec::new());
    let alpha = node.float("alpha").unwrap_or(1.0);
    if alpha != 1.0 {
        let alpha = site.builder.scalar(alpha);
        value = site.builder.op("Mul", &[&value, &alpha], Vec::new());
    }
    site.builder.bind_output(&value, node, 0);
    Ok(Change::Replaced)
}

/// A · B in whole numbers, then scaled; a zero point may be missing.
const INTEGER_PRODUCT: &str = "IntegerProduct (a, b, a_zero, b_zero, a_scale, b_scale) => (y) {
    sum = MatMulInteger (a, b, a_zero, b_zero)
    real = Cast <to = 1> (sum)
    scale = Mul (a_scale, b_scale)
    y = Mul (real, scale)
}";

/// A · B with A quantized on the way: A, B, scale, zero point, bias.
fn dynamic_matmul(node: &NodeProto, site: &mut Site) -> Result<Change, Unverifiable> {
    let input = |slot| node.input(slot).unwrap_or("");
    let builder = &mut site.builder;
    let (a, scale, zero) = builder.dynamic_quantize(input(0));
    let operands = [&a, input(1), &zero, input(3), &scale, input(2)];
    let value = builder.call(INTEGER_PRODUCT, &operands, Vec::new())?;
    let value = builder.plus(value, node.input(4));
    builder.bind_output(&value, node, 0);
    Ok(Change::Replaced)
}

/// A · B of whole numbers: A, B, their scales, their zero points, bias.
fn integer_to_float(node: &NodeProto, site: &mut Site) -> Result<Change, Unverifiable> {
    let operands = [0, 1, 4, 5, 2, 3].map(|slot| node.input(slot).unwrap_or(""));
    let builder = &mut site.builder;
    let value = builder.call(INTEGER_PRODUCT, &operands, Vec::new())?;
    let value = builder.plus(value, node.input(6));
    builder.bind_output(&value, node, 0);
    Ok(Change::Replaced)
}
