//! A list of extents put together anew: numbers where they are demanded, what a computed list holds everywhere else.

use super::demand::Operands;
use super::infer::Facts;
use super::patch::patched;
use crate::facts::{Dim, Fact};
use crate::model::{GraphId, Model, Origin, TensorRef, ValueId};
use crate::ops::make;
use crate::proto::{Dtype, NodeProto};

/// A stretch of the new list.
enum AssembledPart {
    /// These numbers.
    Numbers(Vec<i64>),
    /// What the old list holds at these places.
    Held(Vec<i64>),
    /// What it holds at a place, times the first number by the second.
    Scaled(i64, i64, i64),
}

/// The whole numbers `(a, b)` for which `wanted` is `held · a / b`, where there are any below a bound.
fn ratio(wanted: &Dim, held: &Dim) -> Option<(i64, i64)> {
    const MOST: i64 = 256;
    (1..=MOST).find_map(|below| Some(((wanted * &Dim::Num(below)).exact_div(held)?.num()?, below)))
}

impl Operands {
    /// A list like the one that a node computes, with some elements replaced. `None` for what is no list of whole numbers, or
    /// where an element that is known only at run time is asked for and is no multiple of what the list holds.
    pub(super) fn assemble(
        &mut self,
        model: &mut Model,
        facts: &Facts,
        value: ValueId,
        wanted: &[Option<Dim>],
    ) -> Option<(String, Fact)> {
        let fact = facts.of(value);
        let entry = model.index().value(value).clone();
        let (Origin::Output(node, _), Some([length])) = (entry.origin, fact.shape.as_deref())
        else {
            return None;
        };
        if length.count() != Some(wanted.len())
            || !matches!(fact.dtype, Some(Dtype::Int64 | Dtype::Int32))
        {
            return None;
        }
        let position = model.index().node(node).position;
        let mut list = NewList {
            graph: entry.graph,
            base: &entry.name,
            dtype: fact.dtype?,
            made: Vec::new(),
        };
        let mut pieces = Vec::new();
        for part in parts(fact, wanted)? {
            pieces.push(list.piece(self, model, part));
        }
        let name = list.node(self, |output| make::concat(&pieces, 0, output));
        // Nodes behind one other are inserted last first.
        self.inserts.extend(
            list.made
                .into_iter()
                .rev()
                .map(|node| (entry.graph, position, node)),
        );
        Some((name, patched(fact, wanted)))
    }
}

/// A list on its way to be put together.
struct NewList<'a> {
    graph: GraphId,
    /// The name of the old list: all names are made of it.
    base: &'a str,
    dtype: Dtype,
    /// The nodes that compute it, in order.
    made: Vec<NodeProto>,
}

impl NewList<'_> {
    /// The name of the value that is one stretch of the list.
    fn piece(&mut self, operands: &mut Operands, model: &mut Model, part: AssembledPart) -> String {
        let (graph, base, dtype) = (self.graph, self.base, self.dtype);
        let mut constant = |operands: &mut Operands, numbers: &[i64], dtype| {
            let list = list_of(numbers, dtype);
            operands.initializer(model, graph, base, &list).0
        };
        match part {
            AssembledPart::Numbers(numbers) => constant(operands, &numbers, dtype),
            AssembledPart::Held(places) => {
                let places = constant(operands, &places, Dtype::Int64);
                self.node(operands, |output| make::gather(base, &places, 0, output))
            }
            AssembledPart::Scaled(place, times, by) => {
                let [place, times, by] = [(place, Dtype::Int64), (times, dtype), (by, dtype)]
                    .map(|(number, dtype)| constant(operands, &[number], dtype));
                let held = self.node(operands, |output| make::gather(base, &place, 0, output));
                let product = self.node(operands, |output| make::mul(&held, &times, output));
                self.node(operands, |output| make::div(&product, &by, output))
            }
        }
    }

    /// Notes the node that gives a new value, and returns the value's name.
    fn node(&mut self, operands: &mut Operands, node: impl FnOnce(&str) -> NodeProto) -> String {
        let output = operands.fresh(self.base);
        self.made.push(node(&output));
        output
    }
}

/// The stretches of the new list.
fn parts(fact: &Fact, wanted: &[Option<Dim>]) -> Option<Vec<AssembledPart>> {
    let held = |at: usize| fact.contents.as_ref()?.0.get(at)?.dim();
    let mut parts: Vec<AssembledPart> = Vec::new();
    for (at, wanted) in wanted.iter().enumerate() {
        let place = at as i64;
        match (
            wanted
                .as_ref()
                .filter(|wanted| held(at).as_ref() != Some(*wanted)),
            parts.last_mut(),
        ) {
            (None, Some(AssembledPart::Held(places))) => places.push(place),
            (None, _) => parts.push(AssembledPart::Held(vec![place])),
            (Some(Dim::Num(number)), Some(AssembledPart::Numbers(numbers))) => {
                numbers.push(*number)
            }
            (Some(Dim::Num(number)), _) => parts.push(AssembledPart::Numbers(vec![*number])),
            (Some(wanted), _) => {
                let (times, by) = ratio(wanted, &held(at)?)?;
                parts.push(AssembledPart::Scaled(place, times, by));
            }
        }
    }
    Some(parts)
}

fn list_of(numbers: &[i64], dtype: Dtype) -> TensorRef {
    match dtype {
        Dtype::Int32 => {
            let bytes: Vec<u8> = numbers
                .iter()
                .flat_map(|number| (*number as i32).to_le_bytes())
                .collect();
            TensorRef {
                dtype,
                dims: vec![numbers.len()],
                bytes: bytes.into(),
            }
        }
        _ => TensorRef::from_i64(vec![numbers.len()], numbers),
    }
}
