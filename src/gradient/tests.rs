//! Gradients against finite differences, and values against definitions.

use rand::Rng;

use super::*;
use crate::rng::rng;

fn random(dims: &[usize], seed: u64) -> FloatArray {
    let mut random = rng(seed, "gradient");
    let len = dims.iter().product();
    FloatArray::new(
        dims.to_vec(),
        (0..len).map(|_| random.random_range(-1.0..1.0)).collect(),
    )
}

/// Σ value · weights, in double precision.
fn loss(function: &dyn Function, inputs: &[FloatArray], weights: &FloatArray) -> f64 {
    let operands: Vec<Option<&FloatArray>> = inputs.iter().map(Some).collect();
    let value = function.value(&operands).unwrap();
    let products = value.data.iter().zip(&weights.data);
    products.map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
}

/// Holds the derivatives by the first `by` inputs against central differences along random directions.
fn check(function: &dyn Function, inputs: Vec<FloatArray>, by: usize) {
    let operands: Vec<Option<&FloatArray>> = inputs.iter().map(Some).collect();
    let output = function.value(&operands).unwrap();
    let gradient = random(&output.dims, 99);
    let wanted: Vec<bool> = (0..inputs.len()).map(|at| at < by).collect();
    let point = Evaluated {
        inputs: &operands,
        output: &output,
        gradient: &gradient,
    };
    let pulled = function.pull_back(&point, &wanted);
    for at in 0..by {
        let derivative = pulled[at].as_ref().unwrap();
        assert_eq!(derivative.dims, inputs[at].dims);
        for seed in 0..4 {
            let direction = random(&inputs[at].dims, 1000 + seed);
            let along: f64 = derivative
                .data
                .iter()
                .zip(&direction.data)
                .map(|(a, b)| f64::from(a * b))
                .sum();
            let step = 1.0 / 256.0;
            let moved = |sign: f32| {
                let mut inputs = inputs.clone();
                for (x, d) in inputs[at].data.iter_mut().zip(&direction.data) {
                    *x += sign * step * d;
                }
                loss(function, &inputs, &gradient)
            };
            let difference = (moved(1.0) - moved(-1.0)) / (2.0 * f64::from(step));
            let scale = along.abs().max(difference.abs()).max(0.1);
            assert!(
                (along - difference).abs() < 1e-3 * scale,
                "operand {at}: {along} against {difference}"
            );
        }
    }
}

#[test]
fn element_by_element() {
    check(
        &Addition { sign: -1.0 },
        vec![random(&[2, 3, 4], 1), random(&[3, 1], 2)],
        2,
    );
    check(
        &Multiplication,
        vec![random(&[2, 1, 4], 1), random(&[3, 4], 2)],
        2,
    );
    check(
        &Multiplication,
        vec![random(&[4], 1), random(&[2, 4], 2)],
        2,
    );
    let divide = Binary {
        value: |a: f32, b: f32| a / b,
        by_first: |_: f32, b: f32| 1.0 / b,
        by_second: |a: f32, b: f32| -a / (b * b),
    };
    check(
        &divide,
        vec![random(&[2, 3], 1), random(&[1, 3], 2).map(|x| x + 3.0)],
        2,
    );
    let tanh = Map {
        value: f32::tanh,
        slope: |_: f32, y: f32| 1.0 - y * y,
    };
    check(&tanh, vec![random(&[5, 7], 3)], 1);
    let gelu = Map {
        value: |x: f32| x * normal_distribution(x),
        slope: |x: f32, _: f32| normal_distribution(x) + x * normal_density(x),
    };
    check(&gelu, vec![random(&[5, 7], 3)], 1);
    let condition = random(&[2, 3], 5).map(|x| f32::from(x > 0.0));
    check(
        &Chosen3(condition),
        vec![random(&[2, 3], 6), random(&[3], 7)],
        2,
    );
}

/// [`Choose`] with its condition built in, for a step would change that.
struct Chosen3(FloatArray);

impl Function for Chosen3 {
    fn value(&self, inputs: &Arguments) -> Result<FloatArray, Misfit> {
        Choose.value(&[Some(&self.0), inputs[0], inputs[1]])
    }

    fn pull_back(&self, point: &Evaluated, wanted: &[bool]) -> Vec<Option<FloatArray>> {
        let inputs = [Some(&self.0), point.inputs[0], point.inputs[1]];
        let point = Evaluated {
            inputs: &inputs,
            ..*point
        };
        Choose
            .pull_back(&point, &[false, wanted[0], wanted[1]])
            .split_off(1)
    }
}

#[test]
fn products() {
    check(&MatMul, vec![random(&[2, 3, 4], 1), random(&[4, 5], 2)], 2);
    check(
        &MatMul,
        vec![random(&[2, 3, 4], 1), random(&[2, 4, 5], 2)],
        2,
    );
    check(
        &MatMul,
        vec![random(&[2, 1, 3, 4], 1), random(&[3, 4, 5], 2)],
        2,
    );
    check(&MatMul, vec![random(&[3, 4], 1), random(&[2, 4, 5], 2)], 2);
    check(&MatMul, vec![random(&[4], 1), random(&[4, 5], 2)], 2);
    check(&MatMul, vec![random(&[2, 3, 4], 1), random(&[4], 2)], 2);
    check(&MatMul, vec![random(&[4], 1), random(&[2, 4, 3], 2)], 2);
    for turned in [[false, false], [true, false], [false, true], [true, true]] {
        let gemm = Gemm {
            turned,
            alpha: 0.5,
            beta: 2.0,
        };
        let a = if turned[0] { [4, 3] } else { [3, 4] };
        let b = if turned[1] { [5, 4] } else { [4, 5] };
        check(
            &gemm,
            vec![random(&a, 1), random(&b, 2), random(&[5], 3)],
            3,
        );
    }
}

#[test]
fn convolutions() {
    let plain = Convolution {
        groups: 1,
        strides: vec![1, 1],
        dilations: vec![1, 1],
        padding: WindowPadding::Given(vec![0; 4]),
    };
    let x = || random(&[3, 4, 6, 5], 1);
    let with = |weight: &[usize]| vec![x(), random(weight, 2), random(&weight[..1], 3)];
    check(&plain, with(&[2, 4, 1, 1]), 3);
    check(&plain, with(&[2, 4, 3, 2]), 3);
    let odd = Convolution {
        groups: 2,
        strides: vec![2, 1],
        dilations: vec![1, 2],
        padding: WindowPadding::Given(vec![1, 0, 2, 1]),
    };
    check(&odd, with(&[6, 2, 3, 2]), 3);
    let depthwise = Convolution {
        groups: 4,
        ..odd.clone()
    };
    check(&depthwise, with(&[4, 1, 3, 3]), 3);
    let same = Convolution {
        groups: 1,
        strides: vec![2, 2],
        padding: WindowPadding::Same { first: false },
        dilations: vec![1, 1],
    };
    check(&same, with(&[2, 4, 3, 3]), 3);
    let line = Convolution {
        groups: 1,
        strides: vec![2],
        dilations: vec![2],
        padding: WindowPadding::Given(vec![2, 1]),
    };
    check(
        &line,
        vec![
            random(&[2, 3, 9], 1),
            random(&[4, 3, 3], 2),
            random(&[4], 3),
        ],
        3,
    );
}

#[test]
fn pools() {
    let pool = |pooled, rounds_up| Pooling {
        pooled,
        kernel: vec![3, 2],
        strides: vec![2, 2],
        dilations: vec![1, 1],
        padding: WindowPadding::Given(vec![1, 0, 1, 1]),
        rounds_up,
    };
    let x = || vec![random(&[2, 3, 6, 5], 1)];
    for rounds_up in [false, true] {
        check(
            &pool(
                Pooled::Mean {
                    counts_padding: false,
                },
                rounds_up,
            ),
            x(),
            1,
        );
        check(
            &pool(
                Pooled::Mean {
                    counts_padding: true,
                },
                rounds_up,
            ),
            x(),
            1,
        );
    }
    // Elements far enough apart that a step changes no order.
    let apart = FloatArray::new(
        vec![1, 1, 6, 5],
        (0..30).map(|at| ((at * 7) % 30) as f32).collect(),
    );
    check(&pool(Pooled::Maximum, false), vec![apart], 1);
}

#[test]
fn sums_and_norms() {
    let all = [
        Reduced::Sum,
        Reduced::Mean,
        Reduced::Length,
        Reduced::Largest,
        Reduced::Smallest,
    ];
    for (reduced, keeps_axes) in all.into_iter().flat_map(|one| [(one, true), (one, false)]) {
        let reduce = AxisReduction {
            axes: |_: &Arguments| Ok(vec![0, 2]),
            keeps_axes,
            reduced,
        };
        // Elements far enough apart that a step changes no order.
        let data = (0..24).map(|at| ((at * 7) % 24) as f32 - 11.5).collect();
        check(&reduce, vec![FloatArray::new(vec![2, 3, 4], data)], 1);
    }
    for is_logarithm in [false, true] {
        let last = SoftmaxFunction {
            axes: |rank| Some((rank - 1, 1)),
            is_logarithm,
        };
        check(&last, vec![random(&[2, 3, 4], 1)], 1);
        let middle = SoftmaxFunction {
            axes: |_| Some((1, 1)),
            is_logarithm,
        };
        check(&middle, vec![random(&[2, 3, 4], 1)], 1);
    }
    for is_centred in [false, true] {
        let norm = LayerNorm {
            axis: -1,
            epsilon: 1e-5,
            is_centred,
        };
        check(
            &norm,
            vec![random(&[3, 8], 1), random(&[8], 2), random(&[8], 3)],
            3,
        );
    }
    let stored = StoredNorm { epsilon: 1e-5 };
    let variance = random(&[3], 5).map(|x| x + 2.0);
    let operands = vec![
        random(&[2, 3, 4], 1),
        random(&[3], 2),
        random(&[3], 3),
        random(&[3], 4),
        variance,
    ];
    check(&stored, operands, 3);
}

#[test]
fn moved_elements() {
    let whole = |numbers: &[i64]| {
        FloatArray::new(
            vec![numbers.len()],
            numbers.iter().map(|x| *x as f32).collect(),
        )
    };
    check(
        &Reshaping { allows_zero: false },
        vec![random(&[2, 3, 4], 1), whole(&[0, -1])],
        1,
    );
    check(
        &Permute {
            order: Some(vec![2, 0, 1]),
        },
        vec![random(&[2, 3, 4], 1)],
        1,
    );
    check(&Permute { order: None }, vec![random(&[2, 3, 4], 1)], 1);
    check(
        &Concatenation { axis: -2 },
        vec![random(&[2, 3, 4], 1), random(&[2, 1, 4], 2)],
        2,
    );
    check(
        &Lookup { axis: 1 },
        vec![random(&[2, 3, 4], 1), whole(&[2, 0, -1, 0])],
        1,
    );
    check(&Expansion, vec![random(&[3, 1], 1), whole(&[2, 1, 4])], 1);
    let parts = Slicing {
        parts: |_: &Arguments| {
            let forward = AxisPart {
                axis: 2,
                start: 1,
                count: 2,
                step: 2,
            };
            Ok(vec![
                forward,
                AxisPart {
                    axis: 0,
                    start: 1,
                    count: 2,
                    step: -1,
                },
            ])
        },
    };
    check(&parts, vec![random(&[2, 3, 4], 1)], 1);
    let pad = PadFunction {
        ends: |_: &Arguments| {
            Ok(PaddedEnds {
                counts: vec![(1, 0), (0, 2)],
                fill: 0.5,
            })
        },
    };
    check(&pad, vec![random(&[2, 3], 1)], 1);
}

#[test]
fn what_does_not_fit_is_an_error() {
    let (a, b) = (random(&[2, 3], 1), random(&[4, 5], 2));
    let operands = [Some(&a), Some(&b)];
    let gemm = Gemm {
        turned: [false, false],
        alpha: 1.0,
        beta: 1.0,
    };
    assert!(Multiplication.value(&operands).is_err());
    assert!(MatMul.value(&operands).is_err());
    assert!(gemm.value(&operands).is_err());
    assert!(Concatenation { axis: 0 }.value(&operands).is_err());
    assert!(Concatenation { axis: 5 }.value(&operands).is_err());
    assert!(Reshaping { allows_zero: false }.value(&operands).is_err());
    let far = b.map(|_| 7.0);
    assert!(Lookup { axis: 0 }.value(&[Some(&a), Some(&far)]).is_err());
    assert!(Multiplication.value(&[Some(&a)]).is_err());
}

#[test]
fn recurrences() {
    let cells = [
        CellKind::Lstm,
        CellKind::Gru {
            resets_product: false,
        },
        CellKind::Gru {
            resets_product: true,
        },
    ];
    for cell in cells {
        let gates = if cell == CellKind::Lstm { 4 } else { 3 };
        for reversed in [vec![false], vec![true], vec![false, true]] {
            for gives_last in [false, true] {
                let layer = RecurrentLayer {
                    cell,
                    reversed: reversed.clone(),
                    gives_last,
                };
                let d = reversed.len();
                let (x, w) = (random(&[4, 2, 3], 1), random(&[d, gates * 5, 3], 2));
                let (r, bias) = (
                    random(&[d, gates * 5, 5], 3),
                    random(&[d, 2 * gates * 5], 4),
                );
                check(&layer, vec![x, w, r, bias], 4);
            }
        }
    }
}

#[test]
fn group_norms() {
    let x = || random(&[2, 4, 3, 2], 1);
    for (groups, numbers) in [(None, 4), (Some(2), 4), (Some(2), 2)] {
        let norm = GroupedNorm {
            groups,
            epsilon: 1e-5,
        };
        check(
            &norm,
            vec![x(), random(&[numbers], 2), random(&[numbers], 3)],
            3,
        );
    }
    let one = GroupedNorm {
        groups: Some(3),
        epsilon: 1e-5,
    };
    let (x, scale) = (x(), random(&[4], 2));
    assert!(one.value(&[Some(&x), Some(&scale), Some(&scale)]).is_err());
}

#[test]
fn transposed_convolutions() {
    let of = |groups, strides: &[usize], pads: &[usize]| Convolution {
        groups,
        strides: strides.to_vec(),
        dilations: vec![1, 2],
        padding: WindowPadding::Given(pads.to_vec()),
    };
    let operands = |weight: &[usize], outputs: usize| {
        vec![
            random(&[1, 4, 2, 3], 1),
            random(weight, 2),
            random(&[outputs], 5),
        ]
    };
    let plain = TransposedConvolution {
        of: of(1, &[2, 2], &[0, 1, 1, 0]),
        more: vec![1, 0],
    };
    check(&plain, operands(&[4, 3, 3, 2], 3), 3);
    let grouped = TransposedConvolution {
        of: of(2, &[1, 3], &[]),
        more: Vec::new(),
    };
    check(&grouped, operands(&[4, 3, 2, 2], 6), 3);
    // By its definition: each element of x is laid out over the result.
    let line = TransposedConvolution {
        of: Convolution {
            groups: 1,
            strides: vec![2],
            dilations: vec![1],
            padding: WindowPadding::Given(vec![0, 0]),
        },
        more: Vec::new(),
    };
    let x = FloatArray::new(vec![1, 1, 2], vec![1.0, 2.0]);
    let weight = FloatArray::new(vec![1, 1, 3], vec![1.0, 10.0, 100.0]);
    let value = line.value(&[Some(&x), Some(&weight)]).unwrap();
    assert_eq!(
        (value.dims, value.data),
        (vec![1, 1, 5], vec![1.0, 10.0, 102.0, 20.0, 200.0])
    );
}

#[test]
fn contractions() {
    let axes = |text: &str| text.chars().collect::<Vec<char>>();
    let of =
        |a: &str, b: &str, result: &str| AxisContraction::new([axes(a), axes(b)], axes(result));
    let checked = |a: &str, dims_a: &[usize], b: &str, dims_b: &[usize], result: &str| {
        let function = of(a, b, result).unwrap();
        check(&function, vec![random(dims_a, 1), random(dims_b, 2)], 2);
    };
    checked("bhqd", &[2, 3, 4, 5], "bhkd", &[2, 3, 6, 5], "bhqk");
    checked("bqhd", &[2, 4, 3, 5], "bkhd", &[2, 6, 3, 5], "hbkq");
    checked("ij", &[2, 3], "jk", &[3, 4], "ik");
    checked("i", &[3], "j", &[4], "ji");
    assert!(of("ii", "j", "ij").is_none() && of("ij", "k", "ik").is_none());
    // Σ_j a_ij b_kj, written out.
    let a = FloatArray::new(vec![2, 2], vec![1.0, 2.0, 3.0, 4.0]);
    let b = FloatArray::new(vec![1, 2], vec![5.0, 6.0]);
    let value = of("ij", "kj", "ki")
        .unwrap()
        .value(&[Some(&a), Some(&b)])
        .unwrap();
    assert_eq!((value.dims, value.data), (vec![1, 2], vec![17.0, 39.0]));
}

#[test]
fn blocks_and_tiles() {
    let blocks = |dims: &[usize]| {
        let [rows, columns] = *dims else { return None };
        Some(AxisBlocks {
            split: vec![rows, columns / 2, 2],
            order: vec![2, 0, 1],
            merged: vec![2 * rows, columns / 2],
        })
    };
    let rearranged = Rearrangement { blocks };
    check(&rearranged, vec![random(&[3, 4], 1)], 1);
    let x = FloatArray::new(vec![1, 4], vec![1.0, 2.0, 3.0, 4.0]);
    assert_eq!(
        rearranged.value(&[Some(&x)]).unwrap().data,
        [1.0, 3.0, 2.0, 4.0]
    );
    let repeats = FloatArray::new(vec![2], vec![2.0, 3.0]);
    check(&Tiling, vec![random(&[2, 3], 1), repeats], 1);
    let x = FloatArray::new(vec![1, 2], vec![1.0, 2.0]);
    let twice = FloatArray::new(vec![2], vec![2.0, 2.0]);
    let tiled = Tiling.value(&[Some(&x), Some(&twice)]).unwrap();
    assert_eq!(tiled.data, [1.0, 2.0, 1.0, 2.0, 1.0, 2.0, 1.0, 2.0]);
}

#[test]
fn interpolations() {
    let axes = |_: &Arguments| {
        Ok(vec![
            AxisWeights {
                axis: 2,
                places: vec![
                    vec![(0, 1.0)],
                    vec![(0, 0.25), (1, 0.75)],
                    vec![(2, 1.0)],
                    vec![],
                ],
            },
            AxisWeights {
                axis: 1,
                places: vec![vec![(1, 0.5), (0, 0.5)]],
            },
        ])
    };
    let resized = Interpolation { axes };
    check(&resized, vec![random(&[2, 2, 3, 2], 1)], 1);
}

#[test]
fn attention() {
    let attention = HeadAttention {
        heads: 2,
        scale: None,
        unseen: -10000.0,
    };
    let operands = || {
        vec![
            random(&[2, 3, 6], 1),
            random(&[2, 4, 6], 2),
            random(&[2, 4, 8], 3),
            random(&[1, 2, 3, 4], 4),
        ]
    };
    check(&attention, operands(), 4);
    let mut masked = operands();
    masked.push(FloatArray::new(
        vec![2, 4],
        vec![1.0, 1.0, 0.0, 1.0, 0.0, 1.0, 1.0, 1.0],
    ));
    check(&attention, masked.clone(), 4);
    // What is not seen has no part in it.
    let value = |operands: &[FloatArray]| {
        let operands: Vec<Option<&FloatArray>> = operands.iter().map(Some).collect();
        attention.value(&operands).unwrap()
    };
    let before = value(&masked);
    masked[2].data[2 * 8..3 * 8].fill(7.0);
    assert_eq!(value(&masked), before);
}
