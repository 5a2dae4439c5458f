//! Sums of products of tensors whose axes are named by indices: what matrix products and Einsum have in common.

use std::borrow::Cow;

use super::operand::layouts;
use super::{InferError, NodeView};
use crate::facts::Dim;
use crate::relation::{Builder, LabelId, Layout, Port, Reason, Term};

/// One tensor that is multiplied.
#[derive(Clone, Debug)]
pub(super) struct FactorOperand {
    /// The input it comes in at.
    pub input: u32,
    /// Its name in the relation.
    pub name: &'static str,
    /// The index that each axis runs over.
    pub axes: Vec<usize>,
}

/// A sum of products: indices that are not in `output` are summed over. An axis of 1 broadcasts.
#[derive(Clone, Debug)]
pub(super) struct Contraction {
    /// The names of the indices.
    pub names: Vec<Cow<'static, str>>,
    /// The tensors that are multiplied.
    pub factors: Vec<FactorOperand>,
    /// The index that each output axis runs over.
    pub output: Vec<usize>,
    /// The zero point of the second factor.
    pub zero: Option<u32>,
}

/// The labels of a contraction that was described.
pub(super) struct Described {
    /// The layouts of each factor's axes, one factor after the other.
    pub factors: Vec<Vec<Layout>>,
    /// The layouts of the output's axes.
    pub output: Vec<Layout>,
    /// The label of each index; `None` where no tensor has it.
    pub labels: Vec<Option<LabelId>>,
}

/// Why an index stays that one tensor has twice.
const DIAGONAL: Reason = Reason::operator("the diagonal of a tensor");

impl Contraction {
    /// The extent of each index; 1 for those that no factor has.
    /// Errors: axes of one index differ, neither being 1; an input's rank is not what the indices say.
    pub(super) fn extents(
        &self,
        shape: impl Fn(u32) -> Option<Vec<Dim>>,
    ) -> Result<Vec<Dim>, InferError> {
        let mut extents = vec![Dim::Num(1); self.names.len()];
        for factor in &self.factors {
            let dims = shape(factor.input).filter(|dims| dims.len() == factor.axes.len());
            let dims = dims.ok_or_else(|| {
                InferError(format!(
                    "{} axes expected of {}",
                    factor.axes.len(),
                    factor.name
                ))
            })?;
            for (index, dim) in factor.axes.iter().zip(&dims) {
                let Some(extent) = extents.get_mut(*index) else {
                    continue;
                };
                if !extent.is_one() && !dim.is_one() && extent.differs(dim) {
                    return Err(InferError(format!(
                        "axis {} is {extent} and {dim}",
                        self.names[*index]
                    )));
                }
                *extent = extent.broadcast(dim);
            }
        }
        Ok(extents)
    }

    /// The output's shape.
    pub(super) fn shape(&self, node: &NodeView) -> Result<Vec<Dim>, InferError> {
        let extents = self.extents(|input| node.shape(input as usize).map(<[Dim]>::to_vec))?;
        Ok(self
            .output
            .iter()
            .filter_map(|index| extents.get(*index).cloned())
            .collect())
    }

    /// Describes the factors, the output (as `y`) and the sums.
    pub(super) fn describe(&self, builder: &mut Builder) -> Option<Described> {
        let extents = self
            .extents(|input| builder.shape(Port::In(input)).map(<[Dim]>::to_vec))
            .ok()?;
        let mut labels: Vec<Option<LabelId>> = vec![None; extents.len()];
        for index in self
            .factors
            .iter()
            .flat_map(|factor| &factor.axes)
            .chain(&self.output)
        {
            if let (Some(slot @ None), Some(extent), Some(name)) = (
                labels.get_mut(*index),
                extents.get(*index),
                self.names.get(*index),
            ) {
                *slot = Some(builder.free(name.clone(), extent.clone()));
            }
        }
        let mut factors = Vec::new();
        let mut carried = Vec::new();
        for factor in &self.factors {
            let dims = builder.shape(Port::In(factor.input))?.to_vec();
            let mut axes = Vec::new();
            let mut has: Vec<LabelId> = Vec::new();
            for (index, dim) in factor.axes.iter().zip(&dims) {
                let label = labels.get(*index).copied().flatten()?;
                if dim.is_one() && !extents.get(*index)?.is_one() {
                    axes.push(builder.fill(1i64));
                    continue;
                }
                if has.contains(&label) {
                    builder.fix(label, DIAGONAL);
                } else {
                    has.push(label);
                }
                axes.push(label);
            }
            builder.port(Port::In(factor.input), factor.name, axes.clone());
            factors.push(layouts(&axes));
            carried.push(has);
        }
        let output: Vec<LabelId> = self
            .output
            .iter()
            .map(|index| labels.get(*index).copied().flatten())
            .collect::<Option<_>>()?;
        builder.port(Port::Out(0), "y", output.clone());
        self.sums(builder, &carried, &output);
        Some(Described {
            factors,
            output: layouts(&output),
            labels,
        })
    }

    /// Describes the sums. Those of more than two factors are not products of data and weights, and so count as plain sums.
    fn sums(&self, builder: &mut Builder, carried: &[Vec<LabelId>], output: &[LabelId]) {
        let ports: Vec<Port> = self
            .factors
            .iter()
            .map(|factor| Port::In(factor.input))
            .collect();
        match (ports.as_slice(), carried) {
            ([data], [has]) => alone(builder, *data, has, gone(has, output)),
            ([data, weight], [left, right]) => {
                self.product(builder, [*data, *weight], [left, right], output);
            }
            // A product of many is nothing where one of them is: each index is silenced in the first that has it.
            _ => {
                let mut seen: Vec<LabelId> = Vec::new();
                for (port, has) in ports.iter().zip(carried) {
                    let summed: Vec<LabelId> = gone(has, output)
                        .into_iter()
                        .filter(|label| !seen.contains(label))
                        .collect();
                    seen.extend(&summed);
                    alone(builder, *port, has, summed);
                }
            }
        }
    }

    /// A sum over what both factors have; what only one has is first summed in it alone.
    fn product(
        &self,
        builder: &mut Builder,
        [data, weight]: [Port; 2],
        [left, right]: [&[LabelId]; 2],
        output: &[LabelId],
    ) {
        let (both, mine): (Vec<_>, Vec<_>) = gone(left, output)
            .into_iter()
            .partition(|label| right.contains(label));
        let others: Vec<_> = gone(right, output)
            .into_iter()
            .filter(|label| !left.contains(label))
            .collect();
        let all = left
            .iter()
            .chain(right.iter().filter(|label| !left.contains(label)));
        builder.term(Term {
            data,
            weight: Some(weight),
            zero: self.zero.map(Port::In),
            labels: all
                .copied()
                .filter(|label| !mine.contains(label) && !others.contains(label))
                .collect(),
            summed: both,
            window: None,
        });
        alone(builder, data, left, mine);
        alone(builder, weight, right, others);
    }
}

/// The labels of a factor that are summed over.
fn gone(has: &[LabelId], output: &[LabelId]) -> Vec<LabelId> {
    has.iter()
        .copied()
        .filter(|label| !output.contains(label))
        .collect()
}

/// A sum within one factor, if there is anything to sum over.
fn alone(builder: &mut Builder, data: Port, has: &[LabelId], summed: Vec<LabelId>) {
    if !summed.is_empty() {
        builder.term(Term {
            data,
            weight: None,
            zero: None,
            labels: has.to_vec(),
            summed,
            window: None,
        });
    }
}
