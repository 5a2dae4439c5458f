//! Which operators can be differentiated, and as what functions of arrays.
//!
//! A function is made of a node's attributes alone; operands that say extents, axes or indices are read when it is computed.

mod attention;
mod maps;
mod moves;
mod norms;
mod products;
mod recurrences;
mod reductions;
mod resize;

use super::NodeView;
use crate::gradient::{Arguments, FloatArray, Function, Misfit};
use crate::model::normal_domain;

/// Makes the function that gives one output of a node; `None` where the node's attributes ask for what there is no function of.
type Make = fn(&NodeView, usize) -> Option<Box<dyn Function>>;

/// Differentiable operators: domain, name, function.
type FunctionTable = &'static [(&'static str, &'static str, Make)];

const MICROSOFT: &str = "com.microsoft";

static TABLES: &[FunctionTable] = &[
    attention::TABLE,
    maps::TABLE,
    moves::TABLE,
    norms::TABLE,
    products::TABLE,
    recurrences::TABLE,
    reductions::TABLE,
    resize::TABLE,
];

/// The function that gives an output of this node from its inputs; `None` where it cannot be differentiated.
pub fn function(node: &NodeView, output: usize) -> Option<Box<dyn Function>> {
    let (domain, op_type) = (normal_domain(node.node.domain()), node.node.op_type());
    let mut rows = TABLES.iter().copied().flatten();
    let (.., make) = rows.find(|(of, name, _)| *of == domain && *name == op_type)?;
    make(node, output)
}

/// All that can be differentiated: domain and name.
pub fn differentiable() -> impl Iterator<Item = (&'static str, &'static str)> {
    TABLES
        .iter()
        .copied()
        .flatten()
        .map(|(domain, name, _)| (*domain, *name))
}

/// The first output of a function; the others are not numbers to be differentiated.
fn first(output: usize, function: impl Function + 'static) -> Option<Box<dyn Function>> {
    (output == 0).then(|| Box::new(function) as Box<dyn Function>)
}

/// An operand that may be left out.
fn given<'a>(inputs: &Arguments<'a>, at: usize) -> Option<&'a FloatArray> {
    inputs.get(at).copied().flatten()
}

/// The first operand.
fn data<'a>(inputs: &Arguments<'a>) -> Result<&'a FloatArray, Misfit> {
    given(inputs, 0).ok_or_else(|| Misfit("the first operand is missing".to_owned()))
}

/// Axes counted from the start. Errors: one that is not there.
fn axes(list: &[i64], rank: usize) -> Result<Vec<usize>, Misfit> {
    let axis = |axis: &i64| {
        NodeView::axis(*axis, rank).ok_or_else(|| Misfit(format!("no axis {axis} among {rank}")))
    };
    list.iter().map(axis).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::lookup;

    #[test]
    fn each_is_an_operator_with_a_rule_and_stands_once() {
        let mut seen = std::collections::BTreeSet::new();
        for (domain, name) in differentiable() {
            assert!(lookup(domain, name).is_some(), "{domain}:{name}");
            assert!(seen.insert((domain, name)), "{domain}:{name} stands twice");
        }
        assert!(seen.len() > 60, "{}", seen.len());
    }
}
