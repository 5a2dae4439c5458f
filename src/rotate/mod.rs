//! Changes of basis that a model does not notice, made so that few directions carry what is read.
//!
//! Where products with constant weights stand in a row and nothing between them fixes a basis, an invertible matrix may stand
//! between them with its inverse. `find` reads from relations where that is, `basis` computes the matrix from what flows there,
//! and `apply` multiplies it into the weights. What comes out computes the same; its units are directions, the best first.
//!
//! Invariant: the graph stays, and nothing is removed.

mod apply;
mod basis;
mod find;
mod linear_node;
mod moments;
mod places;
mod sides;
mod stretch;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

pub use find::{LinearSpace, NotLinear, linear_spaces};

use crate::analysis::{Analysis, Kind};
use crate::calibrate::ChosenRuns;
use crate::inputs::GatherError;
use crate::model::{Model, ValueId};
use crate::progress::Work;

/// The change of basis of one axis of one constant.
#[derive(Clone, Debug, PartialEq)]
pub struct AxisRotation {
    /// The constant.
    pub value: ValueId,
    /// The axis.
    pub axis: usize,
    /// The group whose units are the directions.
    pub group: usize,
    /// SHA-256 over the matrices, as single-precision numbers.
    pub digest: String,
}

/// Groups whose basis may be changed become groups of directions.
pub fn mark(model: &Model, analysis: &mut Analysis) {
    let (spaces, _) = linear_spaces(model, analysis);
    for space in spaces {
        analysis.groups[space.group].kind = Kind::Directions;
    }
}

/// Changes the basis of some groups of directions: by what varies there over some runs (means are left to the biases behind), or
/// by the weights alone.
///
/// Errors: the model does not run, inputs that cannot be read, a stop asked for.
pub fn rotate(
    model: &Model,
    analysis: &Analysis,
    groups: &BTreeSet<usize>,
    on: Option<ChosenRuns>,
    work: &Work,
) -> Result<(Model, Vec<AxisRotation>), GatherError> {
    let (mut spaces, _) = linear_spaces(model, analysis);
    spaces.retain(|space| groups.contains(&space.group));
    let seen = match on {
        Some(on) => moments::gather(model, analysis, &spaces, on, work)?,
        None => Default::default(),
    };
    let (mut rotated, mut made) = (model.clone(), Vec::new());
    for space in &spaces {
        let operands = moments::operands(model, analysis, space, &seen);
        let Some(bases) = operands.map(|both| basis::bases(&both, space.orthogonal)) else {
            continue;
        };
        made.extend(apply::apply(&mut rotated, analysis, space, &bases).unwrap_or_default());
    }
    Ok((rotated, made))
}
