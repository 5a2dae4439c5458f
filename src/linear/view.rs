//! One product, as its relation describes it.

use std::sync::Arc;

use crate::analysis::port_value;
use crate::model::{Index, Model, NodeId, TensorRef, ValueId};
use crate::ops::{WeightRows, meaning};
use crate::relation::{LabelId, PortLayout, Relation, Segment, Term, Window};

use super::operand::Operand;
use super::walk::{Axis, Strides, mixed};

/// One product of an activation with a constant weight. Matrices are stored group by group, row-major.
#[derive(Clone, Debug)]
pub struct Linear {
    /// The node that computes it.
    pub node: NodeId,
    /// Which of its inputs the weight is.
    pub input: usize,
    /// The activation.
    pub data: ValueId,
    /// The weight, and the constant behind it.
    pub weight: Operand,
    /// The value that is the sum plus at most a bias, where the operator gives it.
    pub output: Option<ValueId>,
    /// Number of groups.
    pub groups: usize,
    /// Rows of the weight matrix of each group.
    pub rows: usize,
    /// Columns of it.
    pub columns: usize,
    /// The summed labels that the activation has.
    pub(super) summed: Vec<LabelId>,
    window: Window,
    extents: Vec<Option<usize>>,
    data_axes: Vec<Axis>,
    weight_axes: Vec<Axis>,
    output_axes: Vec<Axis>,
    position: Vec<LabelId>,
    group: Vec<LabelId>,
    row: Vec<LabelId>,
    /// Places in the output and within the window, in the order of the spatial axes.
    slides: Vec<LabelId>,
    taps: Vec<LabelId>,
}

/// All products of the main graph with constant weights.
pub fn views(model: &Model, relations: &[Arc<Relation>]) -> Vec<Linear> {
    let mut views = Vec::new();
    for (node, entry) in model
        .index()
        .nodes()
        .filter(|(_, entry)| entry.graph == Index::MAIN)
    {
        let relation = &relations[node.index()];
        if entry.subgraphs.is_empty() {
            views.extend(
                relation
                    .terms
                    .iter()
                    .filter_map(|term| Linear::read(model, node, relation, term)),
            );
        }
    }
    views
}

/// The labels of a sum of products by the part that they play; the names are those of [`Linear`]'s fields.
struct ViewParts {
    summed: Vec<LabelId>,
    taps: Vec<LabelId>,
    group: Vec<LabelId>,
    row: Vec<LabelId>,
    position: Vec<LabelId>,
    slides: Vec<LabelId>,
}

impl ViewParts {
    fn of(term: &Term, on_data: &[LabelId], on_weight: &[LabelId]) -> Self {
        let of = |labels: &[LabelId], wanted: &dyn Fn(&LabelId) -> bool| -> Vec<LabelId> {
            labels
                .iter()
                .copied()
                .filter(|label| wanted(label))
                .collect()
        };
        let is_summed = |label: &LabelId| term.summed.contains(label);
        let (data, weight) = (
            |label: &LabelId| on_data.contains(label),
            |label: &LabelId| on_weight.contains(label),
        );
        ViewParts {
            summed: of(&term.summed, &data),
            taps: of(&term.summed, &|label| !data(label)),
            group: of(on_weight, &|label| data(label) && !is_summed(label)),
            row: of(on_weight, &|label| !data(label) && !is_summed(label)),
            position: of(&term.labels, &|label| data(label) && !weight(label)),
            slides: of(&term.labels, &|label| !data(label) && !weight(label)),
        }
    }
}

/// The axes of an activation, and how many of them a window slides over: those whose label no multiplication is counted for.
fn sliding_axes(layout: &PortLayout, term: &Term) -> Option<(Vec<Axis>, usize)> {
    let mut sliding = 0;
    let mut found = axes(layout)?;
    for axis in &mut found {
        if axis.labels.iter().any(|label| !term.labels.contains(label)) {
            if axis.labels.len() != 1 {
                return None;
            }
            axis.slide = Some(sliding);
            sliding += 1;
        }
    }
    Some((found, sliding))
}

impl Linear {
    fn read(model: &Model, node: NodeId, relation: &Relation, term: &Term) -> Option<Self> {
        let weight_port = term.weight?;
        let operand = |port| Operand::trace(model, port_value(model, node, port)?);
        // Either factor may be the constant one.
        let (data_port, weight_port, weight) = match (operand(weight_port), operand(term.data)) {
            (Some(weight), None) => (term.data, weight_port, weight),
            (None, Some(weight)) if term.window.is_none() => (weight_port, term.data, weight),
            _ => return None,
        };
        let crate::relation::Port::In(input) = weight_port else {
            return None;
        };
        let data = port_value(model, node, data_port)?;
        let layout = |port| relation.ports.get(&port);
        let (data_layout, weight_layout) = (layout(data_port)?, layout(weight_port)?);
        let weight_axes = axes(weight_layout)?;
        let on_data: Vec<LabelId> = labels(data_layout);
        let on_weight: Vec<LabelId> = labels(weight_layout);
        let window = term.window.clone().unwrap_or_default();
        let parts = ViewParts::of(term, &on_data, &on_weight);
        let spatial = parts.taps.len();
        if parts.slides.len() != spatial
            || (spatial > 0 && (window.kernel.len() != spatial || window.pads.len() != 2 * spatial))
        {
            return None;
        }
        let (data_axes, sliding) = sliding_axes(data_layout, term)?;
        let unique = |labels: &[LabelId]| {
            labels
                .iter()
                .enumerate()
                .all(|(at, label)| !labels[..at].contains(label))
        };
        if sliding != spatial || !unique(&on_weight) || !unique(&on_data) || !unique(&term.summed) {
            return None;
        }
        let extents: Vec<Option<usize>> = relation
            .labels
            .iter()
            .map(|label| label.extent.num().and_then(|n| usize::try_from(n).ok()))
            .collect();
        let number = |labels: &[LabelId]| {
            labels
                .iter()
                .map(|label| extents[label.index()])
                .product::<Option<usize>>()
        };
        let (groups, rows, columns) = (
            number(&parts.group)?,
            number(&parts.row)?,
            number(&parts.summed)?.checked_mul(number(&parts.taps)?)?,
        );
        let mut view = Linear {
            node,
            input: input as usize,
            data,
            weight,
            output: None,
            groups,
            rows,
            columns,
            summed: parts.summed,
            window,
            extents,
            data_axes,
            weight_axes,
            output_axes: Vec::new(),
            position: parts.position,
            group: parts.group,
            row: parts.row,
            slides: parts.slides,
            taps: parts.taps,
        };
        view.output = view.find_output(model, relation);
        Some(view)
    }

    /// The output, if its axes are the positions, groups and rows, and nothing else is done to the sum.
    fn find_output(&mut self, model: &Model, relation: &Relation) -> Option<ValueId> {
        let message = model.node(self.node);
        // Weights whose channels stand group by group along their second axis are not laid out in rows here.
        if meaning(message).product?.rows == WeightRows::Grouped {
            return None;
        }
        if message
            .attribute
            .iter()
            .any(|attribute| matches!(attribute.name(), "alpha" | "beta") && attribute.f() != 1.0)
        {
            return None;
        }
        let port = crate::relation::Port::Out(0);
        let layout = relation.ports.get(&port)?;
        let mut found = labels(layout);
        let mut wanted: Vec<LabelId> = [&self.position, &self.slides, &self.group, &self.row]
            .into_iter()
            .flatten()
            .copied()
            .collect();
        found.sort();
        wanted.sort();
        if found != wanted {
            return None;
        }
        self.output_axes = axes(layout)?;
        port_value(model, self.node, port)
    }

    /// What tells views with the same activation matrix: the activation, and how windows and groups read it.
    pub fn key(&self, model: &Model) -> String {
        let labels = |labels: &[LabelId]| {
            labels
                .iter()
                .map(|label| label.0.to_string())
                .collect::<Vec<_>>()
                .join(",")
        };
        let axes: Vec<String> = self
            .data_axes
            .iter()
            .map(|axis| {
                axis.slide
                    .map_or_else(|| labels(&axis.labels), |at| format!("w{at}"))
            })
            .collect();
        let Window {
            kernel,
            strides,
            dilations,
            pads,
        } = &self.window;
        let window = if self.taps.is_empty() {
            String::new()
        } else {
            format!(" {kernel:?}{strides:?}{dilations:?}{pads:?}")
        };
        let read = format!(
            "[{}] Σ{} g{}{window}",
            axes.join(" "),
            labels(&self.summed),
            labels(&self.group)
        );
        format!(
            "{} {}",
            model.index().value(self.data).name,
            read.replace(", ", ",")
        )
    }

    /// How many positions an activation of these dims has, window by window. `None`: the dims do not fit.
    pub fn positions(&self, dims: &[usize]) -> Option<usize> {
        let strides = self.data_strides(dims)?;
        Some(
            self.position
                .iter()
                .chain(&self.slides)
                .map(|label| strides.extents[label.index()])
                .product(),
        )
    }

    fn data_strides(&self, dims: &[usize]) -> Option<Strides> {
        let mut strides = Strides::new(&self.data_axes, dims, &self.extents)?;
        for (at, slide) in self.slides.iter().enumerate() {
            let axis = self
                .data_axes
                .iter()
                .position(|axis| axis.slide == Some(at))?;
            let (kernel, stride, dilation) = (
                *self.window.kernel.get(at)?,
                *self.window.strides.get(at)?,
                *self.window.dilations.get(at)?,
            );
            let (before, after) = (
                *self.window.pads.get(at)?,
                *self.window.pads.get(at + self.slides.len())?,
            );
            let room = dims[axis] as i64 + before + after - (dilation * (kernel - 1) + 1);
            strides.extents[slide.index()] = if room < 0 {
                0
            } else {
                usize::try_from(room / stride).ok()? + 1
            };
        }
        Some(strides)
    }

    /// The activation matrices at some positions (numbers below [`Linear::positions`]): groups × picks × columns.
    /// Columns go by the summed labels, then by the places within the window. `None`: the tensor does not fit.
    pub fn activations(&self, data: &TensorRef, picks: &[usize]) -> Option<Vec<f32>> {
        let strides = self.data_strides(&data.dims)?;
        let numbers = data.to_f32()?;
        let groups = strides.offsets(&self.group);
        let inner = strides.offsets(&self.summed);
        let taps = mixed(
            &self
                .taps
                .iter()
                .map(|label| self.extents[label.index()])
                .collect::<Option<Vec<_>>>()?,
        );
        let extents: Vec<usize> = self
            .position
            .iter()
            .chain(&self.slides)
            .map(|label| strides.extents[label.index()])
            .collect();
        let spatial: Vec<(usize, usize)> = (0..self.slides.len())
            .map(|at| {
                let axis = self
                    .data_axes
                    .iter()
                    .position(|axis| axis.slide == Some(at))?;
                Some((data.dims[axis], data.dims[axis + 1..].iter().product()))
            })
            .collect::<Option<_>>()?;
        let mut matrix = vec![0.0f32; groups.len() * picks.len() * self.columns];
        let mut places: Vec<Option<usize>> = vec![None; taps.len()];
        let mut index = vec![0usize; extents.len()];
        for (at, pick) in picks.iter().enumerate() {
            let mut rest = *pick;
            for (digit, extent) in index.iter_mut().zip(&extents).rev() {
                *digit = rest % extent.max(&1);
                rest /= extent.max(&1);
            }
            let (fixed, slid) = index.split_at(self.position.len());
            let base: usize = self
                .position
                .iter()
                .zip(fixed)
                .map(|(label, digit)| strides.of(*label) * digit)
                .sum();
            for (place, tap) in places.iter_mut().zip(&taps) {
                *place = Some(base);
                for (axis, ((digit, tap), (length, stride))) in
                    slid.iter().zip(tap).zip(&spatial).enumerate()
                {
                    let window = &self.window;
                    let offset = *digit as i64 * window.strides[axis]
                        + *tap as i64 * window.dilations[axis]
                        - window.pads[axis];
                    *place = (*place)
                        .filter(|_| offset >= 0 && offset < *length as i64)
                        .map(|place| place + offset as usize * stride);
                }
            }
            for (group, offset) in groups.iter().enumerate() {
                let row = &mut matrix[(group * picks.len() + at) * self.columns..][..self.columns];
                for (tap, place) in places.iter().enumerate() {
                    let Some(place) = place else { continue };
                    for (channel, inner) in inner.iter().enumerate() {
                        row[channel * places.len() + tap] = *numbers.get(offset + place + inner)?;
                    }
                }
            }
        }
        Some(matrix)
    }

    /// The output's numbers at some positions: groups × picks × rows. `None`: no plain output, or the tensor does not fit.
    pub fn outputs(&self, output: &TensorRef, picks: &[usize]) -> Option<Vec<f32>> {
        self.output?;
        let strides = Strides::new(&self.output_axes, &output.dims, &self.extents)?;
        let numbers = output.to_f32()?;
        let (groups, rows) = (strides.offsets(&self.group), strides.offsets(&self.row));
        let labels: Vec<LabelId> = self.position.iter().chain(&self.slides).copied().collect();
        let places = strides.offsets(&labels);
        let mut matrix = Vec::with_capacity(groups.len() * picks.len() * rows.len());
        for group in &groups {
            for pick in picks {
                let base = group + places.get(*pick)?;
                for row in &rows {
                    matrix.push(*numbers.get(base + row)?);
                }
            }
        }
        Some(matrix)
    }

    /// The weight matrices: groups × rows × columns. `None`: the constant can not be read as numbers.
    pub fn matrix(&self, model: &Model) -> Option<Vec<f64>> {
        let (dims, numbers) = self.weight.read(model)?;
        Some(
            self.places(&dims)?
                .into_iter()
                .map(|place| numbers.get(place).copied())
                .collect::<Option<Vec<f32>>>()?
                .into_iter()
                .map(f64::from)
                .collect(),
        )
    }

    /// Puts weight matrices back. `None`: the constant can not be written, for it is shared or of a type that holds no real numbers.
    pub fn set_matrix(&self, model: &mut Model, matrix: &[f64]) -> Option<()> {
        let (dims, mut numbers) = self.weight.read(model)?;
        for (place, number) in self.places(&dims)?.into_iter().zip(matrix) {
            *numbers.get_mut(place)? = *number as f32;
        }
        self.weight.write(model, &numbers)
    }

    /// Where each element of the matrices stands in the weight.
    fn places(&self, dims: &[usize]) -> Option<Vec<usize>> {
        let strides = Strides::new(&self.weight_axes, dims, &self.extents)?;
        let columns: Vec<LabelId> = self.summed.iter().chain(&self.taps).copied().collect();
        let (groups, rows, columns) = (
            strides.offsets(&self.group),
            strides.offsets(&self.row),
            strides.offsets(&columns),
        );
        let mut places = Vec::with_capacity(groups.len() * rows.len() * columns.len());
        for group in &groups {
            for row in &rows {
                places.extend(columns.iter().map(|column| group + row + column));
            }
        }
        Some(places)
    }

    /// The same product read one place of the window at a time: positions of the activation, columns without the places
    /// within the window, which become rows. What is left when a window makes too many columns.
    pub fn by_channel(&self) -> Linear {
        let mut view = self.clone();
        for axis in &mut view.data_axes {
            if axis.slide.take().is_some() {
                view.position.extend(&axis.labels);
            }
        }
        let taps = view.taps();
        view.row.append(&mut view.taps);
        view.slides.clear();
        view.window = Window::default();
        view.columns /= taps.max(1);
        view.rows *= taps;
        view.output = None;
        view
    }

    /// Number of axes of the output.
    pub(super) fn output_rank(&self) -> usize {
        self.output_axes.len()
    }

    /// How many columns each index of the summed labels makes: the places within the window.
    pub fn taps(&self) -> usize {
        self.taps
            .iter()
            .filter_map(|label| self.extents[label.index()])
            .product()
    }

    /// Extents of the summed labels that the activation has.
    pub(super) fn summed_extents(&self) -> Vec<usize> {
        self.summed
            .iter()
            .map(|label| self.extents[label.index()].unwrap_or(1))
            .collect()
    }

    /// For each output channel, group by group and row by row, the index that it has along the only axis that holds
    /// channels. `None` where more than one axis of the output does.
    pub fn channel_axis(&self) -> Option<(usize, Vec<usize>)> {
        let holds = |axis: &Axis| {
            axis.labels
                .iter()
                .any(|label| self.group.contains(label) || self.row.contains(label))
        };
        let mut with = self
            .output_axes
            .iter()
            .enumerate()
            .filter(|(_, axis)| holds(axis));
        let (at, axis) = with.next()?;
        if with.next().is_some()
            || !axis
                .labels
                .iter()
                .all(|label| self.group.contains(label) || self.row.contains(label))
        {
            return None;
        }
        let strides = Strides::new(
            std::slice::from_ref(axis),
            &[axis
                .labels
                .iter()
                .map(|label| self.extents[label.index()])
                .product::<Option<usize>>()?],
            &self.extents,
        )?;
        let (groups, rows) = (strides.offsets(&self.group), strides.offsets(&self.row));
        Some((
            at,
            groups
                .iter()
                .flat_map(|group| rows.iter().map(move |row| group + row))
                .collect(),
        ))
    }
}

/// The axes of a port whose layouts are plain products.
fn axes(layout: &PortLayout) -> Option<Vec<Axis>> {
    let axis = |layout: &crate::relation::Layout| match &layout.0[..] {
        [Segment::Product(labels)] => Some(Axis {
            labels: labels.to_vec(),
            slide: None,
        }),
        [] => Some(Axis {
            labels: Vec::new(),
            slide: None,
        }),
        _ => None,
    };
    layout.axes.iter().map(axis).collect()
}

fn labels(layout: &PortLayout) -> Vec<LabelId> {
    layout.axes.iter().flat_map(|axis| axis.labels()).collect()
}
