//! The cells of LSTM and RNN layers: what a step takes from the data and from the step before.
//!
//! The gates' sums are linear in both, so that one least squares gives `W`, `R` and the bias together. The states are the
//! original's, of the units that stay; the aims are the original's sums. (GRU multiplies the state by a gate in between.)

use super::aim::Clamp;
use super::mend::{GramProduct, MendShape};
use super::request::Teacher;
use super::rows::{LEAST, Rows, Taps};
use crate::calibrate::{Counting, picks};
use crate::linear::Operand;
use crate::model::edit::NodeExt;
use crate::model::{Index, Model, NodeId, Origin, ValueId};
use crate::ops::meaning;
use crate::run::Tensors;

/// The constants of one layer's cells.
#[derive(Clone, Debug)]
struct CellConstants {
    node: NodeId,
    data: ValueId,
    weight: Operand,
    recurrence: Operand,
    bias: Option<Operand>,
}

/// One layer in both models.
#[derive(Clone, Debug)]
pub(super) struct Cell {
    original: CellConstants,
    pruned: CellConstants,
    /// All states of the original, and of the pruned model.
    states: (ValueId, ValueId),
    /// Initial states of the original, if any are given.
    initial: Option<ValueId>,
    /// `W` (directions × gates·units × inputs), `R` and bias of the original.
    theirs: (Vec<f32>, Vec<f32>, Vec<f32>),
    directions: usize,
    /// The first direction runs from the last step to the first.
    reversed: bool,
    gates: usize,
    /// Units of the original that stay.
    kept: Vec<usize>,
    /// Units of the original; inputs of the original and the pruned model.
    units: usize,
    inputs: (usize, usize),
    scale: Vec<f64>,
    offset: Vec<f64>,
}

/// The recurrent layers that lost units or whose data changed.
pub(super) fn cells(teacher: Teacher, pruned: &Model) -> Vec<Cell> {
    let nodes = teacher
        .model
        .index()
        .nodes()
        .filter(|(_, entry)| entry.graph == Index::MAIN);
    nodes
        .filter_map(|(node, _)| Cell::find(teacher, pruned, node))
        .collect()
}

impl CellConstants {
    fn of(model: &Model, node: NodeId) -> Option<Self> {
        let input = |at: usize| model.index().node(node).inputs.get(at).copied().flatten();
        let operand = |value| Operand::trace(model, value);
        let bias = match input(3) {
            Some(bias) => Some(operand(bias)?),
            None => None,
        };
        Some(CellConstants {
            node,
            data: input(0)?,
            weight: operand(input(1)?)?,
            recurrence: operand(input(2)?)?,
            bias,
        })
    }
}

/// Whether steps come first and all sequences are of one length; others would need other rows.
fn has_plain_rows(model: &Model, node: NodeId) -> bool {
    let layout = model.node(node).attribute("layout");
    let lengths = model.index().node(node).inputs.get(4).copied().flatten();
    layout.is_none_or(|layout| layout.i() == 0) && lengths.is_none()
}

/// All states of a run: steps × directions × batch × units, and those before the first step, if any are given.
struct CellStates {
    states: Vec<f32>,
    initial: Option<Vec<f32>>,
    dims: [usize; 4],
}

impl CellStates {
    /// The state that a step starts from.
    fn before(
        &self,
        direction: usize,
        backwards: bool,
        (step, sample): (usize, usize),
    ) -> Option<Vec<f32>> {
        let [steps, directions, batch, units] = self.dims;
        let before = if backwards {
            Some(step + 1).filter(|before| *before < steps)
        } else {
            step.checked_sub(1)
        };
        let row = direction * batch + sample;
        Some(match (before, &self.initial) {
            (Some(before), _) => {
                self.states[(before * directions * batch + row) * units..][..units].to_vec()
            }
            (None, Some(initial)) => initial.get(row * units..)?.get(..units)?.to_vec(),
            (None, None) => vec![0.0; units],
        })
    }
}

impl Cell {
    fn find(teacher: Teacher, pruned: &Model, node: NodeId) -> Option<Self> {
        let Teacher {
            model,
            analysis,
            selection,
        } = teacher;
        let message = model.node(node);
        let recurrence = meaning(message).recurrence;
        let gates = recurrence.filter(|cell| cell.is_linear)?.gates;
        let entry = model.index().node(node);
        if !has_plain_rows(model, node) {
            return None;
        }
        let states = entry.outputs.first().copied().flatten()?;
        let own_states = pruned
            .index()
            .main_value(&model.index().value(states).name)?;
        let Origin::Output(own, 0) = pruned.index().value(own_states).origin else {
            return None;
        };
        let (original, own) = (
            CellConstants::of(model, node)?,
            CellConstants::of(pruned, own)?,
        );
        let (dims, weight) = original.weight.read(model)?;
        let (recurrent, recurrence) = original.recurrence.read(model)?;
        let own_dims = own.weight.read(pruned)?.0;
        let ([directions, _, inputs], [_, _, units], [_, _, own_inputs]) =
            (&dims[..], &recurrent[..], &own_dims[..])
        else {
            return None;
        };
        let bias = match &original.bias {
            Some(bias) => bias.read(model)?.1,
            None => vec![0.0; directions * 2 * gates * units],
        };
        let kept = match analysis.kept_axis(states, 3, selection) {
            Some(kept) => kept.into_iter().map(|unit| unit as usize).collect(),
            None => (0..*units).collect::<Vec<_>>(),
        };
        let channels = directions * gates * kept.len();
        Some(Cell {
            states: (states, own_states),
            initial: entry.inputs.get(5).copied().flatten(),
            theirs: (weight, recurrence, bias),
            directions: *directions,
            reversed: message
                .attribute("direction")
                .is_some_and(|direction| direction.s() == b"reverse"),
            gates,
            kept,
            units: *units,
            inputs: (*inputs, *own_inputs),
            scale: vec![1.0; channels],
            offset: vec![0.0; channels],
            original,
            pruned: own,
        })
    }

    pub fn nodes(&self) -> (NodeId, NodeId) {
        (self.original.node, self.pruned.node)
    }

    pub fn output(&self) -> ValueId {
        self.states.1
    }

    /// What it reads in the pruned model: steps × batch × inputs.
    pub fn data(&self) -> ValueId {
        self.pruned.data
    }

    /// The original's data, states and initial states; the pruned model's data.
    pub fn taps(&self, model: &Model, pruned: &Model) -> Taps {
        let name = |value: ValueId| model.index().value(value).name.clone();
        Taps {
            output: name(self.states.0),
            original_added: self
                .initial
                .filter(|value| model.constant(*value).is_none())
                .map(name),
            original_data: Some(name(self.original.data)),
            data: pruned.index().value(self.pruned.data).name.clone(),
            added: None,
        }
    }

    /// Steps of a run: what the cell reads, and the original's sums. `None`: tensors do not fit.
    pub fn rows(
        &self,
        taps: &Taps,
        (number, counting): (usize, Counting),
        original: &Tensors,
        pruned: &Tensors,
        runs: usize,
    ) -> Option<Rows> {
        let (states, data) = (
            original.get(&taps.output)?,
            original.get(taps.original_data.as_ref()?)?,
        );
        let own_data = pruned.get(&taps.data)?;
        let ([steps, directions, batch, units], [_, _, inputs], [_, _, own_inputs]) =
            (&states.dims[..], &data.dims[..], &own_data.dims[..])
        else {
            return None;
        };
        let fits = (*directions, *units, (*inputs, *own_inputs))
            == (self.directions, self.units, self.inputs);
        if !fits || data.dims[..2] != own_data.dims[..2] {
            return None;
        }
        let initial = match &taps.original_added {
            Some(name) => Some(original.get(name)?.to_f32()?),
            None => None,
        };
        let (data, own_data) = (data.to_f32()?, own_data.to_f32()?);
        let states = CellStates {
            states: states.to_f32()?,
            initial,
            dims: [*steps, *directions, *batch, *units],
        };
        let limit = (LEAST / runs.max(1)).max(1);
        let counted = counting.of_first_axis(*steps) * batch;
        let picks = picks(&taps.output, number, counted, limit);
        let mut rows = Rows::default();
        for direction in 0..self.directions {
            let backwards = self.reversed || direction == 1;
            for pick in &picks {
                let at = (pick / batch, pick % batch);
                let state = states.before(direction, backwards, at)?;
                let x = &data[pick * inputs..][..*inputs];
                rows.inputs
                    .extend_from_slice(&own_data[pick * own_inputs..][..*own_inputs]);
                rows.inputs
                    .extend(self.kept.iter().map(|unit| state[*unit]));
                for gate in 0..self.gates {
                    rows.aims.extend(
                        self.kept
                            .iter()
                            .map(|unit| self.sum(direction, gate * units + unit, x, &state)),
                    );
                }
            }
        }
        rows.added = vec![0.0; rows.aims.len()];
        Some(rows)
    }

    /// What a gate of the original sums up.
    fn sum(&self, direction: usize, row: usize, x: &[f32], state: &[f32]) -> f32 {
        let (weight, recurrence, bias) = &self.theirs;
        let all = self.gates * self.units;
        let product = |matrix: &[f32], with: &[f32]| -> f32 {
            matrix[(direction * all + row) * with.len()..]
                .iter()
                .zip(with)
                .map(|(weight, number)| weight * number)
                .sum()
        };
        let bias = &bias[direction * 2 * all..];
        product(weight, x) + product(recurrence, state) + bias[row] + bias[all + row]
    }
}

impl GramProduct for Cell {
    fn shape(&self) -> MendShape {
        MendShape {
            groups: self.directions,
            rows: self.gates * self.kept.len(),
            columns: self.inputs.1 + self.kept.len(),
        }
    }

    fn read(&self, model: &Model) -> Option<(Vec<f64>, Option<Vec<f64>>)> {
        let MendShape {
            groups,
            rows,
            columns,
        } = self.shape();
        let (weight, recurrence) = (
            self.pruned.weight.read(model)?.1,
            self.pruned.recurrence.read(model)?.1,
        );
        let (inputs, units) = (self.inputs.1, self.kept.len());
        if weight.len() != groups * rows * inputs || recurrence.len() != groups * rows * units {
            return None;
        }
        let mut matrix = Vec::with_capacity(groups * rows * columns);
        for (weights, states) in weight
            .chunks_exact(inputs)
            .zip(recurrence.chunks_exact(units))
        {
            matrix.extend(
                weights
                    .iter()
                    .chain(states)
                    .map(|number| f64::from(*number)),
            );
        }
        let bias = match &self.pruned.bias {
            Some(bias) => {
                let numbers = bias.read(model)?.1;
                let sums = numbers.chunks_exact(2 * rows).flat_map(|both| {
                    (0..rows).map(|row| f64::from(both[row]) + f64::from(both[rows + row]))
                });
                Some(sums.collect())
            }
            None => None,
        };
        Some((matrix, bias))
    }

    fn write(&self, model: &mut Model, matrix: &[f64], bias: &[f64]) -> Option<()> {
        let MendShape { rows, columns, .. } = self.shape();
        let (mut weight, mut recurrence) = (Vec::new(), Vec::new());
        for row in matrix.chunks_exact(columns) {
            let (weights, states) = row.split_at(self.inputs.1);
            weight.extend(weights.iter().map(|number| *number as f32));
            recurrence.extend(states.iter().map(|number| *number as f32));
        }
        self.pruned.weight.write(model, &weight)?;
        self.pruned.recurrence.write(model, &recurrence)?;
        if let Some(place) = &self.pruned.bias {
            // The second half, of the states, stays as it is.
            let mut numbers = place.read(model)?.1;
            for (both, sums) in numbers
                .chunks_exact_mut(2 * rows)
                .zip(bias.chunks_exact(rows))
            {
                let (data, states) = both.split_at_mut(rows);
                data.iter_mut()
                    .zip(states)
                    .zip(sums)
                    .for_each(|((number, state), sum)| *number = (*sum - f64::from(*state)) as f32);
            }
            place.write(model, &numbers)?;
        }
        Some(())
    }

    fn scale(&self) -> &[f64] {
        &self.scale
    }

    fn offset(&self) -> &[f64] {
        &self.offset
    }

    fn function(&self) -> Option<Clamp> {
        None
    }

    fn name(&self, model: &Model) -> String {
        model.index().value(self.states.1).name.clone()
    }
}

#[cfg(test)]
mod tests {
    use crate::analysis::{Options, analyse};
    use crate::calibrate::ChosenRuns;
    use crate::model::{TensorRef, text};
    use crate::progress::Work;
    use crate::recover::{self, Teacher, recover};
    use crate::run::{Runtime, Tensors, TractRuntime};
    use crate::{rng::rng, surgery};
    use rand::Rng;

    fn noise(dims: &[usize], name: &str) -> TensorRef {
        let mut random = rng(3, name);
        let numbers: Vec<f32> = (0..dims.iter().product())
            .map(|_| random.random_range(-1.0..1.0))
            .collect();
        TensorRef::from_f32(dims.to_vec(), &numbers)
    }

    /// How far the states that stay are from the original's once one of the units went, without and with recovery.
    fn errors(operator: &str, gates: usize, direction: &str, directions: usize) -> (f64, f64) {
        let rows = gates * 6;
        let text = format!(
            "opset 14\ninput x f32[7,4,3]\nconst w f32[{directions},{rows},3]\nconst r f32[{directions},{rows},6]\n\
             const b f32[{directions},{}]\nconst v f32[{},2]\nconst flat i64[3] = 7, 4, {}\ns = {operator}(x, w, r, b) {{hidden_size=6,direction=\"{direction}\"}}\n\
             s1 = Transpose(s) {{perm=[0,2,1,3]}}\ns2 = Reshape(s1, flat)\ny = MatMul(s2, v)\noutput y\n",
            2 * rows,
            6 * directions,
            6 * directions
        );
        let model = text::model(&text).unwrap();
        let analysis = analyse(&model, &Options::default());
        let removed: Vec<(usize, &[u32])> = analysis
            .groups
            .iter()
            .enumerate()
            .map(|(at, _)| (at, &[2u32][..]))
            .collect();
        let selection = analysis.select(removed);
        let cut = surgery::apply(&model, &analysis, &selection, &[]).unwrap();
        let batches: Vec<Tensors> = (0..60)
            .map(|run| Tensors::from([("x".to_owned(), noise(&[7, 4, 3], &format!("run {run}")))]))
            .collect();
        let runtime = TractRuntime::new(false);
        let teacher = Teacher {
            model: &model,
            analysis: &analysis,
            selection: &selection,
        };
        let runs: Vec<usize> = (0..48).collect();
        let (mended, repairs) = recover(
            teacher,
            cut.clone(),
            ChosenRuns {
                batches: &batches,
                numbers: &runs,
                runtime: &runtime,
            },
            &recover::RepairOptions::default(),
            &Work::new(&()),
        )
        .unwrap();
        assert!(
            repairs
                .iter()
                .any(|repair| repair.layer == "s" && repair.after < repair.before),
            "{repairs:?}"
        );
        let states = analysis
            .kept_axis(model.index().main_value("s").unwrap(), 3, &selection)
            .unwrap();
        let run = |model, batch: &Tensors| {
            let session = runtime.prepare(model, batch, &["s".to_owned()]).unwrap();
            session.run(batch).unwrap().remove(1)
        };
        let distance = |pruned| -> f64 {
            let one = |batch: &Tensors| {
                let wanted = run(&model, batch)
                    .select(&[None, None, None, Some(states.clone())])
                    .to_f32()
                    .unwrap();
                let found = run(pruned, batch).to_f32().unwrap();
                wanted
                    .iter()
                    .zip(&found)
                    .map(|(a, b)| f64::from(a - b).powi(2))
                    .sum::<f64>()
            };
            batches[48..].iter().map(one).sum::<f64>()
        };
        (distance(&cut), distance(&mended))
    }

    #[test]
    fn states_that_stay_make_up_for_those_that_go() {
        for (operator, gates, direction, directions) in [
            ("LSTM", 4, "forward", 1),
            ("LSTM", 4, "bidirectional", 2),
            ("RNN", 1, "reverse", 1),
            ("RNN", 1, "forward", 1),
        ] {
            let (cut, mended) = errors(operator, gates, direction, directions);
            assert!(
                mended < 0.8 * cut,
                "{operator} {direction}: {cut} to {mended}"
            );
        }
    }
}
