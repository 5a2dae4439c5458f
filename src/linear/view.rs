//! One product: its matrices, read from tensors and put back into them.

use crate::model::{Model, NodeId, TensorRef, ValueId};
use crate::relation::{LabelId, Window};

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
    pub(super) window: Window,
    pub(super) extents: Vec<Option<usize>>,
    pub(super) data_axes: Vec<Axis>,
    pub(super) weight_axes: Vec<Axis>,
    pub(super) output_axes: Vec<Axis>,
    pub(super) position: Vec<LabelId>,
    pub(super) group: Vec<LabelId>,
    pub(super) row: Vec<LabelId>,
    /// Places in the output and within the window, in the order of the spatial axes.
    pub(super) slides: Vec<LabelId>,
    pub(super) taps: Vec<LabelId>,
}

/// A window over an activation of some dims.
struct SlidWindow {
    /// The places within it.
    taps: Vec<Vec<usize>>,
    /// Length and stride of each axis that it slides over.
    spatial: Vec<(usize, usize)>,
}

impl Linear {
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

    /// The positions of an activation of these dims that lie before `count` along one of its axes. `None`: positions do not go
    /// by that axis alone, as where a window slides over it.
    pub fn positions_before(
        &self,
        dims: &[usize],
        (axis, count): (usize, usize),
    ) -> Option<Vec<usize>> {
        let strides = self.data_strides(dims)?;
        let [only] = self
            .data_axes
            .get(axis)
            .filter(|axis| axis.slide.is_none())?
            .labels[..]
        else {
            return None;
        };
        let labels = self.position.iter().chain(&self.slides);
        let extent = |label: &LabelId| strides.extents[label.index()];
        let place = labels.clone().position(|label| *label == only)?;
        let inner: usize = labels.clone().skip(place + 1).map(extent).product();
        let all: usize = labels.map(extent).product();
        let before = |position: &usize| position / inner.max(1) % extent(&only).max(1) < count;
        Some((0..all).filter(before).collect())
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
        let window = self.slid_window(&data.dims)?;
        let extents: Vec<usize> = self
            .position
            .iter()
            .chain(&self.slides)
            .map(|label| strides.extents[label.index()])
            .collect();
        let mut matrix = vec![0.0f32; groups.len() * picks.len() * self.columns];
        let mut places: Vec<Option<usize>> = vec![None; window.taps.len()];
        let mut index = vec![0usize; extents.len()];
        for (at, pick) in picks.iter().enumerate() {
            let mut rest = *pick;
            for (digit, extent) in index.iter_mut().zip(&extents).rev() {
                *digit = rest % extent.max(&1);
                rest /= extent.max(&1);
            }
            self.place(&window, &strides, &index, &mut places);
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

    /// The window over an activation of these dims. `None`: an extent of it is not known.
    fn slid_window(&self, dims: &[usize]) -> Option<SlidWindow> {
        let extents: Option<Vec<usize>> = self
            .taps
            .iter()
            .map(|label| self.extents[label.index()])
            .collect();
        let spatial = (0..self.slides.len()).map(|at| {
            let axis = self
                .data_axes
                .iter()
                .position(|axis| axis.slide == Some(at))?;
            Some((dims[axis], dims[axis + 1..].iter().product()))
        });
        Some(SlidWindow {
            taps: mixed(&extents?),
            spatial: spatial.collect::<Option<_>>()?,
        })
    }

    /// Finds where each place within the window lies in the activation, at one position; `None` where that is padding.
    fn place(
        &self,
        window: &SlidWindow,
        strides: &Strides,
        index: &[usize],
        places: &mut [Option<usize>],
    ) {
        let (fixed, slid) = index.split_at(self.position.len());
        let base: usize = self
            .position
            .iter()
            .zip(fixed)
            .map(|(label, digit)| strides.of(*label) * digit)
            .sum();
        for (place, tap) in places.iter_mut().zip(&window.taps) {
            *place = Some(base);
            for (axis, ((digit, tap), (length, stride))) in
                slid.iter().zip(tap).zip(&window.spatial).enumerate()
            {
                let offset = *digit as i64 * self.window.strides[axis]
                    + *tap as i64 * self.window.dilations[axis]
                    - self.window.pads[axis];
                *place = (*place)
                    .filter(|_| offset >= 0 && offset < *length as i64)
                    .map(|place| place + offset as usize * stride);
            }
        }
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

    /// The weight matrices: groups × rows × columns. `None`: the constant cannot be read as numbers.
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

    /// Puts weight matrices back. `None`: the constant cannot be written, for it is shared or of a type that holds no real numbers.
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
