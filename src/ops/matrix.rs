//! Operators on the last two axes taken as matrices.

use super::fit::{frozen_misfit, unless_ranked};
use super::meaning::Flow;
use super::{InferError, NodeView, Operator, Rule};
use crate::facts::{Dim, Fact};
use crate::relation::{LabelId, Port, Reason, Relation};

/// What becomes of a matrix.
enum Matrix {
    /// Its determinant.
    Determinant,
    /// Another matrix of its shape.
    Same(&'static str),
}

impl Matrix {
    fn reason(&self) -> Reason {
        match self {
            Matrix::Determinant => Reason::operator("a determinant of the whole matrix"),
            Matrix::Same(reason) => Reason::operator(reason),
        }
    }
}

impl Operator for Matrix {
    fn infer(&self, node: &NodeView) -> Result<Vec<Fact>, InferError> {
        let dtype = node.dtype(0);
        let Some(dims) = node.shape(0) else {
            return Ok(vec![Fact {
                dtype,
                ..Fact::default()
            }]);
        };
        let [front @ .., rows, columns] = dims else {
            return Err(InferError(format!("{} axes are no matrix", dims.len())));
        };
        match self {
            Matrix::Determinant if rows.differs(columns) => {
                Err(InferError(format!("a determinant of {rows} by {columns}")))
            }
            Matrix::Determinant => Ok(vec![Fact::new(dtype, front.to_vec())]),
            Matrix::Same(_) => Ok(vec![Fact::new(dtype, dims.to_vec())]),
        }
    }

    fn relate(&self, node: &NodeView) -> Relation {
        if let Some(frozen) = unless_ranked(node) {
            return frozen;
        }
        let Some([front @ .., rows, columns]) = node.shape(0) else {
            return frozen_misfit(node);
        };
        let mut builder = node.relation();
        let p: Vec<LabelId> = front
            .iter()
            .map(|dim| builder.free("p", dim.clone()))
            .collect();
        let matrix: Vec<LabelId> = [rows, columns]
            .map(|dim: &Dim| builder.fixed("m", dim.clone(), self.reason()))
            .to_vec();
        builder.port(Port::In(0), "x", p.iter().chain(&matrix).copied());
        builder.whole(Port::In(1), "k", &Reason::operator("a number of diagonals"));
        match self {
            Matrix::Determinant => builder.port(Port::Out(0), "y", p),
            Matrix::Same(_) => builder.port(Port::Out(0), "y", p.iter().chain(&matrix).copied()),
        }
        builder.finish()
    }

    fn shape_inputs(&self, _: &NodeView) -> Vec<u32> {
        vec![1]
    }
}

static TRIANGLE: Matrix = Matrix::Same("rows are compared with columns");

pub(super) static RULES: &[Rule] = &[
    Rule::onnx("Det", &Matrix::Determinant),
    Rule::onnx("Trilu", &TRIANGLE).flow(Flow::Moved),
    Rule::microsoft("Inverse", &Matrix::Same("an inverse of the whole matrix")),
    Rule::microsoft("Trilu", &TRIANGLE),
];

#[cfg(test)]
mod tests {
    use crate::ops::case::OpCase;

    #[test]
    fn only_what_stands_before_a_matrix_goes() {
        OpCase::op("Det")
            .input("bx3x3")
            .expect_shapes("b")
            .expect_relation("x[p, m, m2] → y[p]");
        OpCase::op("Trilu")
            .input("bx3x5")
            .number(1)
            .expect_shapes("bx3x5")
            .expect_relation("x[p, m, m2] k[] → y[p, m, m2]");
        OpCase::op("Trilu")
            .input("3x5")
            .expect_shapes("3x5")
            .expect_relation("x[m, m2] → y[m, m2]");
        OpCase::op("Inverse")
            .domain("com.microsoft")
            .at(1)
            .input("bx3x3")
            .expect_shapes("bx3x3")
            .check_laws();
    }
}
