//! Which whole numbers a model takes at its inputs: those that pick entries must stay within the axis that they pick from.
//!
//! Bounds go backwards from the operators that pick, through those that hand numbers on or change them by constants.

use std::collections::BTreeMap;

use super::infer::{Facts, Pins, infer, view};
use crate::constants::functions;
use crate::facts::Element;
use crate::model::{GraphId, Index, Model, NodeId, ValueId};
use crate::ops::{Flow, meaning};

/// The smallest and the largest number allowed, both included.
type IndexRange = (i64, i64);

/// Numbers beyond these are not told from none at all.
const FAR: i64 = 1 << 40;

/// For every input of the main graph that picks entries: the numbers that it may hold, by name, where all extents are those
/// of the given shapes of the inputs. Negative numbers, which count from the end, are allowed only where nothing else is.
pub fn bounds(model: &Model, pins: &Pins) -> BTreeMap<String, IndexRange> {
    let inlined = functions::inlined(model).ok().flatten();
    let model = inlined.as_ref().map_or(model, |(inlined, _)| inlined);
    if !model
        .index()
        .nodes()
        .any(|(node, _)| !meaning(model.node(node)).picks.is_empty())
    {
        return BTreeMap::new();
    }
    let facts = infer(model, pins);
    let mut allowed = Bounds {
        model,
        facts: &facts,
        of: vec![None; model.index().values().len()],
        changed: false,
    };
    // Once is enough but where a loop hands its numbers round.
    const ROUNDS: usize = 4;
    for _ in 0..ROUNDS {
        allowed.changed = false;
        allowed.graph(Index::MAIN);
        if !allowed.changed {
            break;
        }
    }
    let inputs = model.index().graph(Index::MAIN).inputs.iter();
    inputs
        .filter_map(|value| {
            let (low, high) = allowed.get(*value)?;
            let low = if high >= 0 { low.max(0) } else { low };
            Some((
                model.index().value(*value).name.clone(),
                (low.min(high), high),
            ))
        })
        .collect()
}

struct Bounds<'a> {
    model: &'a Model,
    facts: &'a Facts,
    /// By value.
    of: Vec<Option<IndexRange>>,
    changed: bool,
}

impl Bounds<'_> {
    fn get(&self, value: ValueId) -> Option<IndexRange> {
        self.of.get(value.index()).copied().flatten()
    }

    fn limit(&mut self, value: Option<ValueId>, range: Option<IndexRange>) {
        let (Some(value), Some((low, high))) = (value, range) else {
            return;
        };
        let Some(entry) = self.of.get_mut(value.index()) else {
            return;
        };
        let new = entry.map_or((low, high), |(l, h)| (l.max(low), h.min(high)));
        if new.0 > -FAR || new.1 < FAR {
            self.changed |= *entry != Some(new);
            *entry = Some(new);
        }
    }

    fn graph(&mut self, graph: GraphId) {
        for node in self.model.index().graph(graph).nodes.iter().rev() {
            self.subgraphs(*node);
            self.node(*node);
        }
    }

    /// A subgraph's results are the node's outputs, and its formal inputs the node's inputs.
    fn subgraphs(&mut self, node: NodeId) {
        let entry = self.model.index().node(node);
        let control = meaning(self.model.node(node)).control.unwrap_or_default();
        let (results, inputs) = (control.own_results, control.own_inputs);
        for subgraph in &entry.subgraphs {
            let inner = self.model.index().graph(*subgraph);
            for (result, output) in inner.outputs.iter().skip(results).zip(&entry.outputs) {
                let range = output.and_then(|output| self.get(output));
                self.limit(Some(*result), range);
            }
            self.graph(*subgraph);
            if control.feeds {
                for (formal, input) in inner
                    .inputs
                    .iter()
                    .skip(inputs)
                    .zip(entry.inputs.iter().skip(inputs))
                {
                    let range = self.get(*formal);
                    self.limit(*input, range);
                }
                // What a loop hands on is what its next step reads.
                for (formal, result) in inner
                    .inputs
                    .iter()
                    .skip(inputs)
                    .zip(inner.outputs.iter().skip(results))
                {
                    let range = if control.carries {
                        self.get(*formal)
                    } else {
                        None
                    };
                    self.limit(Some(*result), range);
                }
            }
        }
    }

    fn node(&mut self, node: NodeId) {
        let (message, entry) = (self.model.node(node), self.model.index().node(node));
        let input = |at: u32| entry.input(at as usize);
        let known = meaning(message);
        for pick in known.picks {
            let count = pick.count(&view(self.model, self.facts, node, false));
            let range = count.filter(|count| *count > 0).map(|count| (0, count - 1));
            self.limit(input(pick.indices), range);
        }
        let output = entry.output(0);
        let range = output.and_then(|output| self.get(output));
        self.handed_on(known.flow, &entry.inputs, range);
    }

    /// Operators that keep numbers as they are, or change them by a constant.
    fn handed_on(&mut self, flow: Flow, inputs: &[Option<ValueId>], output: Option<IndexRange>) {
        let kept: &[usize] = match flow {
            Flow::Same
            | Flow::Dropped
            | Flow::Converted
            | Flow::Reshaped
            | Flow::Permuted
            | Flow::Moved
            | Flow::Extreme
            | Flow::Picked => &[0],
            Flow::Scattered => &[0, 2],
            Flow::Selected => &[1, 2],
            Flow::Joined | Flow::Largest => {
                return inputs.iter().for_each(|input| self.limit(*input, output));
            }
            Flow::Add | Flow::Sub | Flow::Mul | Flow::Div => {
                return self.arithmetic(flow, inputs, output);
            }
            _ => &[],
        };
        for input in kept {
            self.limit(inputs.get(*input).copied().flatten(), output);
        }
    }

    fn arithmetic(&mut self, flow: Flow, inputs: &[Option<ValueId>], output: Option<IndexRange>) {
        let ([Some(a), Some(b)], Some((low, high))) = (inputs, output) else {
            return;
        };
        match (self.extremes(*a), self.extremes(*b)) {
            (None, Some((least, most))) => {
                let range = match flow {
                    Flow::Add => (low - least, high - most),
                    Flow::Sub => (low + most, high + least),
                    Flow::Mul if least > 0 => (
                        (low.div_euclid(least)).min(low.div_euclid(most)),
                        (high / least).min(high / most),
                    ),
                    Flow::Div if least > 0 => (
                        low.saturating_mul(most),
                        high.saturating_mul(least).saturating_add(least - 1),
                    ),
                    _ => return,
                };
                self.limit(Some(*a), Some(range));
            }
            (Some((least, most)), None) => {
                let range = match flow {
                    Flow::Add => (low - least, high - most),
                    Flow::Sub => (most - high, least - low),
                    Flow::Mul if least > 0 => (
                        (low.div_euclid(least)).min(low.div_euclid(most)),
                        (high / least).min(high / most),
                    ),
                    _ => return,
                };
                self.limit(Some(*b), Some(range));
            }
            // Two that are not known share what there is.
            (None, None) if flow == Flow::Add && low <= 0 && high >= 0 => {
                self.limit(Some(*a), Some((low / 2, high / 2)));
                self.limit(Some(*b), Some((low / 2, high / 2)));
            }
            _ => {}
        }
    }

    fn numbers(&self, value: Option<ValueId>) -> Option<Vec<i64>> {
        let contents = self.facts.of(value?).contents.as_ref()?;
        let whole = |element: &Element| {
            element
                .dim()
                .and_then(|dim| dim.num())
                .or_else(|| element.real().map(|real| real as i64))
        };
        contents.0.iter().map(whole).collect()
    }

    /// The least and the most of a value that is known.
    fn extremes(&self, value: ValueId) -> Option<IndexRange> {
        let numbers = self.numbers(Some(value))?;
        let range = (*numbers.iter().min()?, *numbers.iter().max()?);
        (range.0 > -FAR && range.1 < FAR).then_some(range)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::text;

    fn found(text: &str, pins: &[(&str, &[i64])]) -> BTreeMap<String, IndexRange> {
        let pins = pins
            .iter()
            .map(|(name, dims)| ((*name).to_owned(), dims.to_vec()))
            .collect();
        bounds(&text::model(text).unwrap(), &pins)
    }

    fn range(text: &str) -> Option<IndexRange> {
        found(text, &[]).get("i").copied()
    }

    #[test]
    fn what_picks_stays_within_the_axis() {
        let gather = |axis: i64| {
            format!("input x f32[5,7]\ninput i i64[3]\ny = Gather(x, i) {{axis={axis}}}\noutput y")
        };
        assert_eq!(
            (range(&gather(0)), range(&gather(-1))),
            (Some((0, 4)), Some((0, 6)))
        );
        let elements =
            "input x f32[5,7]\ninput i i64[5,2]\ny = GatherElements(x, i) {axis=1}\noutput y";
        assert_eq!(range(elements), Some((0, 6)));
        let written = "const x f32[5,7,2]\ninput i i64[4,2]\ninput u f32[4,2]\ny = ScatterND(x, i, u)\noutput y";
        assert_eq!(range(written), Some((0, 4)));
        let batched =
            "input x f32[9,3,8]\ninput i i64[9,4,1]\ny = GatherND(x, i) {batch_dims=1}\noutput y";
        assert_eq!(range(batched), Some((0, 2)));
        let code = "input i i64[4]\nconst d i64[] = 6\nconst v f32[2] = 0, 1\ny = OneHot(i, d, v)\noutput y";
        assert_eq!(range(code), Some((0, 5)));
        assert_eq!(range("input i i64[4]\ny = Cast(i) {to=1}\noutput y"), None);
    }

    #[test]
    fn bounds_go_back_through_what_hands_numbers_on() {
        // The second row of edges, as graph networks read them; the smaller of two tables counts.
        let edges = "input x f32[n,4]\nconst t f32[3,4]\ninput i i64[2,e]\nconst one i64[] = 1\nconst zero i64[] = 0\nconst ax i64[1] = 1\n\
            a = Gather(i, one) {axis=0}\nb = Unsqueeze(a, ax)\np = GatherND(x, b)\nc = Gather(i, zero) {axis=0}\nd = Cast(c) {to=6}\n\
            q = Gather(t, d)\noutput p\noutput q";
        assert_eq!(found(edges, &[("x", &[7, 4]), ("i", &[2, 9])])["i"], (0, 2));
        let shifted = "const t f32[10,4]\ninput i i64[3]\nconst two i64[] = 2\np = Add(i, two)\ny = Gather(t, p)\noutput y";
        assert_eq!(range(shifted), Some((0, 7)));
        let scaled = "const t f32[10,4]\ninput i i64[3]\nconst c i64[] = 3\np = Mul(c, i)\ny = Gather(t, p)\noutput y";
        assert_eq!(range(scaled), Some((0, 3)));
        let turned = "const t f32[10,4]\ninput i i64[3]\nconst c i64[] = 12\np = Sub(c, i)\ny = Gather(t, p)\noutput y";
        assert_eq!(range(turned), Some((3, 12)));
        let two = "const t f32[10,4]\ninput i i64[3]\ninput j i64[3]\np = Add(i, j)\ny = Gather(t, p)\noutput y";
        assert_eq!(range(two), Some((0, 4)));
    }

    #[test]
    fn bounds_cross_subgraphs() {
        let branch = "const t f32[6,2]\ninput c bool[]\ninput i i64[3]\ny = If(c) {then_branch=@a, else_branch=@b}\noutput y\n\
            graph a\nr = Gather(t, i)\noutput r\nend\ngraph b\ns = Gather(t, i)\nr = Neg(s)\noutput r\nend";
        assert_eq!(range(branch), Some((0, 5)));
        let looped = "const t f32[6,2]\nconst n i64[] = 2\ninput i i64[3]\nconst on bool[] = 1\nl, y = Loop(n, on, i) {body=@body}\noutput y\n\
            graph body\ninput k i64[]\ninput go bool[]\ninput j i64[3]\nmore = Identity(go)\nnext = Identity(j)\nr = Gather(t, j)\n\
            output more\noutput next\noutput r\nend";
        assert_eq!(range(looped), Some((0, 5)));
    }
}
