//! Shapes computed backwards: what the inputs of a node must hold so that its output holds what is wanted.

use super::meaning::Flow;
use super::registry::flow;
use super::{Demand, NodeView};
use crate::facts::Dim;

/// What inputs must hold so that the first output holds the wanted elements (`None`: any). Inputs that are not named stay. `None`: the
/// operator is not one that hands on elements or reckons with one, or no input holds such elements.
/// `is_constant`: whether an input is a constant; a sum or a product changes by one of those only.
pub fn back(
    node: &NodeView,
    wanted: &[Option<Dim>],
    is_constant: &dyn Fn(u32) -> bool,
) -> Option<Vec<Demand>> {
    match flow(node.node) {
        Flow::Same | Flow::Converted | Flow::Reshaped => Some(vec![holding(0, wanted.to_vec())]),
        Flow::Joined => joined(node, wanted),
        Flow::Picked => picked(node, wanted),
        flow @ (Flow::Add | Flow::Sub | Flow::Mul | Flow::Div) => {
            arithmetic(node, flow, wanted, is_constant)
        }
        _ => None,
    }
}

fn holding(input: u32, elements: Vec<Option<Dim>>) -> Demand {
    Demand {
        input,
        elements,
        whole: false,
    }
}

fn joined(node: &NodeView, wanted: &[Option<Dim>]) -> Option<Vec<Demand>> {
    let mut rest = wanted;
    let mut demands = Vec::new();
    for input in 0..node.inputs.len() {
        let (mine, others) = rest.split_at_checked(node.input(input)?.elements()?)?;
        rest = others;
        demands.push(holding(input as u32, mine.to_vec()));
    }
    Some(demands)
}

fn picked(node: &NodeView, wanted: &[Option<Dim>]) -> Option<Vec<Demand>> {
    let mut source = vec![None; node.input(0)?.elements()?];
    for (wanted, index) in wanted.iter().zip(node.numbers(1)?) {
        let index = if index < 0 {
            index + source.len() as i64
        } else {
            index
        };
        let slot = source.get_mut(usize::try_from(index).ok()?)?;
        *slot = wanted.clone().or(slot.take());
    }
    Some(vec![holding(0, source)])
}

fn arithmetic(
    node: &NodeView,
    flow: Flow,
    wanted: &[Option<Dim>],
    is_constant: &dyn Fn(u32) -> bool,
) -> Option<Vec<Demand>> {
    let [Some(wanted)] = wanted else { return None };
    let now = |input: usize| node.contents(input)?.dims()?.first().cloned();
    let (left, right) = (now(0)?, now(1)?);
    let (for_right, for_left) = match flow {
        Flow::Mul => (wanted.exact_div(&left), wanted.exact_div(&right)),
        Flow::Div => (left.exact_div(wanted), Some(wanted * &right)),
        Flow::Add => (Some(wanted - &left), Some(wanted - &right)),
        _ => (Some(&left - wanted), Some(wanted + &right)),
    };
    match (for_right, for_left) {
        (Some(right), _) if is_constant(1) => Some(vec![holding(1, vec![Some(right)])]),
        (_, Some(left)) if is_constant(0) => Some(vec![holding(0, vec![Some(left)])]),
        _ => None,
    }
}
