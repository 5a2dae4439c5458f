//! The arithmetic of sliding windows: output extents of convolutions and pools, also for symbolic inputs.
//!
//! An output extent is one floor atom, `floor((h + pads - ((k - 1)·d + 1) + s) / s)`, so that two operators of the
//! same geometry give the same expression.

use super::{InferError, NodeView};
use crate::facts::Dim;
use crate::relation::{Reason, Window};

/// Why the axes that a window slides over keep their indices.
pub(super) const SPATIAL: Reason = Reason::operator("spatial positions");
/// Why the axes of the window itself keep their indices.
pub(super) const KERNEL: Reason = Reason::structure("positions within the window");

/// How a window is padded.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Padding {
    Explicit,
    SameUpper,
    SameLower,
    Valid,
}

/// A window as the attributes of a node describe it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Geometry {
    kernel: Vec<i64>,
    strides: Vec<i64>,
    dilations: Vec<i64>,
    pads: Vec<i64>,
    padding: Padding,
    ceil: bool,
}

/// Attribute values beyond this make no sense, and below it no product overflows.
const LIMIT: i64 = i32::MAX as i64;

impl Geometry {
    /// Reads strides, dilations, pads, `auto_pad` and `ceil_mode` for a window of this size.
    /// Errors: attributes of another length than `kernel`, or out of range.
    pub(super) fn read(node: &NodeView, kernel: Vec<i64>) -> Result<Self, InferError> {
        let axes = kernel.len();
        let list = |name: &'static str, length: usize, default: i64, low: i64| match node.ints(name)
        {
            None | Some([]) => Ok(vec![default; length]),
            Some(ints)
                if ints.len() == length && ints.iter().all(|int| (low..=LIMIT).contains(int)) =>
            {
                Ok(ints.to_vec())
            }
            Some(ints) => Err(InferError(format!(
                "{name} is {ints:?} for {axes} spatial axes"
            ))),
        };
        if !kernel.iter().all(|size| (1..=LIMIT).contains(size)) {
            return Err(InferError(format!("kernel of size {kernel:?}")));
        }
        let padding = match node.string("auto_pad") {
            None | Some("" | "NOTSET") => Padding::Explicit,
            Some("SAME_UPPER") => Padding::SameUpper,
            Some("SAME_LOWER") => Padding::SameLower,
            Some("VALID") => Padding::Valid,
            Some(other) => return Err(InferError(format!("auto_pad is {other}"))),
        };
        let pads = if padding == Padding::Explicit {
            list("pads", 2 * axes, 0, -LIMIT)?
        } else {
            vec![0; 2 * axes]
        };
        Ok(Geometry {
            strides: list("strides", axes, 1, 1)?,
            dilations: list("dilations", axes, 1, 1)?,
            ceil: node.int("ceil_mode") == Some(1),
            kernel,
            pads,
            padding,
        })
    }

    /// The number of spatial axes.
    pub(super) fn axes(&self) -> usize {
        self.kernel.len()
    }

    /// Window size, stride, first and last pad, of each axis; the size counts the gaps that dilation leaves.
    fn each(&self) -> impl Iterator<Item = (i64, i64, i64, i64)> + '_ {
        let (begins, ends) = self.pads.split_at(self.axes());
        let sizes = self
            .kernel
            .iter()
            .zip(&self.dilations)
            .map(|(kernel, dilation)| (kernel - 1).saturating_mul(*dilation) + 1);
        sizes
            .zip(&self.strides)
            .zip(begins.iter().zip(ends))
            .map(|((size, stride), (begin, end))| (size, *stride, *begin, *end))
    }

    /// Extents after the window slid over axes of these extents.
    pub(super) fn slide(&self, spatial: &[Dim]) -> Result<Vec<Dim>, InferError> {
        self.check(spatial)?;
        let same = matches!(self.padding, Padding::SameUpper | Padding::SameLower);
        let extents =
            spatial
                .iter()
                .zip(self.each())
                .map(|(extent, (size, stride, begin, end))| {
                    let by = Dim::Num(stride);
                    let floor = |shift: i64| (extent + &Dim::Num(shift)).floor_div(&by);
                    let out = match (same, self.ceil) {
                        (true, _) => floor(stride - 1),
                        (false, false) => floor(begin + end - size + stride),
                        (false, true) => {
                            let all = floor(begin + end - size + 2 * stride - 1);
                            // A window that would start in the padding at the end is left out.
                            if end + stride - 1 < size {
                                all
                            } else {
                                all.zip(floor(begin + stride - 1))
                                    .map(|(all, inside)| Dim::min(&all, &inside))
                            }
                        }
                    };
                    out.filter(|out| out.num().is_none_or(|out| out >= 0))
                        .ok_or_else(|| {
                            InferError(format!("a window of {size} on an axis of {extent}"))
                        })
                });
        extents.collect()
    }

    /// Extents after a transposed convolution of axes of these extents.
    pub(super) fn spread(&self, node: &NodeView, spatial: &[Dim]) -> Result<Vec<Dim>, InferError> {
        self.check(spatial)?;
        let axes = self.axes();
        if let Some(given) = node.ints("output_shape").filter(|given| !given.is_empty()) {
            // Some exporters write the whole shape, not the spatial part alone.
            let from = given
                .len()
                .checked_sub(axes)
                .ok_or_else(|| InferError(format!("output_shape is {given:?}")))?;
            return Ok(given
                .iter()
                .skip(from)
                .map(|extent| Dim::Num(*extent))
                .collect());
        }
        let extra = match node.ints("output_padding") {
            None | Some([]) => vec![0; axes],
            Some(extra)
                if extra.len() == axes && extra.iter().all(|extra| (0..=LIMIT).contains(extra)) =>
            {
                extra.to_vec()
            }
            Some(extra) => return Err(InferError(format!("output_padding is {extra:?}"))),
        };
        let same = matches!(self.padding, Padding::SameUpper | Padding::SameLower);
        let extents = spatial.iter().zip(self.each()).zip(extra).map(
            |((extent, (size, stride, begin, end)), extra)| {
                let shift = if same {
                    0
                } else {
                    size + extra - begin - end - stride
                };
                let out = &(extent * &Dim::Num(stride)) + &Dim::Num(shift);
                if out.num().is_some_and(|out| out < 0) {
                    Err(InferError("more padding than output".into()))
                } else {
                    Ok(out)
                }
            },
        );
        extents.collect()
    }

    fn check(&self, spatial: &[Dim]) -> Result<(), InferError> {
        match spatial.len() == self.axes() {
            true => Ok(()),
            false => Err(InferError(format!(
                "a window over {} axes of a tensor with {} spatial ones",
                self.axes(),
                spatial.len()
            ))),
        }
    }

    /// The geometry with `auto_pad` resolved. `pads` stays empty where it depends on extents that are not known.
    pub(super) fn window(&self, spatial: &[Dim]) -> Window {
        let axes: Option<Vec<(i64, i64)>> = spatial
            .iter()
            .zip(self.each())
            .map(|(extent, axis)| self.pad(extent, axis))
            .collect();
        let pads = axes.unwrap_or_default();
        Window {
            kernel: self.kernel.clone(),
            strides: self.strides.clone(),
            dilations: self.dilations.clone(),
            pads: pads
                .iter()
                .map(|(begin, _)| *begin)
                .chain(pads.iter().map(|(_, end)| *end))
                .collect(),
        }
    }

    fn pad(
        &self,
        extent: &Dim,
        (size, stride, begin, end): (i64, i64, i64, i64),
    ) -> Option<(i64, i64)> {
        if matches!(self.padding, Padding::Explicit | Padding::Valid) {
            return Some((begin, end));
        }
        let total = match extent.num() {
            Some(extent) => {
                ((extent.saturating_add(stride - 1)) / stride - 1)
                    .saturating_mul(stride)
                    .saturating_add(size)
                    - extent
            }
            None if stride == 1 => size - 1,
            None => return None,
        };
        let (total, half) = (total.max(0), total.max(0) / 2);
        Some(if self.padding == Padding::SameUpper {
            (half, total - half)
        } else {
            (total - half, half)
        })
    }
}
