//! Which whole numbers a model takes at its inputs: those that pick entries must stay within the axis that they pick from.
//!
//! Bounds go backwards from the operators that pick, through those that hand numbers on or change them by constants.

use std::collections::BTreeMap;

use super::infer::{Facts, Pins, infer};
use crate::facts::Element;
use crate::model::edit::NodeExt;
use crate::model::{GraphId, Index, Model, NodeId, ValueId, functions, normal_domain};

/// The smallest and the largest number allowed, both included.
type Range = (i64, i64);

/// Numbers beyond these are not told from none at all.
const FAR: i64 = 1 << 40;

/// Operators that pick entries by number.
const PICKING: &[&str] = &[
    "EmbedLayerNormalization",
    "Gather",
    "GatherBlockQuantized",
    "GatherElements",
    "GatherND",
    "OneHot",
    "RotaryEmbedding",
    "Scatter",
    "ScatterElements",
    "ScatterND",
];

/// For every input of the main graph that picks entries: the numbers that it may hold, by name, where all extents are those
/// of the given shapes of the inputs. Negative numbers, which count from the end, are allowed only where nothing else is.
pub fn bounds(model: &Model, pins: &Pins) -> BTreeMap<String, Range> {
    let inlined = functions::inlined(model).ok().flatten();
    let model = inlined.as_ref().map_or(model, |(inlined, _)| inlined);
    if !model
        .index()
        .nodes()
        .any(|(node, _)| PICKING.contains(&model.node(node).op_type()))
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
    of: Vec<Option<Range>>,
    changed: bool,
}

impl Bounds<'_> {
    fn get(&self, value: ValueId) -> Option<Range> {
        self.of.get(value.index()).copied().flatten()
    }

    fn limit(&mut self, value: Option<ValueId>, range: Option<Range>) {
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
        let op = self.model.node(node).op_type();
        // How many results and formal inputs stand before those that have a counterpart.
        let (results, inputs, formals) = match op {
            "Loop" => (1, 2, 2),
            _ => (0, 0, 0),
        };
        for subgraph in &entry.subgraphs {
            let inner = self.model.index().graph(*subgraph);
            for (result, output) in inner.outputs.iter().skip(results).zip(&entry.outputs) {
                let range = output.and_then(|output| self.get(output));
                self.limit(Some(*result), range);
            }
            self.graph(*subgraph);
            if matches!(op, "Loop" | "Scan") {
                for (formal, input) in inner
                    .inputs
                    .iter()
                    .skip(formals)
                    .zip(entry.inputs.iter().skip(inputs))
                {
                    let range = self.get(*formal);
                    self.limit(*input, range);
                }
                // What a loop hands on is what its next step reads.
                for (formal, result) in inner
                    .inputs
                    .iter()
                    .skip(formals)
                    .zip(inner.outputs.iter().skip(results))
                {
                    let range = if op == "Loop" {
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
        let input = |at: usize| entry.inputs.get(at).copied().flatten();
        let output = entry
            .outputs
            .first()
            .copied()
            .flatten()
            .and_then(|output| self.get(output));
        let int = |name: &str| message.int(name);
        let (first, second) = (input(0), input(1));
        match (normal_domain(message.domain()), message.op_type()) {
            ("", "Gather" | "GatherElements") => {
                self.limit(second, self.along(first, int("axis").unwrap_or(0)));
                self.limit(first, output);
            }
            ("", "ScatterElements" | "Scatter") => {
                self.limit(second, self.along(first, int("axis").unwrap_or(0)));
                [first, input(2)]
                    .into_iter()
                    .for_each(|value| self.limit(value, output));
            }
            ("", op @ ("GatherND" | "ScatterND")) => {
                let skipped = if op == "GatherND" {
                    int("batch_dims").unwrap_or(0)
                } else {
                    0
                };
                self.limit(second, self.positions(first, second, skipped));
                let updates = if op == "ScatterND" { input(2) } else { None };
                [first, updates]
                    .into_iter()
                    .for_each(|value| self.limit(value, output));
            }
            ("", "OneHot") => {
                let depth = self
                    .numbers(second)
                    .and_then(|depth| depth.first().copied());
                self.limit(first, depth.map(|depth| (0, depth - 1)));
            }
            ("", "RotaryEmbedding") if self.rank(second) == Some(2) => {
                self.limit(input(3), self.along(second, 0))
            }
            ("com.microsoft", "RotaryEmbedding") => self.limit(second, self.along(input(2), 0)),
            ("com.microsoft", "GatherBlockQuantized") => {
                self.limit(second, self.along(first, int("gather_axis").unwrap_or(0)));
            }
            ("com.microsoft", "EmbedLayerNormalization") => {
                for (at, table) in [(0, 2), (1, 4), (8, 3)] {
                    self.limit(input(at), self.along(input(table), 0));
                }
            }
            ("", op) => self.handed_on(op, &entry.inputs, output),
            _ => {}
        }
    }

    /// Operators that keep numbers as they are, or change them by a constant.
    fn handed_on(&mut self, op: &str, inputs: &[Option<ValueId>], output: Option<Range>) {
        let first = inputs.first().copied().flatten();
        match op {
            "Identity" | "Cast" | "Reshape" | "Squeeze" | "Unsqueeze" | "Flatten" | "Transpose"
            | "Slice" | "Expand" | "Tile" | "Pad" | "Split" | "Compress" | "DepthToSpace"
            | "SpaceToDepth" | "ReduceMax" | "ReduceMin" | "Dropout" | "Trilu"
            | "ReverseSequence" => self.limit(first, output),
            "Concat" | "Max" => inputs.iter().for_each(|input| self.limit(*input, output)),
            "Where" => inputs
                .iter()
                .skip(1)
                .for_each(|input| self.limit(*input, output)),
            "Add" | "Sub" | "Mul" | "Div" => self.arithmetic(op, inputs, output),
            _ => {}
        }
    }

    fn arithmetic(&mut self, op: &str, inputs: &[Option<ValueId>], output: Option<Range>) {
        let ([Some(a), Some(b)], Some((low, high))) = (inputs, output) else {
            return;
        };
        match (self.extremes(*a), self.extremes(*b)) {
            (None, Some((least, most))) => {
                let range = match op {
                    "Add" => (low - least, high - most),
                    "Sub" => (low + most, high + least),
                    "Mul" if least > 0 => (
                        (low.div_euclid(least)).min(low.div_euclid(most)),
                        (high / least).min(high / most),
                    ),
                    "Div" if least > 0 => (
                        low.saturating_mul(most),
                        high.saturating_mul(least).saturating_add(least - 1),
                    ),
                    _ => return,
                };
                self.limit(Some(*a), Some(range));
            }
            (Some((least, most)), None) => {
                let range = match op {
                    "Add" => (low - least, high - most),
                    "Sub" => (most - high, least - low),
                    "Mul" if least > 0 => (
                        (low.div_euclid(least)).min(low.div_euclid(most)),
                        (high / least).min(high / most),
                    ),
                    _ => return,
                };
                self.limit(Some(*b), Some(range));
            }
            // Two that are not known share what there is.
            (None, None) if op == "Add" && low <= 0 && high >= 0 => {
                self.limit(Some(*a), Some((low / 2, high / 2)));
                self.limit(Some(*b), Some((low / 2, high / 2)));
            }
            _ => {}
        }
    }

    /// The numbers that pick from an axis.
    fn along(&self, table: Option<ValueId>, axis: i64) -> Option<Range> {
        let shape = self.facts.of(table?).shape.as_ref()?;
        let axis = if axis < 0 {
            axis + shape.len() as i64
        } else {
            axis
        };
        let extent = shape.get(usize::try_from(axis).ok()?)?.num()?;
        (extent > 0).then_some((0, extent - 1))
    }

    /// The numbers that pick from each of so many axes as positions have, after some that are skipped.
    fn positions(
        &self,
        table: Option<ValueId>,
        positions: Option<ValueId>,
        skipped: i64,
    ) -> Option<Range> {
        let count = self.facts.of(positions?).shape.as_ref()?.last()?.num()?;
        (0..count.min(16))
            .map(|axis| self.along(table, skipped + axis))
            .try_fold((0, FAR), |(_, high), range| Some((0, range?.1.min(high))))
    }

    fn rank(&self, value: Option<ValueId>) -> Option<usize> {
        self.facts.of(value?).shape.as_ref().map(Vec::len)
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
    fn extremes(&self, value: ValueId) -> Option<Range> {
        let numbers = self.numbers(Some(value))?;
        let range = (*numbers.iter().min()?, *numbers.iter().max()?);
        (range.0 > -FAR && range.1 < FAR).then_some(range)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::text;

    fn found(text: &str, pins: &[(&str, &[i64])]) -> BTreeMap<String, Range> {
        let pins = pins
            .iter()
            .map(|(name, dims)| ((*name).to_owned(), dims.to_vec()))
            .collect();
        bounds(&text::model(text).unwrap(), &pins)
    }

    fn range(text: &str) -> Option<Range> {
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
