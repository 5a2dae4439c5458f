//! Where the indices of labels lead in a tensor.

use crate::relation::LabelId;

/// One axis: the labels that it is a product of, the first outermost, or the spatial axis that a window slides over.
#[derive(Clone, Debug)]
pub(super) struct Axis {
    pub labels: Vec<LabelId>,
    pub slide: Option<usize>,
}

/// Strides (in elements) and extents of labels in one tensor.
#[derive(Clone, Debug)]
pub(super) struct Strides {
    strides: Vec<usize>,
    pub extents: Vec<usize>,
}

impl Strides {
    /// For a tensor of these dims. An extent that is not known is read from the axis, if it is that axis's only one.
    /// `None`: the axes are others, or extents do not multiply to them.
    pub fn new(axes: &[Axis], dims: &[usize], known: &[Option<usize>]) -> Option<Self> {
        if axes.len() != dims.len() {
            return None;
        }
        let mut strides = Strides {
            strides: vec![0; known.len()],
            extents: known.iter().map(|extent| extent.unwrap_or(1)).collect(),
        };
        for (at, axis) in axes.iter().enumerate() {
            if axis.slide.is_some() {
                continue;
            }
            if let [only] = axis.labels[..]
                && known[only.index()].is_none()
            {
                strides.extents[only.index()] = dims[at];
            }
            let mut stride: usize = dims[at + 1..].iter().product();
            let mut extent = 1;
            for label in axis.labels.iter().rev() {
                strides.strides[label.index()] = stride;
                stride *= strides.extents[label.index()];
                extent *= strides.extents[label.index()];
            }
            if extent != dims[at] {
                return None;
            }
        }
        Some(strides)
    }

    /// How far apart neighbours along a label are.
    pub fn of(&self, label: LabelId) -> usize {
        self.strides[label.index()]
    }

    /// The offsets of all combinations of some labels, the first outermost.
    pub fn offsets(&self, labels: &[LabelId]) -> Vec<usize> {
        let mut offsets = vec![0];
        for label in labels {
            let (stride, extent) = (self.of(*label), self.extents[label.index()]);
            offsets = offsets
                .iter()
                .flat_map(|offset| (0..extent).map(move |index| offset + index * stride))
                .collect();
        }
        offsets
    }
}

/// All combinations of numbers below some extents, the first outermost.
pub(super) fn mixed(extents: &[usize]) -> Vec<Vec<usize>> {
    let mut all = vec![Vec::new()];
    for extent in extents {
        let longer = |digits: &Vec<usize>| -> Vec<Vec<usize>> {
            (0..*extent)
                .map(|digit| digits.iter().copied().chain([digit]).collect())
                .collect()
        };
        all = all.iter().flat_map(longer).collect();
    }
    all
}
