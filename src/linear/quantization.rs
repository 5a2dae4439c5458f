//! Scales and zero points of quantized numbers.

use crate::model::{Model, ValueId};

/// Real numbers as steps of a scale from a zero point, for the whole tensor, along an axis, or for blocks along it.
pub(super) struct Quantization {
    pub scales: Vec<f32>,
    pub zeros: Vec<f32>,
    /// Elements from one index of the axis to the next, and indices of the axis.
    pub inner: usize,
    pub extent: usize,
    /// Indices that share a scale; 0: one scale for each index, whatever the other axes.
    pub block: usize,
}

impl Quantization {
    /// What a DequantizeLinear does to a tensor of these dims. `None`: its scales are no constants, or of other extents.
    pub fn read(
        model: &Model,
        (scale, zero): (ValueId, Option<ValueId>),
        (axis, block): (usize, usize),
        dims: &[usize],
    ) -> Option<Self> {
        let scales = model.constant(scale)?.to_f32()?;
        let zeros = match zero {
            Some(zero) => model.constant(zero)?.to_f32()?,
            None => vec![0.0],
        };
        let single = scales.len() == 1 && zeros.len() == 1;
        let (inner, extent) = match dims.get(axis) {
            Some(extent) => (dims[axis + 1..].iter().product(), *extent),
            None if single => (1, 1),
            None => return None,
        };
        let found = Quantization {
            scales,
            zeros,
            inner,
            extent,
            block,
        };
        let outer = dims.iter().take(axis).product::<usize>();
        let wanted = match block {
            0 => extent,
            block => outer * extent.div_ceil(block) * inner,
        };
        let fits = |list: &[f32]| list.len() == 1 || list.len() == wanted;
        (fits(&found.scales) && fits(&found.zeros)).then_some(found)
    }

    /// Where the number for an element stands in a list of so many.
    fn place(&self, element: usize, length: usize) -> usize {
        if length == 1 {
            return 0;
        }
        let (inside, before) = (element % self.inner.max(1), element / self.inner.max(1));
        let (along, outer) = (before % self.extent.max(1), before / self.extent.max(1));
        match self.block {
            0 => along,
            block => (outer * self.extent.div_ceil(block) + along / block) * self.inner + inside,
        }
    }

    /// The real number that an element stands for.
    pub fn real(&self, element: usize, number: f32) -> f32 {
        let (scale, zero) = self.of(element);
        (number - zero) * scale
    }

    /// The number of an element that stands for a real one, before it is rounded.
    pub fn steps(&self, element: usize, real: f32) -> f32 {
        match self.of(element) {
            (0.0, zero) => zero,
            (scale, zero) => real / scale + zero,
        }
    }

    fn of(&self, element: usize) -> (f32, f32) {
        let scale = self.scales[self.place(element, self.scales.len())];
        (scale, self.zeros[self.place(element, self.zeros.len())])
    }
}

#[cfg(test)]
mod tests {
    use super::Quantization;

    #[test]
    fn blocks_along_the_first_of_two_axes() {
        let quantization = Quantization {
            scales: vec![1.0, 2.0, 10.0, 20.0],
            zeros: vec![1.0],
            inner: 2,
            extent: 3,
            block: 2,
        };
        let real: Vec<f32> = (0..6).map(|at| quantization.real(at, 2.0)).collect();
        assert_eq!(real, [1.0, 2.0, 1.0, 2.0, 10.0, 20.0]);
        assert_eq!(quantization.steps(5, 40.0), 3.0);
    }
}
