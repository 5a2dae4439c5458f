//! Functions of arrays that can be differentiated.

use super::array::FloatArray;

/// Arrays that do not fit together.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{0}")]
pub struct Misfit(pub String);

/// Operands in the order of the operator's inputs; `None` where one is left out.
pub type Arguments<'a> = [Option<&'a FloatArray>];

/// A function at one point: what its vector–Jacobian product is taken of.
#[derive(Clone, Copy)]
pub struct Evaluated<'a> {
    /// What it was given.
    pub inputs: &'a Arguments<'a>,
    /// What it gave.
    pub output: &'a FloatArray,
    /// Derivative of the loss by each element of the output.
    pub gradient: &'a FloatArray,
}

impl<'a> Evaluated<'a> {
    /// An operand; `None` where it is left out.
    pub fn input(&self, at: usize) -> Option<&'a FloatArray> {
        self.inputs.get(at).copied().flatten()
    }
}

/// A function of arrays with one array as its result.
pub trait Function: Send + Sync {
    /// Its value. Errors: operands whose extents do not fit.
    fn value(&self, inputs: &Arguments) -> Result<FloatArray, Misfit>;

    /// How many multiplications the value takes, about.
    fn work(&self, _inputs: &Arguments, output: &FloatArray) -> usize {
        output.data.len()
    }

    /// Derivatives of the loss by the operands (vector–Jacobian products), those that are wanted: one for each input, of its
    /// extents. What it does not depend on, or only in steps, gives `None`.
    fn pull_back(&self, point: &Evaluated, wanted: &[bool]) -> Vec<Option<FloatArray>>;
}

/// An operand that has to be there.
pub(super) fn operand<'a>(inputs: &Arguments<'a>, at: usize) -> Result<&'a FloatArray, Misfit> {
    inputs
        .get(at)
        .copied()
        .flatten()
        .ok_or_else(|| Misfit(format!("operand {at} is missing")))
}

/// Whether the derivative by an operand is wanted.
pub(super) fn wants(wanted: &[bool], at: usize) -> bool {
    wanted.get(at).copied().unwrap_or(false)
}
