//! Einsum: contractions as an equation says.

use std::borrow::Cow;
use std::collections::BTreeMap;

use super::contraction::{Contraction, FactorOperand};
use super::meaning::{LinearMap, WeightRows};
use super::{InferError, NodeView, Operator, Rule, operand};
use crate::facts::Fact;
use crate::relation::Relation;

/// One axis name of an equation.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Name {
    Letter(char),
    /// As many axes as are left.
    Ellipsis,
}

struct Einsum;

fn names(text: &str) -> Result<Vec<Name>, InferError> {
    let mut names = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        if let Some(after) = rest.strip_prefix("...") {
            names.push(Name::Ellipsis);
            rest = after;
        } else if first.is_ascii_alphabetic() {
            names.push(Name::Letter(first));
            rest = rest.get(1..).unwrap_or_default();
        } else {
            return Err(InferError(format!("equation with '{first}'")));
        }
    }
    match names.iter().filter(|name| **name == Name::Ellipsis).count() {
        0 | 1 => Ok(names),
        _ => Err(InferError(
            "equation with several ellipses in one tensor".into(),
        )),
    }
}

/// Numbers of the indices: those of the ellipsis first, aligned at their last, then the letters.
struct Indices {
    ellipsis: usize,
    letters: BTreeMap<char, usize>,
}

impl Indices {
    fn of(&self, names: &[Name], ellipsis: usize) -> Result<Vec<usize>, InferError> {
        let mut axes = Vec::new();
        for name in names {
            match name {
                Name::Ellipsis => {
                    axes.extend(self.ellipsis.saturating_sub(ellipsis)..self.ellipsis)
                }
                Name::Letter(letter) => {
                    let index = self
                        .letters
                        .get(letter)
                        .ok_or_else(|| InferError(format!("'{letter}' is in no input")))?;
                    axes.push(*index);
                }
            }
        }
        Ok(axes)
    }
}

/// The contraction that the equation describes; `None` when a rank is unknown.
fn contraction(node: &NodeView) -> Result<Option<Contraction>, InferError> {
    let (inputs, output) = equation(node)?;
    let Some(ellipses) = ellipses(node, &inputs)? else {
        return Ok(None);
    };
    let ellipsis = ellipses.iter().copied().max().unwrap_or(0);
    let (order, once) = letters(&inputs);
    let output = output.unwrap_or_else(|| std::iter::once(Name::Ellipsis).chain(once).collect());
    let letters = order
        .iter()
        .enumerate()
        .map(|(at, letter)| (*letter, ellipsis + at))
        .collect();
    let indices = Indices { ellipsis, letters };
    let mut factors = Vec::new();
    for (at, names) in inputs.iter().enumerate() {
        let axes = indices.of(names, ellipses.get(at).copied().unwrap_or(0))?;
        factors.push(FactorOperand {
            input: at as u32,
            name: ["a", "b", "c", "d"].get(at).copied().unwrap_or("x"),
            axes,
        });
    }
    let labels = std::iter::repeat_n(Cow::Borrowed("p"), ellipsis)
        .chain(order.iter().map(|letter| Cow::Owned(letter.to_string())));
    Ok(Some(Contraction {
        names: labels.collect(),
        factors,
        output: indices.of(&output, ellipsis)?,
        zero: None,
    }))
}

/// The names of an equation: for each input, and for the output where that is written.
type Equation = (Vec<Vec<Name>>, Option<Vec<Name>>);

/// Reads the equation. Errors: one that is none, or is of another number of inputs.
fn equation(node: &NodeView) -> Result<Equation, InferError> {
    let equation: String = node
        .string("equation")
        .unwrap_or_default()
        .chars()
        .filter(|letter| !letter.is_whitespace())
        .collect();
    let (inputs, output) = match equation.split_once("->") {
        Some((inputs, output)) => (inputs, Some(names(output)?)),
        None => (equation.as_str(), None),
    };
    let inputs = inputs
        .split(',')
        .map(names)
        .collect::<Result<Vec<_>, _>>()?;
    if inputs.len() != node.inputs.len() {
        return Err(InferError(format!(
            "an equation of {} tensors for {} inputs",
            inputs.len(),
            node.inputs.len()
        )));
    }
    Ok((inputs, output))
}

/// How many axes the ellipsis of each input stands for; `None` when a rank is unknown. Errors: a rank that does not fit.
fn ellipses(node: &NodeView, inputs: &[Vec<Name>]) -> Result<Option<Vec<usize>>, InferError> {
    let mut ellipses = Vec::new();
    for (at, names) in inputs.iter().enumerate() {
        let Some(rank) = node.shape(at).map(<[_]>::len) else {
            return Ok(None);
        };
        let letters = names.iter().filter(|name| **name != Name::Ellipsis).count();
        match rank.checked_sub(letters) {
            Some(rest) if rest == 0 || names.contains(&Name::Ellipsis) => ellipses.push(rest),
            _ => {
                return Err(InferError(format!(
                    "{letters} letters for an input of {rank} axes"
                )));
            }
        }
    }
    Ok(Some(ellipses))
}

/// The letters of the inputs as they come, and, sorted, those that come once.
fn letters(inputs: &[Vec<Name>]) -> (Vec<char>, Vec<Name>) {
    let mut counts: BTreeMap<char, usize> = BTreeMap::new();
    let mut order = Vec::new();
    for name in inputs.iter().flatten() {
        if let Name::Letter(letter) = name {
            let count = counts.entry(*letter).or_default();
            *count += 1;
            if *count == 1 {
                order.push(*letter);
            }
        }
    }
    let once = counts
        .iter()
        .filter(|(_, count)| **count == 1)
        .map(|(letter, _)| Name::Letter(*letter))
        .collect();
    (order, once)
}

impl Operator for Einsum {
    fn infer(&self, node: &NodeView) -> Result<Vec<Fact>, InferError> {
        let shape = contraction(node)?
            .map(|contraction| contraction.shape(node))
            .transpose()?;
        Ok(operand::output(node, node.dtype(0), shape))
    }

    fn relate(&self, node: &NodeView) -> Relation {
        operand::describe_or_freeze(node, |node, builder| {
            contraction(node)
                .ok()
                .flatten()?
                .describe(builder)
                .map(|_| ())
        })
    }
}

/// Sums of products as the equation says.
const EQUATION: LinearMap = LinearMap {
    bias: None,
    rows: WeightRows::Equation,
    channels: None,
};

pub(super) static RULES: &[Rule] = &[Rule::onnx("Einsum", &Einsum).product(EQUATION)];

#[cfg(test)]
mod tests {
    use crate::ops::case::OpCase;

    fn einsum(equation: &str, inputs: &[&str]) -> OpCase {
        inputs.iter().fold(
            OpCase::op("Einsum").at(12).text("equation", equation),
            |case, input| case.input(input),
        )
    }

    #[test]
    fn products() {
        einsum("bhid,bhjd->bhij", &["bx4xix8", "bx4xjx8"])
            .expect_shapes("bx4xixj")
            .expect_relation("a[b, h, i, d] b[b, h, j, d] → y[b, h, i, j]  Σ d");
        einsum("ij, jk", &["2x3", "3x4"])
            .expect_shapes("2x4")
            .expect_relation("a[i, j] b[j, k] → y[i, k]  Σ j");
        einsum("i,j->ij", &["2", "3"])
            .expect_shapes("2x3")
            .expect_relation("a[i] b[j] → y[i, j]");
        einsum("ij,jk->", &["2x3", "3x4"])
            .expect_shapes("")
            .expect_relation("a[i, j] b[j, k] → y[]  Σ j; Σ i; Σ k");
    }

    #[test]
    fn ellipses_broadcast() {
        einsum("...ij,...jk->...ik", &["2x5x3x4", "5x4x6"])
            .expect_shapes("2x5x3x6")
            .expect_relation("a[p, p2, i, j] b[p2, j, k] → y[p, p2, i, k]  Σ j");
        einsum("...ij,jk", &["1x3x4", "4x6"])
            .expect_shapes("1x3x6")
            .expect_relation("a[p, i, j] b[j, k] → y[p, i, k]  Σ j");
    }

    #[test]
    fn one_tensor_or_three() {
        einsum("ij->ji", &["2x3"])
            .expect_shapes("3x2")
            .expect_relation("a[i, j] → y[j, i]");
        einsum("ijk->i", &["2x3x4"])
            .expect_shapes("2")
            .expect_relation("a[i, j, k] → y[i]  Σ j,k");
        einsum("ii->i", &["3x3"])
            .expect_shapes("3")
            .expect_relation("a[i, i] → y[i]");
        einsum("ij,jk,kl->il", &["2x3", "3x4", "4x5"])
            .expect_shapes("2x5")
            .expect_relation("a[i, j] b[j, k] c[k, l] → y[i, l]  Σ j; Σ k");
        // Experts weighted by a gate.
        let experts = einsum("bteh,ehd,bte->btd", &["bx2x4x6", "4x6x3", "bx2x4"]);
        experts
            .expect_shapes("bx2x3")
            .expect_relation("a[b, t, e, h] b[e, h, d] c[b, t, e] → y[b, t, d]  Σ e,h");
    }
}
