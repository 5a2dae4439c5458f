//! Functions element by element.

use super::{FunctionTable, MICROSOFT, data, first, given};
use crate::gradient::{
    Addition, Arguments, Binary, Choose, Evaluated, FloatArray, Function, Map, Misfit,
    Multiplication, Relabel, normal_density, normal_distribution, sigmoid,
};
use crate::ops::NodeView;

pub(super) const TABLE: FunctionTable = &[
    ("", "Relu", |_, at| map(at, |x| x.max(0.0), |x, _| step(x))),
    ("", "LeakyRelu", |node, at| {
        leaky(at, node.float("alpha").unwrap_or(0.01))
    }),
    ("", "Sigmoid", |_, at| {
        map(at, sigmoid, |_, y| y * (1.0 - y))
    }),
    ("", "Tanh", |_, at| map(at, f32::tanh, |_, y| 1.0 - y * y)),
    ("", "Exp", |_, at| map(at, f32::exp, |_, y| y)),
    ("", "Log", |_, at| map(at, f32::ln, |x, _| 1.0 / x)),
    ("", "Sqrt", |_, at| {
        map(at, f32::sqrt, |_, y| 0.5 / y.max(f32::MIN_POSITIVE))
    }),
    ("", "Neg", |_, at| map(at, |x| -x, |_, _| -1.0)),
    ("", "Abs", |_, at| {
        map(at, f32::abs, |x, _| step(x) - step(-x))
    }),
    ("", "Reciprocal", |_, at| map(at, f32::recip, |_, y| -y * y)),
    ("", "Sin", |_, at| map(at, f32::sin, |x, _| x.cos())),
    ("", "Cos", |_, at| map(at, f32::cos, |x, _| -x.sin())),
    ("", "Erf", |_, at| {
        map(at, crate::gradient::erf, |x, _| {
            std::f32::consts::FRAC_2_SQRT_PI * (-x * x).exp()
        })
    }),
    ("", "Softplus", |_, at| map(at, softplus, |x, _| sigmoid(x))),
    ("", "Softsign", |_, at| {
        map(at, |x| x / (1.0 + x.abs()), |x, _| (1.0 + x.abs()).powi(-2))
    }),
    ("", "Elu", |node, at| {
        elu(at, node.float("alpha").unwrap_or(1.0), 1.0)
    }),
    ("", "Selu", |node, at| {
        let (alpha, gamma) = (
            node.float("alpha").unwrap_or(1.673_263_2),
            node.float("gamma").unwrap_or(1.050_701),
        );
        elu(at, alpha, gamma)
    }),
    ("", "Celu", |node, at| {
        celu(at, node.float("alpha").unwrap_or(1.0))
    }),
    ("", "HardSigmoid", |node, at| {
        hard_sigmoid(
            at,
            node.float("alpha").unwrap_or(0.2),
            node.float("beta").unwrap_or(0.5),
        )
    }),
    ("", "HardSwish", |_, at| {
        map(
            at,
            |x| x * (x / 6.0 + 0.5).clamp(0.0, 1.0),
            hard_swish_slope,
        )
    }),
    ("", "Mish", |_, at| {
        map(at, |x| x * softplus(x).tanh(), mish_slope)
    }),
    ("", "Swish", |node, at| {
        swish(at, node.float("alpha").unwrap_or(1.0))
    }),
    (MICROSOFT, "QuickGelu", |node, at| {
        swish(at, node.float("alpha").unwrap_or(1.702))
    }),
    ("", "Gelu", gelu),
    (MICROSOFT, "Gelu", |_, at| exact_gelu(at)),
    (MICROSOFT, "FastGelu", |node, at| {
        if node.has_input(1) {
            None
        } else {
            tanh_gelu(at)
        }
    }),
    ("", "Identity", |_, at| same(at)),
    ("", "Dropout", |_, at| same(at)),
    (
        "",
        "Cast",
        |node, at| if makes_floats(node) { same(at) } else { None },
    ),
    ("", "Clip", |node, at| {
        let ends = [node.float("min"), node.float("max")];
        first(at, Clip { ends })
    }),
    ("", "PRelu", |_, at| {
        first(
            at,
            Binary {
                value: |x: f32, slope: f32| if x < 0.0 { slope * x } else { x },
                by_first: |x: f32, slope: f32| if x < 0.0 { slope } else { 1.0 },
                by_second: |x: f32, _: f32| x.min(0.0),
            },
        )
    }),
    ("", "Add", |_, at| first(at, Addition { sign: 1.0 })),
    ("", "Sub", |_, at| first(at, Addition { sign: -1.0 })),
    ("", "Mul", |_, at| first(at, Multiplication)),
    ("", "Div", |_, at| {
        first(
            at,
            Binary {
                value: |a: f32, b: f32| a / b,
                by_first: |_: f32, b: f32| 1.0 / b,
                by_second: |a: f32, b: f32| -a / (b * b),
            },
        )
    }),
    ("", "Pow", |_, at| {
        first(
            at,
            Binary {
                value: f32::powf,
                by_first: |a: f32, b: f32| if b == 0.0 { 0.0 } else { b * a.powf(b - 1.0) },
                by_second: |a: f32, b: f32| if a > 0.0 { a.powf(b) * a.ln() } else { 0.0 },
            },
        )
    }),
    ("", "Max", |node, at| extreme(node, at, 1.0)),
    ("", "Min", |node, at| extreme(node, at, -1.0)),
    ("", "Sum", |node, at| match node.inputs.len() {
        1 => same(at),
        2 => first(at, Addition { sign: 1.0 }),
        _ => None,
    }),
    ("", "Where", |_, at| first(at, Choose)),
];

fn map(
    output: usize,
    value: impl Fn(f32) -> f32 + Send + Sync + 'static,
    slope: impl Fn(f32, f32) -> f32 + Send + Sync + 'static,
) -> Option<Box<dyn Function>> {
    first(output, Map { value, slope })
}

/// 1 above zero, else 0.
fn step(x: f32) -> f32 {
    f32::from(x > 0.0)
}

fn same(output: usize) -> Option<Box<dyn Function>> {
    first(
        output,
        Relabel {
            dims: |inputs: &Arguments| Some(given(inputs, 0)?.dims.clone()),
        },
    )
}

/// Whether a conversion gives numbers that training can hold.
fn makes_floats(node: &NodeView) -> bool {
    let floats = |dtype: Option<crate::proto::Dtype>| dtype.is_some_and(|dtype| dtype.is_float());
    floats(node.dtype(0)) && floats(node.output(0).and_then(|fact| fact.dtype))
}

fn leaky(output: usize, alpha: f32) -> Option<Box<dyn Function>> {
    let value = move |x: f32| if x < 0.0 { alpha * x } else { x };
    map(output, value, move |x, _| if x < 0.0 { alpha } else { 1.0 })
}

fn softplus(x: f32) -> f32 {
    x.max(0.0) + (-x.abs()).exp().ln_1p()
}

fn elu(output: usize, alpha: f32, gamma: f32) -> Option<Box<dyn Function>> {
    let value = move |x: f32| gamma * if x < 0.0 { alpha * x.exp_m1() } else { x };
    map(output, value, move |x, _| {
        gamma * if x < 0.0 { alpha * x.exp() } else { 1.0 }
    })
}

fn celu(output: usize, alpha: f32) -> Option<Box<dyn Function>> {
    let value = move |x: f32| {
        if x < 0.0 {
            alpha * (x / alpha).exp_m1()
        } else {
            x
        }
    };
    map(
        output,
        value,
        move |x, _| if x < 0.0 { (x / alpha).exp() } else { 1.0 },
    )
}

fn hard_sigmoid(output: usize, alpha: f32, beta: f32) -> Option<Box<dyn Function>> {
    let value = move |x: f32| (alpha * x + beta).clamp(0.0, 1.0);
    map(
        output,
        value,
        move |_, y| if y > 0.0 && y < 1.0 { alpha } else { 0.0 },
    )
}

fn hard_swish_slope(x: f32, _: f32) -> f32 {
    if x <= -3.0 {
        0.0
    } else if x >= 3.0 {
        1.0
    } else {
        x / 3.0 + 0.5
    }
}

fn mish_slope(x: f32, _: f32) -> f32 {
    let tanh = softplus(x).tanh();
    tanh + x * (1.0 - tanh * tanh) * sigmoid(x)
}

fn swish(output: usize, alpha: f32) -> Option<Box<dyn Function>> {
    let value = move |x: f32| x * sigmoid(alpha * x);
    let slope = move |x: f32, y: f32| {
        let gate = sigmoid(alpha * x);
        gate + alpha * y * (1.0 - gate)
    };
    map(output, value, slope)
}

fn gelu(node: &NodeView, output: usize) -> Option<Box<dyn Function>> {
    match node.string("approximate") {
        Some("tanh") => tanh_gelu(output),
        _ => exact_gelu(output),
    }
}

/// x · Φ(x).
fn exact_gelu(output: usize) -> Option<Box<dyn Function>> {
    let slope = |x: f32, _: f32| normal_distribution(x) + x * normal_density(x);
    map(output, |x| x * normal_distribution(x), slope)
}

/// ½ x (1 + tanh(√(2/π) (x + .044715 x³))).
fn tanh_gelu(output: usize) -> Option<Box<dyn Function>> {
    const ROOT: f32 = 0.797_884_6;
    const CUBE: f32 = 0.044_715;
    let inner = |x: f32| (ROOT * (x + CUBE * x * x * x)).tanh();
    let slope = move |x: f32, _: f32| {
        let tanh = inner(x);
        0.5 * (1.0 + tanh) + 0.5 * x * (1.0 - tanh * tanh) * ROOT * (1.0 + 3.0 * CUBE * x * x)
    };
    map(output, move |x| 0.5 * x * (1.0 + inner(x)), slope)
}

/// The larger (`sign` 1) or the smaller (−1) of two.
fn extreme(node: &NodeView, output: usize, sign: f32) -> Option<Box<dyn Function>> {
    if node.inputs.len() == 1 {
        return same(output);
    }
    let is_first = move |a: f32, b: f32| sign * a >= sign * b;
    let pair = Binary {
        value: move |a: f32, b: f32| if is_first(a, b) { a } else { b },
        by_first: move |a: f32, b: f32| f32::from(is_first(a, b)),
        by_second: move |a: f32, b: f32| f32::from(!is_first(a, b)),
    };
    (node.inputs.len() == 2)
        .then(|| first(output, pair))
        .flatten()
}

/// Kept within two ends, given as attributes (old versions) or as operands.
struct Clip {
    ends: [Option<f32>; 2],
}

impl Clip {
    fn ends(&self, inputs: &Arguments) -> [f32; 2] {
        let end = |at: usize, open: f32| {
            let operand = given(inputs, at + 1).and_then(|end| end.data.first().copied());
            operand.or(self.ends[at]).unwrap_or(open)
        };
        [end(0, f32::NEG_INFINITY), end(1, f32::INFINITY)]
    }
}

impl Function for Clip {
    fn value(&self, inputs: &Arguments) -> Result<FloatArray, Misfit> {
        let [low, high] = self.ends(inputs);
        Ok(data(inputs)?.map(|x| x.max(low).min(high)))
    }

    fn pull_back(&self, point: &Evaluated, wanted: &[bool]) -> Vec<Option<FloatArray>> {
        let [low, high] = self.ends(point.inputs);
        let map = Map {
            value: |x: f32| x,
            slope: |x: f32, _: f32| f32::from(x > low && x < high),
        };
        map.pull_back(point, wanted)
    }
}
