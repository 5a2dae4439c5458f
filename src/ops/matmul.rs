//! Matrix products: MatMul and Gemm, with integers, and ONNX Runtime's forms that transpose on the way.

use super::contraction::{Contraction, Described, FactorOperand};
use super::meaning::{BiasInput, ChannelAxis, LinearMap, WeightRows};
use super::operand::{self, aligned, per_axis, scalars};
use super::{InferError, NodeView, Operator, Rule};
use crate::facts::{Dim, Fact};
use crate::proto::Dtype;
use crate::relation::{Builder, Layout, Port, Relation, Term};

/// How the operands are read.
#[derive(Clone, Copy, PartialEq)]
enum ProductForm {
    /// As stacks of matrices, or vectors.
    Stacks,
    /// As stacks of matrices, transposed by `transA`, `transB`, `transBatchA`, `transBatchB`.
    Transposable,
    /// As single matrices, transposed by `transA`, `transB`.
    Matrices,
}

/// A matrix product, by where its operands stand.
struct Product {
    form: ProductForm,
    /// Where the second factor stands; the first is input 0.
    b: u32,
    /// Added to the product.
    bias: Option<(u32, &'static str)>,
    /// Scales and zero points of the first factor: one, or one per row.
    of_a: &'static [(u32, &'static str)],
    /// Scales and zero points of the second factor: one, or one per column.
    of_b: &'static [(u32, &'static str)],
    /// The zero point of the second factor.
    zero: Option<u32>,
    /// Operands of one element.
    singles: &'static [(u32, &'static str)],
    /// Where the output's element type comes from: the type of an input, or else always this.
    dtype: (Option<u32>, Option<Dtype>),
    /// Whether the first factor is quantized on the way, by a scale taken from all of it.
    dynamic: bool,
}

const MATMUL: Product = Product {
    form: ProductForm::Stacks,
    b: 1,
    bias: None,
    of_a: &[],
    of_b: &[],
    zero: None,
    singles: &[],
    dtype: (Some(0), None),
    dynamic: false,
};
const GEMM: Product = Product {
    form: ProductForm::Matrices,
    bias: Some((2, "c")),
    ..MATMUL
};
const FUSED: Product = Product {
    form: ProductForm::Transposable,
    ..MATMUL
};
const GELU: Product = Product {
    bias: Some((2, "bias")),
    ..MATMUL
};
const INTEGER: Product = Product {
    of_a: &[(2, "a_zero")],
    of_b: &[(3, "b_zero")],
    zero: Some(3),
    dtype: (None, Some(Dtype::Int32)),
    ..MATMUL
};
const QUANTIZED: Product = Product {
    b: 3,
    of_a: &[(1, "a_scale"), (2, "a_zero")],
    of_b: &[(4, "b_scale"), (5, "b_zero")],
    zero: Some(5),
    singles: &[(6, "y_scale"), (7, "y_zero")],
    dtype: (Some(7), None),
    ..MATMUL
};
const QUANTIZED_GEMM: Product = Product {
    form: ProductForm::Matrices,
    bias: Some((6, "c")),
    singles: &[(7, "y_scale"), (8, "y_zero")],
    dtype: (Some(8), Some(Dtype::Float)),
    ..QUANTIZED
};
const DYNAMIC: Product = Product {
    bias: Some((4, "bias")),
    of_b: &[(2, "b_scale"), (3, "b_zero")],
    zero: Some(3),
    dtype: (None, Some(Dtype::Float)),
    dynamic: true,
    ..MATMUL
};
const TO_FLOAT: Product = Product {
    bias: Some((6, "bias")),
    of_a: &[(2, "a_scale"), (4, "a_zero")],
    of_b: &[(3, "b_scale"), (5, "b_zero")],
    zero: Some(5),
    dtype: (Some(2), Some(Dtype::Float)),
    ..MATMUL
};

/// The indices of a stack of matrices: those of the stack, then rows and columns.
fn axes(
    stack: std::ops::Range<usize>,
    rows: usize,
    columns: usize,
    transpose: bool,
    stack_inside: bool,
) -> Vec<usize> {
    let (first, last) = if transpose {
        (columns, rows)
    } else {
        (rows, columns)
    };
    let mut axes: Vec<usize> = stack.collect();
    axes.insert(if stack_inside { 0 } else { axes.len() }, first);
    axes.push(last);
    axes
}

impl Product {
    /// The product as a contraction over the indices of the stack, `m`, `k`, `n`; `None` when a rank is unknown.
    fn contraction(&self, node: &NodeView) -> Result<Option<Contraction>, InferError> {
        let (Some(a), Some(b)) = (node.shape(0), node.shape(self.b as usize)) else {
            return Ok(None);
        };
        let set = |name| self.form != ProductForm::Stacks && node.int(name).unwrap_or(0) != 0;
        if a.is_empty()
            || b.is_empty()
            || (self.form == ProductForm::Matrices && (a.len(), b.len()) != (2, 2))
        {
            return Err(InferError(format!(
                "a product of tensors with {} and {} axes",
                a.len(),
                b.len()
            )));
        }
        let stack = a.len().max(b.len()).saturating_sub(2);
        let [m, k, n] = [stack, stack + 1, stack + 2];
        let over = |rank: usize| (stack + 2).saturating_sub(rank)..stack;
        let left = if a.len() == 1 {
            vec![k]
        } else {
            axes(over(a.len()), m, k, set("transA"), set("transBatchA"))
        };
        let right = if b.len() == 1 {
            vec![k]
        } else {
            axes(over(b.len()), k, n, set("transB"), set("transBatchB"))
        };
        let output = (0..stack)
            .chain((a.len() > 1).then_some(m))
            .chain((b.len() > 1).then_some(n))
            .collect();
        let names = std::iter::repeat_n("p", stack)
            .chain(["m", "k", "n"])
            .map(Into::into)
            .collect();
        let factors = vec![
            FactorOperand {
                input: 0,
                name: "a",
                axes: left,
            },
            FactorOperand {
                input: self.b,
                name: "b",
                axes: right,
            },
        ];
        let zero = self.zero.filter(|zero| node.has_input(*zero as usize));
        Ok(Some(Contraction {
            names,
            factors,
            output,
            zero,
        }))
    }

    /// Scales and zero points of a factor: along its rows or columns when they have one axis, else along all its axes.
    fn quantization(
        &self,
        builder: &mut Builder,
        inputs: &[(u32, &'static str)],
        line: Option<(&Layout, &Dim)>,
        factor: (u32, &[Layout]),
    ) -> Option<()> {
        for (input, name) in inputs {
            match (builder.shape(Port::In(*input)).map(<[Dim]>::len), line) {
                (None | Some(0), _) | (Some(1), None) => scalars(builder, &[(*input, name)])?,
                (Some(1), Some((layout, extent))) => {
                    per_axis(builder, *input, name, layout, extent)?
                }
                _ => {
                    let dims = builder.shape(Port::In(factor.0))?.to_vec();
                    aligned(builder, *input, name, factor.1, &dims)?;
                }
            }
        }
        Some(())
    }
}

impl Operator for Product {
    fn infer(&self, node: &NodeView) -> Result<Vec<Fact>, InferError> {
        let (input, always) = self.dtype;
        let dtype = input
            .and_then(|input| node.dtype(input as usize))
            .or(always);
        let shape = self
            .contraction(node)?
            .map(|contraction| contraction.shape(node))
            .transpose()?;
        Ok(operand::output(node, dtype, shape))
    }

    fn relate(&self, node: &NodeView) -> Relation {
        operand::describe_or_freeze(node, |node, builder| {
            let contraction = self.contraction(node).ok().flatten()?;
            let Described {
                factors,
                output,
                labels,
            } = contraction.describe(builder)?;
            let [left, right] = factors.as_slice() else {
                return None;
            };
            let extents = contraction
                .extents(|input| node.shape(input as usize).map(<[Dim]>::to_vec))
                .ok()?;
            let stack = contraction.names.len().checked_sub(3)?;
            let line = |at: usize| Some((Layout::from((*labels.get(at)?)?), extents.get(at)?));
            let (rows, columns) = (line(stack), line(stack + 2));
            self.quantization(
                builder,
                self.of_a,
                rows.as_ref().map(|(layout, extent)| (layout, *extent)),
                (0, left),
            )?;
            self.quantization(
                builder,
                self.of_b,
                columns.as_ref().map(|(layout, extent)| (layout, *extent)),
                (self.b, right),
            )?;
            scalars(builder, self.singles)?;
            if let Some((input, name)) = self.bias {
                aligned(builder, input, name, &output, node.output_shape(0)?)?;
            }
            if self.dynamic {
                // The scale spans the least and greatest number and zero: what goes must be zero there too.
                let all: Vec<_> = left.iter().flat_map(Layout::labels).collect();
                builder.term(Term {
                    data: Port::In(0),
                    weight: None,
                    zero: None,
                    labels: all.clone(),
                    summed: all,
                    window: None,
                });
            }
            Some(())
        })
    }
}

/// A product of two matrices.
const PLAIN_PRODUCT: LinearMap = LinearMap {
    bias: None,
    rows: WeightRows::Last(None),
    channels: Some(ChannelAxis::Last),
};
/// The same with a third summand.
const BIASED_PRODUCT: LinearMap = LinearMap {
    bias: Some(BiasInput {
        input: 2,
        factor: Some("beta"),
    }),
    rows: WeightRows::Last(Some("transB")),
    channels: Some(ChannelAxis::Last),
};

pub(super) static RULES: &[Rule] = &[
    Rule::onnx("MatMul", &MATMUL).product(PLAIN_PRODUCT),
    Rule::onnx("Gemm", &GEMM).product(BIASED_PRODUCT),
    Rule::onnx("MatMulInteger", &INTEGER).counts_steps(),
    Rule::microsoft("MatMulInteger16", &INTEGER).counts_steps(),
    Rule::onnx("QLinearMatMul", &QUANTIZED).counts_steps(),
    Rule::microsoft("FusedMatMul", &FUSED),
    Rule::microsoft("FusedMatMulActivation", &FUSED),
    Rule::microsoft("TransposeMatMul", &FUSED),
    Rule::microsoft("FusedGemm", &GEMM),
    Rule::microsoft("GemmFastGelu", &GELU),
    Rule::microsoft("QGemm", &QUANTIZED_GEMM).counts_steps(),
    Rule::microsoft("DynamicQuantizeMatMul", &DYNAMIC).counts_steps(),
    Rule::microsoft("MatMulIntegerToFloat", &TO_FLOAT).counts_steps(),
];

#[cfg(test)]
mod tests {
    use crate::ops::case::OpCase;

    #[test]
    fn stacks_broadcast() {
        let product = |a: &str, b: &str| OpCase::op("MatMul").input(a).input(b);
        product("bxsx8", "8x6")
            .expect_shapes("bxsx6")
            .expect_relation("a[p, m, k] b[k, n] → y[p, m, n]  Σ k");
        product("2x3x4x8", "3x8x6")
            .expect_shapes("2x3x4x6")
            .expect_relation("a[p, p2, m, k] b[p2, k, n] → y[p, p2, m, n]  Σ k");
        product("2x1x4x8", "1x3x8x6")
            .expect_shapes("2x3x4x6")
            .expect_relation("a[p, 1, m, k] b[1, p2, k, n] → y[p, p2, m, n]  Σ k");
        product("1x4x8", "1x8x6")
            .expect_shapes("1x4x6")
            .expect_relation("a[p, m, k] b[p, k, n] → y[p, m, n]  Σ k");
        product("bx4x8", "1x8x6")
            .expect_shapes("bx4x6")
            .expect_relation("a[p, m, k] b[1, k, n] → y[p, m, n]  Σ k");
    }

    #[test]
    fn vectors() {
        let product = |a: &str, b: &str| OpCase::op("MatMul").input(a).input(b);
        product("8", "8")
            .expect_shapes("")
            .expect_relation("a[k] b[k] → y[]  Σ k");
        product("8", "2x8x6")
            .expect_shapes("2x6")
            .expect_relation("a[k] b[p, k, n] → y[p, n]  Σ k");
        product("2x4x8", "8")
            .expect_shapes("2x4")
            .expect_relation("a[p, m, k] b[k] → y[p, m]  Σ k");
    }

    #[test]
    fn gemm() {
        let gemm = || OpCase::op("Gemm");
        gemm()
            .input("bx8")
            .weight("8x6")
            .weight("6")
            .expect_shapes("bx6")
            .expect_relation("a[m, k] b[k, n] c[n] → y[m, n]  Σ k");
        gemm()
            .input("8xb")
            .weight("6x8")
            .weight("bx1")
            .int("transA", 1)
            .int("transB", 1)
            .expect_shapes("bx6")
            .expect_relation("a[k, m] b[n, k] c[m, 1] → y[m, n]  Σ k");
        gemm()
            .input("4x8")
            .weight("8x6")
            .weight("")
            .expect_shapes("4x6")
            .expect_relation("a[m, k] b[k, n] c[] → y[m, n]  Σ k");
        gemm()
            .input("4x8")
            .weight("8x6")
            .weight("1x6")
            .expect_shapes("4x6")
            .expect_relation("a[m, k] b[k, n] c[1, n] → y[m, n]  Σ k");
        gemm()
            .input("4x8")
            .weight("8x6")
            .weight("4x6")
            .expect_shapes("4x6")
            .expect_relation("a[m, k] b[k, n] c[m, n] → y[m, n]  Σ k");
        gemm()
            .at(7)
            .input("4x8")
            .weight("8x6")
            .weight("1")
            .expect_shapes("4x6")
            .expect_relation("a[m, k] b[k, n] c[1] → y[m, n]  Σ k");
        gemm()
            .at(11)
            .input("4x8")
            .weight("8x6")
            .expect_shapes("4x6")
            .expect_relation("a[m, k] b[k, n] → y[m, n]  Σ k");
    }

    #[test]
    fn integers() {
        OpCase::op("MatMulInteger")
            .input("u8:2x4x8")
            .weight("i8:8x6")
            .input("u8:")
            .weight("i8:6")
            .expect_shapes("2x4x6")
            .expect_relation("a[p, m, k] b[k, n] a_zero[] b_zero[n] → y[p, m, n]  Σ k");
        let start = OpCase::op("QLinearMatMul")
            .input("u8:2x4x8")
            .weight("2x4x1")
            .weight("u8:2x4x1")
            .weight("i8:8x6")
            .weight("6");
        start
            .weight("i8:6")
            .weight("")
            .weight("u8:")
            .expect_shapes("2x4x6")
            .expect_relation("a[p, m, k] a_scale[p, m, 1] a_zero[p, m, 1] b[k, n] b_scale[n] b_zero[n] y_scale[] y_zero[] → y[p, m, n]  Σ k");
    }

    #[test]
    fn of_onnx_runtime() {
        let start = |op| OpCase::op(op).domain("com.microsoft").at(1);
        start("FusedMatMul")
            .input("2x3x4x8")
            .input("2x3x6x8")
            .int("transB", 1)
            .expect_shapes("2x3x4x6")
            .expect_relation("a[p, p2, m, k] b[p, p2, n, k] → y[p, p2, m, n]  Σ k");
        start("FusedMatMul")
            .input("8x2x3")
            .input("2x8x6")
            .int("transA", 1)
            .int("transBatchA", 1)
            .expect_shapes("2x3x6")
            .expect_relation("a[k, p, m] b[p, k, n] → y[p, m, n]  Σ k");
        start("FusedGemm")
            .input("4x8")
            .weight("6x8")
            .weight("6")
            .int("transB", 1)
            .expect_shapes("4x6");
        start("DynamicQuantizeMatMul")
            .input("bx4x8")
            .weight("i8:8x6")
            .weight("6")
            .none()
            .weight("6")
            .expect_shapes("bx4x6")
            .expect_relation("a[p, m, k] b[k, n] b_scale[n] bias[n] → y[p, m, n]  Σ k; Σ p,m,k");
        start("MatMulIntegerToFloat")
            .input("u8:4x8")
            .weight("u8:8x6")
            .input("")
            .weight("6")
            .input("u8:")
            .weight("u8:6")
            .expect_shapes("4x6")
            .expect_relation(
                "a[m, k] b[k, n] a_scale[] b_scale[n] a_zero[] b_zero[n] → y[m, n]  Σ k",
            );
    }
}
