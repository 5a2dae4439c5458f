//! Fourier transforms, windows and spectra: made of positions that all count.

use super::frozen::{FrozenOperator, extent_in, outputs};
use super::{InferError, NodeView, Rule};
use crate::facts::{Dim, Fact};
use crate::proto::Dtype;

const TRANSFORM: &str = "a Fourier transform over all positions";

/// How many different numbers the transform of a real signal of `length` has.
fn one_sided(length: &Dim) -> Option<Dim> {
    Some(&length.floor_div(&Dim::Num(2))? + &Dim::Num(1))
}

/// DFT: the axis is an attribute before version 20, an input since.
fn transformed(node: &NodeView) -> Result<Vec<Fact>, InferError> {
    let dtype = node.dtype(0);
    let nothing = || {
        Ok(outputs(
            node,
            [Fact {
                dtype,
                ..Fact::default()
            }],
        ))
    };
    let Some(dims) = node.shape(0) else {
        return nothing();
    };
    let axis = match (node.opset < 20, node.has_input(2)) {
        (true, _) => Some(node.int("axis").unwrap_or(1)),
        (false, false) => Some(-2),
        (false, true) => node.numbers(2).and_then(|numbers| numbers.first().copied()),
    };
    let mut dims = dims.to_vec();
    let Some(axis) = axis else { return nothing() };
    // The last axis holds the real and the imaginary part.
    let error = || InferError(format!("axis {axis} of a signal of {} axes", dims.len()));
    let axis = NodeView::axis(axis, dims.len())
        .filter(|axis| axis + 1 < dims.len())
        .ok_or_else(error)?;
    let length = if node.has_input(1) {
        extent_in(node, 1).unwrap_or_else(|| node.unknown(0, axis))
    } else {
        dims[axis].clone()
    };
    let (inverse, one) = (
        node.int("inverse").unwrap_or(0) != 0,
        node.int("onesided").unwrap_or(0) != 0,
    );
    dims[axis] = match (inverse, one) {
        (_, false) => length,
        (false, true) => one_sided(&length).unwrap_or_else(|| node.unknown(0, axis)),
        // A real signal, of which half the spectrum is given.
        (true, true) if node.has_input(1) => length,
        (true, true) => &(&length - &Dim::Num(1)) * &Dim::Num(2),
    };
    if let Some(last) = dims.last_mut() {
        *last = Dim::Num(if inverse && one { 1 } else { 2 });
    }
    Ok(outputs(node, [Fact::new(dtype, dims)]))
}

/// STFT: `[batch, frames, bins, 2]`.
fn framed(node: &NodeView) -> Result<Vec<Fact>, InferError> {
    let dtype = node.dtype(0);
    let (b, length) = match node.shape(0) {
        None => {
            return Ok(outputs(
                node,
                [Fact {
                    dtype,
                    ..Fact::default()
                }],
            ));
        }
        // torch leaves out the axis of a real signal's only part.
        Some([b, length] | [b, length, _]) => (b, length),
        Some(dims) => return Err(InferError(format!("a signal of {} axes", dims.len()))),
    };
    let window = || node.shape(2).and_then(|dims| dims.first().cloned());
    let frame = if node.has_input(3) {
        extent_in(node, 3)
    } else {
        window()
    };
    let frames = frame
        .as_ref()
        .zip(extent_in(node, 1))
        .and_then(|(frame, step)| Some(&(length - frame).floor_div(&step)? + &Dim::Num(1)));
    let bins = if node.int("onesided").unwrap_or(1) != 0 {
        frame.as_ref().and_then(one_sided)
    } else {
        frame
    };
    let dims = vec![
        b.clone(),
        frames.unwrap_or_else(|| node.unknown(0, 1)),
        bins.unwrap_or_else(|| node.unknown(0, 2)),
        Dim::Num(2),
    ];
    Ok(outputs(node, [Fact::new(dtype, dims)]))
}

fn output_type(node: &NodeView) -> Option<Dtype> {
    let code = node
        .int("output_datatype")
        .unwrap_or(i64::from(Dtype::Float.code()));
    Dtype::from_code(i32::try_from(code).ok()?)
}

fn window(node: &NodeView) -> Result<Vec<Fact>, InferError> {
    let size = extent_in(node, 0).unwrap_or_else(|| node.unknown(0, 0));
    Ok(outputs(node, [Fact::new(output_type(node), vec![size])]))
}

fn mel(node: &NodeView) -> Result<Vec<Fact>, InferError> {
    let bins = extent_in(node, 0).unwrap_or_else(|| node.unknown(0, 1));
    let spectrum = extent_in(node, 1)
        .as_ref()
        .and_then(one_sided)
        .unwrap_or_else(|| node.unknown(0, 0));
    Ok(outputs(
        node,
        [Fact::new(output_type(node), vec![spectrum, bins])],
    ))
}

static WINDOW: FrozenOperator = FrozenOperator {
    reason: "positions of a window",
    infer: window,
};

pub(super) static RULES: &[Rule] = &[
    Rule::onnx("BlackmanWindow", &WINDOW),
    Rule::onnx(
        "DFT",
        &FrozenOperator {
            reason: TRANSFORM,
            infer: transformed,
        },
    ),
    Rule::onnx("HammingWindow", &WINDOW),
    Rule::onnx("HannWindow", &WINDOW),
    Rule::onnx(
        "MelWeightMatrix",
        &FrozenOperator {
            reason: "frequencies of a spectrum",
            infer: mel,
        },
    ),
    Rule::onnx(
        "STFT",
        &FrozenOperator {
            reason: TRANSFORM,
            infer: framed,
        },
    ),
];

#[cfg(test)]
mod tests {
    use crate::ops::case::OpCase;

    #[test]
    fn spectra() {
        OpCase::op("DFT")
            .at(20)
            .int("onesided", 1)
            .input("bx3x16x1")
            .expect_shapes("bx3x9x2");
        OpCase::op("DFT")
            .at(17)
            .int("axis", 1)
            .input("bx16x3x1")
            .number(8)
            .expect_shapes("bx8x3x2");
        OpCase::op("DFT")
            .at(20)
            .int("onesided", 1)
            .int("inverse", 1)
            .input("bx3x9x2")
            .expect_shapes("bx3x16x1");
        OpCase::op("STFT")
            .input("bx128x1")
            .number(8)
            .weight("16")
            .expect_shapes("bx15x9x2");
        OpCase::op("STFT")
            .input("bx128")
            .number(8)
            .weight("16")
            .expect_shapes("bx15x9x2");
        let at = |axis, input: &str| {
            OpCase::op("DFT")
                .at(17)
                .int("axis", axis)
                .input(input)
                .problem()
        };
        assert!(at(7, "").is_some() && at(2, "bx16x1").is_some() && at(-2, "bx16x1").is_none());
        assert!(
            OpCase::op("STFT")
                .input("128")
                .number(8)
                .weight("16")
                .problem()
                .is_some()
        );
        OpCase::op("HannWindow")
            .number(16)
            .expect_shapes("16")
            .expect_relation("input 0[] → output 0[16]");
        OpCase::op("MelWeightMatrix")
            .number(40)
            .number(512)
            .number(16000)
            .weight("")
            .weight("")
            .expect_shapes("257x40");
    }
}
