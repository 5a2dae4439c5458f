//! Laws of the facts: each is held against what the runtime computes on random numbers.

use std::collections::BTreeSet;

use super::*;
use crate::facts::Dim;
use crate::model::TensorRef;
use crate::ops::back;
use crate::ops::case::OpCase;
use crate::ops::laws::outcome;
use crate::ops::registry::{flow, meaning, rules};

/// Inputs as numbers (empty where one is left out), with their dims, and the first output.
struct Run {
    inputs: Vec<(Vec<usize>, Vec<f64>)>,
    output: (Vec<usize>, Vec<f64>),
}

fn numbers(tensor: &TensorRef) -> (Vec<usize>, Vec<f64>) {
    let whole = || {
        let numbers = tensor.to_i64().unwrap();
        numbers.into_iter().map(|number| number as f64).collect()
    };
    (tensor.dims.clone(), tensor.to_f64().unwrap_or_else(whole))
}

/// Runs a case on numbers that the seed gives.
fn run(case: &OpCase, seed: u64) -> Result<Run, String> {
    run_by(outcome(case, seed, None)?)
}

/// The same with another tensor at one input.
fn run_with(case: &OpCase, seed: u64, input: usize, tensor: &TensorRef) -> Result<Run, String> {
    run_by(outcome(case, seed, Some((input, tensor)))?)
}

fn run_by((inputs, outputs): (Vec<Option<TensorRef>>, Vec<TensorRef>)) -> Result<Run, String> {
    let read = |input: &Option<TensorRef>| input.as_ref().map(numbers).unwrap_or_default();
    Ok(Run {
        inputs: inputs.iter().map(read).collect(),
        output: numbers(outputs.first().ok_or("no output")?),
    })
}

fn near(found: &[f64], expected: &[f64]) -> bool {
    found.len() == expected.len()
        && found
            .iter()
            .zip(expected)
            .all(|(a, b)| (a - b).abs() <= 1e-4 * (1.0 + b.abs()))
}

fn occurs(number: f64, among: &[&[f64]]) -> bool {
    among
        .iter()
        .any(|list| list.iter().any(|other| (other - number).abs() < 1e-6))
}

/// Entry by entry, of inputs of one shape.
fn each(run: &Run, of: impl Fn(f64, f64) -> f64) -> Vec<f64> {
    let (a, b) = (&run.inputs[0].1, run.inputs.get(1).map(|input| &input.1));
    let second = |at: usize| b.map_or(0.0, |b| b[at % b.len()]);
    a.iter()
        .enumerate()
        .map(|(at, number)| of(*number, second(at)))
        .collect()
}

/// Whether an output is what a flow says.
fn follows(flow: Flow, run: &Run) -> bool {
    let (dims, out) = &run.output;
    let input = |at: usize| run.inputs[at].1.as_slice();
    let all = |among: &[&[f64]]| out.iter().all(|number| occurs(*number, among));
    match flow {
        Flow::Other => true,
        Flow::Same | Flow::Dropped | Flow::Converted | Flow::Reshaped => near(out, input(0)),
        Flow::Permuted => {
            // Of two axes the other order.
            let (rows, columns) = (run.inputs[0].0[0], run.inputs[0].0[1]);
            *dims == [columns, rows]
                && (0..rows * columns)
                    .all(|at| out[at] == input(0)[at % rows * columns + at / rows])
        }
        Flow::Moved => all(&[input(0), &[0.0]]),
        Flow::Extreme | Flow::Picked => all(&[input(0)]),
        Flow::Averaged => {
            let mean = |list: &[f64]| list.iter().sum::<f64>() / list.len() as f64;
            (mean(out) - mean(input(0))).abs() < 1e-5
        }
        Flow::Joined => near(out, &[input(0), input(1)].concat()),
        Flow::Scattered => all(&[input(0), input(2)]),
        Flow::Selected => {
            (0..out.len()).all(|at| out[at] == input(if input(0)[at] != 0.0 { 1 } else { 2 })[at])
        }
        Flow::Summed => near(out, &each(run, |a, b| a + b)),
        Flow::Largest => near(out, &each(run, f64::max)),
        Flow::Smallest => near(out, &each(run, f64::min)),
        Flow::Add => near(out, &each(run, |a, b| a + b)),
        Flow::Sub => near(out, &each(run, |a, b| a - b)),
        Flow::Mul => near(out, &each(run, |a, b| a * b)),
        Flow::Div => near(out, &each(run, |a, b| a / b)),
        Flow::Power => near(out, &each(run, f64::powf)),
        Flow::Magnitude => {
            out.iter().all(|number| *number >= 0.0)
                && (out.iter().sum::<f64>() > 0.0) == (input(0).iter().any(|number| *number != 0.0))
        }
        Flow::Rectified => near(out, &each(run, |a, _| a.max(0.0))),
        Flow::Leaky => near(
            out,
            &each(run, |a, slope| if a < 0.0 { a * slope } else { a }),
        ),
        Flow::Clipped => {
            let (low, high) = (input(1)[0], input(2)[0]);
            near(out, &each(run, |a, _| a.max(low).min(high)))
        }
        Flow::Quantized => {
            let zero = input(2)[0];
            near(
                out,
                &each(run, |a, scale| {
                    ((a / scale).round_ties_even() + zero).clamp(0.0, 255.0)
                }),
            )
        }
        Flow::Dequantized => {
            let zero = input(2)[0];
            near(out, &each(run, |a, scale| (a - zero) * scale))
        }
        Flow::Normalised => true,
    }
}

/// Cases of every operator whose flow is known.
fn cases() -> Vec<OpCase> {
    let binary = |op: &str| OpCase::op(op).input("2x3").weight("2x3");
    let first = |op: &str| OpCase::op(op).input("4x6");
    let mut cases: Vec<OpCase> = [
        "Add", "Sum", "Sub", "Mul", "Div", "Max", "Min", "PRelu", "Pow",
    ]
    .into_iter()
    .map(binary)
    .collect();
    cases.extend(["Identity", "Dropout", "Flatten", "Relu", "Abs", "Trilu"].map(first));
    cases.extend(
        [
            "ReduceL1",
            "ReduceL2",
            "ReduceSumSquare",
            "ReduceMean",
            "ReduceMax",
            "ReduceMin",
        ]
        .map(|op| first(op).list(&[1]).at(18)),
    );
    let microsoft = |op: &str| OpCase::op(op).domain("com.microsoft").at(1);
    for quantize in [OpCase::op("QuantizeLinear"), microsoft("QuantizeLinear")] {
        cases.push(
            quantize
                .input("2x3")
                .floats(&[0.1])
                .weight("u8:1")
                .int("axis", 0),
        );
    }
    for dequantize in [
        OpCase::op("DequantizeLinear"),
        microsoft("DequantizeLinear"),
    ] {
        cases.push(
            dequantize
                .input("u8:2x3")
                .floats(&[0.1])
                .weight("u8:1")
                .int("axis", 0),
        );
    }
    cases.extend([
        first("Cast").int("to", 11),
        first("Reshape").list(&[3, 8]),
        OpCase::op("Squeeze").input("4x1x6").list(&[1]),
        first("Unsqueeze").list(&[0]),
        first("Transpose").ints("perm", &[1, 0]),
        first("Slice").list(&[1]).list(&[3]).list(&[0]),
        first("Expand").list(&[2, 4, 6]),
        first("Tile").list(&[2, 1]),
        first("Pad").list(&[0, 1, 0, 2]),
        first("Split").int("axis", 1).list(&[2, 4]).outputs(2),
        OpCase::op("Compress")
            .input("4x6")
            .weight("bool:4")
            .int("axis", 0),
        OpCase::op("DepthToSpace")
            .input("1x8x2x3")
            .int("blocksize", 2),
        OpCase::op("SpaceToDepth")
            .input("1x2x4x6")
            .int("blocksize", 2),
        OpCase::op("ReverseSequence").input("4x2x3").list(&[4, 2]),
        OpCase::op("Concat")
            .input("2x3")
            .input("2x3")
            .int("axis", 0),
        first("Gather").list(&[3, 0]),
        first("GatherElements").input("i64:4x2"),
        first("GatherND").input("i64:5x2"),
        microsoft("GatherND").input("4x6").input("i64:5x2"),
        first("ScatterElements")
            .input("i64:4x2")
            .input("4x2")
            .int("axis", 1),
        first("Scatter")
            .at(10)
            .input("i64:4x2")
            .input("4x2")
            .int("axis", 1),
        first("ScatterND").input("i64:5x1").input("5x6"),
        OpCase::op("Where")
            .input("bool:2x3")
            .input("2x3")
            .input("2x3"),
        first("Clip").scalar(-0.2).scalar(0.3),
        OpCase::op("BatchNormalization")
            .input("2x3x4")
            .weight("3")
            .weight("3")
            .weight("3")
            .weight("3"),
    ]);
    cases
}

/// What the runtime does not compute, or not in this form.
const NOT_RUN: &[(&str, &str)] = &[
    ("", "Compress"),
    ("", "ReverseSequence"),
    ("com.microsoft", "GatherND"),
];

#[test]
fn an_output_is_made_of_what_the_flow_says() {
    let (mut run_here, mut not_run) = (BTreeSet::new(), Vec::new());
    for case in cases() {
        let node = case.named();
        for seed in 1..5 {
            // Roots and logarithms want numbers above 0; others want both signs.
            let seed = if node.op_type() == "Pow" {
                2 * seed + 1
            } else {
                seed
            };
            match run(&case, seed) {
                Ok(found) => {
                    assert!(
                        follows(flow(&node), &found),
                        "{:?} of {}, seed {seed}: {:?} gives {:?}",
                        flow(&node),
                        node.op_type(),
                        found.inputs,
                        found.output
                    );
                    run_here.insert((node.domain().to_owned(), node.op_type().to_owned()));
                }
                Err(why) => not_run.push(format!("{} ({why})", node.op_type())),
            }
        }
    }
    let missing: Vec<&str> = rules()
        .filter(|rule| rule.meaning.flow != Flow::Other)
        .filter(|rule| !run_here.contains(&(rule.domain.to_owned(), rule.op_type.to_owned())))
        .filter(|rule| !NOT_RUN.contains(&(rule.domain, rule.op_type)))
        .map(|rule| rule.op_type)
        .collect();
    assert!(missing.is_empty(), "no run of {missing:?}; {not_run:?}");
}

#[test]
fn stored_statistics_shift_and_scale_each_channel() {
    let case = OpCase::op("BatchNormalization")
        .input("2x3x4")
        .weight("3")
        .weight("3")
        .weight("3")
        .weight("3");
    let names = meaning(&case.named()).statistics.unwrap();
    let run = run(&case, 3).unwrap();
    let of = |input: u32, channel: usize| run.inputs[input as usize].1[channel];
    let expected: Vec<f64> = run.inputs[0]
        .1
        .iter()
        .enumerate()
        .map(|(at, x)| {
            let c = at / 4 % 3;
            (x - of(names.mean, c)) / (of(names.variance, c) + 1e-5).sqrt() * of(names.scale, c)
                + of(names.shift, c)
        })
        .collect();
    assert!(near(&run.output.1, &expected));
}

/// With one number along an axis, each output is the same as with copies of it.
#[test]
fn entrywise_operators_do_not_ask_how_far_an_input_stretches() {
    let (mut held, mut skipped) = (BTreeSet::new(), Vec::new());
    for rule in rules().filter(|rule| rule.operator.is_entrywise()) {
        let case = |copies: usize, further: usize| {
            let case = OpCase::op(rule.op_type).domain(rule.domain).int("to", 1);
            (0..further).fold(case.floats(&vec![0.4; copies]), |case, _| {
                case.floats(&[0.7])
            })
        };
        let both = |further: usize| {
            Ok::<_, String>((run(&case(1, further), 1)?, run(&case(5, further), 1)?))
        };
        match both(0).or_else(|_| both(1)).or_else(|_| both(2)) {
            Ok((one, five)) => {
                let number = one.output.1[0];
                let same =
                    |other: &f64| near(&[*other], &[number]) || (other.is_nan() && number.is_nan());
                assert!(
                    five.output.1.iter().all(same),
                    "{}: {number} and {:?}",
                    rule.op_type,
                    five.output
                );
                held.insert(rule.op_type);
            }
            Err(why) => skipped.push(format!("{}: {why}", rule.op_type)),
        }
    }
    assert!(held.len() >= 40, "only {held:?}; not run: {skipped:?}");
}

/// A weight whose rows are scaled gives channels that are scaled, and a bias is added to them.
#[test]
fn a_product_has_its_channels_where_it_says() {
    let cases = [
        OpCase::op("Conv")
            .input("2x4x5")
            .weight("6x2x3")
            .weight("6")
            .int("group", 2),
        OpCase::op("ConvTranspose")
            .input("2x4x5")
            .weight("4x3x3")
            .weight("6")
            .int("group", 2),
        OpCase::op("Gemm")
            .input("2x4")
            .weight("4x6")
            .weight("6")
            .float("beta", 0.5),
        OpCase::op("Gemm")
            .input("2x4")
            .weight("6x4")
            .weight("6")
            .int("transB", 1),
        OpCase::op("MatMul").input("2x4").weight("4x6"),
    ];
    for case in cases {
        let node = case.named();
        let product = meaning(&node).product.unwrap();
        let channels = 6;
        // The channel of a weight's entry.
        let channel = |dims: &[usize], at: usize| match product.rows {
            WeightRows::First => at / dims[1..].iter().product::<usize>(),
            WeightRows::Grouped => {
                let group = at / dims[1..].iter().product::<usize>() / (dims[0] / 2);
                group * dims[1] + at / dims[2..].iter().product::<usize>() % dims[1]
            }
            WeightRows::Last(turning) if turning.is_none_or(|name| case_int(&node, name) == 0) => {
                at % dims[1]
            }
            WeightRows::Last(_) => at / dims[1],
            WeightRows::Equation => unreachable!("no case"),
        };
        let factor = |channel: usize| channel as f64 + 2.0;
        let whole = run(&case, 2).unwrap();
        let (dims, weight) = &whole.inputs[1];
        let scaled: Vec<f32> = (0..weight.len())
            .map(|at| (weight[at] * factor(channel(dims, at))) as f32)
            .collect();
        let scaled = TensorRef::from_f32(dims.clone(), &scaled);
        let changed = run_with(&case, 2, 1, &scaled).unwrap();
        let (out_dims, out) = &whole.output;
        let inner: usize = match product.channels.unwrap() {
            ChannelAxis::Second => out_dims[2..].iter().product(),
            ChannelAxis::Last => 1,
        };
        let expected: Vec<f64> = (0..out.len())
            .map(|at| {
                let channel = at / inner % channels;
                let bias = product.bias.map_or(0.0, |bias| {
                    let scale = bias.factor.and_then(|name| {
                        let found = node.attribute.iter().find(|other| other.name() == name);
                        found.map(|attribute| f64::from(attribute.f()))
                    });
                    whole.inputs[bias.input as usize].1[channel] * scale.unwrap_or(1.0)
                });
                (out[at] - bias) * factor(channel) + bias
            })
            .collect();
        assert!(near(&changed.output.1, &expected), "{}", node.op_type());
    }
}

fn case_int(node: &NodeProto, name: &str) -> i64 {
    let found = node.attribute.iter().find(|other| other.name() == name);
    found.map_or(0, |attribute| attribute.i())
}

/// Indices below the count are in range; the table says how many there are.
#[test]
fn picks_count_what_they_pick_from() {
    let microsoft = |op: &str| OpCase::op(op).domain("com.microsoft").at(1);
    let cases: [(OpCase, &[Option<i64>]); 9] = [
        (
            OpCase::op("Gather")
                .input("5x7")
                .input("i64:3")
                .int("axis", -1),
            &[Some(7)],
        ),
        (
            OpCase::op("GatherElements").input("5x7").input("i64:2x7"),
            &[Some(5)],
        ),
        (
            OpCase::op("GatherND")
                .input("9x3x8")
                .input("i64:9x4x1")
                .int("batch_dims", 1),
            &[Some(3)],
        ),
        (
            OpCase::op("ScatterND")
                .input("5x7x2")
                .input("i64:4x2")
                .input("4x2"),
            &[Some(5)],
        ),
        (
            OpCase::op("ScatterElements")
                .input("nx7")
                .input("i64:4x2")
                .input("4x2"),
            &[None],
        ),
        (
            OpCase::op("OneHot")
                .input("i64:4")
                .number(6)
                .floats(&[0.0, 1.0]),
            &[Some(6)],
        ),
        (
            OpCase::op("RotaryEmbedding")
                .at(23)
                .input("2x4x3x8")
                .input("9x4")
                .input("9x4")
                .input("i64:2x3"),
            &[Some(9)],
        ),
        (
            microsoft("EmbedLayerNormalization")
                .input("i32:2x3")
                .input("i32:2x3")
                .weight("11x8")
                .weight("12x8")
                .weight("2x8")
                .weight("8")
                .weight("8")
                .outputs(2),
            &[Some(11), Some(2), Some(12)],
        ),
        (
            microsoft("GatherND").input("4x6").input("i64:5x2"),
            &[Some(4)],
        ),
    ];
    for (case, counts) in cases {
        let picks = meaning(&case.named()).picks;
        let found: Vec<Option<i64>> =
            case.view(|view| picks.iter().map(|pick| pick.count(view)).collect());
        assert_eq!(found, counts, "{}", case.named().op_type());
    }
}

#[test]
fn what_reads_extents_reads_no_entries() {
    let reading: Vec<&str> = rules()
        .filter(|rule| rule.meaning.reads_extents)
        .map(|rule| rule.op_type)
        .collect();
    for op_type in reading {
        let case = OpCase::op(op_type).input("2x3");
        let outputs = [1, 2].map(|seed| run(&case, seed).unwrap().output);
        assert_eq!(outputs[0], outputs[1], "{op_type}");
    }
}

/// What is demanded backwards of an operator is what it was given: `back(infer(x)) = x`.
#[test]
fn demands_backwards_are_what_was_given() {
    let dims = [Dim::symbol("n"), Dim::Num(12), Dim::Num(64)];
    let list = |op: &str| OpCase::op(op).computed(&dims);
    let one = |op: &str| {
        OpCase::op(op)
            .computed(&[&Dim::symbol("n") * &Dim::Num(6)])
            .number(3)
    };
    let cases = [
        list("Identity"),
        list("Cast").int("to", 7),
        list("Unsqueeze").list(&[0]),
        list("Reshape").list(&[3]),
        list("Gather").list(&[2, 0, -2]),
        list("Concat").list(&[7, 8]).int("axis", 0),
        one("Add"),
        one("Sub"),
        one("Mul"),
        one("Div"),
    ];
    for case in cases {
        let node = case.named();
        let outputs = case.facts();
        let given = outputs[0].contents.as_ref().unwrap().dims().unwrap();
        let wanted: Vec<Option<Dim>> = given.into_iter().map(Some).collect();
        for constant in [0, 1] {
            let demands = case.view(|view| back(view, &wanted, &|input| input == constant));
            for demand in demands.unwrap() {
                let held = case.inputs[demand.input as usize].as_ref().unwrap();
                let held = held.fact.contents.as_ref().unwrap().dims().unwrap();
                for (demanded, held) in demand.elements.iter().zip(&held) {
                    assert!(
                        demanded.as_ref().is_none_or(|dim| dim == held),
                        "{}: {demanded:?} of {held:?}",
                        node.op_type()
                    );
                }
                assert_eq!(demand.elements.len(), held.len(), "{}", node.op_type());
                assert!(
                    demand.elements.iter().any(Option::is_some),
                    "{}",
                    node.op_type()
                );
            }
        }
    }
    // Nothing is demanded backwards where numbers are lost.
    assert!(
        list("ReduceMax")
            .view(|view| back(view, &[Some(Dim::Num(1))], &|_| true))
            .is_none()
    );
}

/// A case of an operator of which it is known what it makes of one number.
fn of_one_number(op_type: &str, domain: &str) -> OpCase {
    let case = OpCase::op(op_type).domain(domain);
    match op_type {
        "MaxPool" | "AveragePool" | "LpPool" | "NhwcMaxPool" => case
            .weight("1x2x5x5")
            .ints("kernel_shape", &[3, 3])
            .ints("pads", &[1, 1, 1, 1]),
        "Resize" => case.weight("1x2x4x4").none().floats(&[1.0, 1.0, 2.0, 2.0]),
        "Upsample" => case.at(9).weight("1x2x4x4").floats(&[1.0, 1.0, 2.0, 2.0]),
        "GridSample" => case.weight("1x2x5x6").input("1x3x4x2"),
        "MaxRoiPool" => case
            .weight("1x2x8x8")
            .input("3x5")
            .ints("pooled_shape", &[2, 2]),
        "RoiAlign" => case.weight("1x2x8x8").input("3x4").list(&[0, 0, 0]),
        _ => case.weight("1x2x3x4"),
    }
}

#[test]
fn one_number_everywhere_gives_what_the_table_says() {
    let (mut held, mut not_run) = (BTreeSet::new(), Vec::new());
    for rule in rules() {
        let Some(function) = rule.meaning.constant else {
            continue;
        };
        let case = of_one_number(rule.op_type, rule.domain);
        let node = case.named();
        let dims = match run(&case, 1) {
            Ok(found) => found.inputs[0].0.clone(),
            Err(why) => {
                not_run.push(format!("{} ({why})", rule.op_type));
                continue;
            }
        };
        for number in [0.0, 0.6, -1.3, 4.0] {
            let Some(expected) = function(&node, number) else {
                continue;
            };
            let count = dims.iter().product();
            let same = TensorRef::from_f32(dims.clone(), &vec![number as f32; count]);
            let found = run_with(&case, 1, 0, &same).unwrap().output.1;
            assert!(
                !found.is_empty() && found.iter().all(|other| near(&[*other], &[expected])),
                "{} of {number}: {expected} is expected, {found:?}",
                rule.op_type
            );
            held.insert(rule.op_type);
        }
    }
    assert!(held.len() >= 28, "only {held:?}; not run: {not_run:?}");
}

#[test]
fn shares_of_zero_are_zero() {
    let heads = |case: OpCase| case.input("1x3x8").input("1x3x8").weight("1x3x8");
    let cases = [
        heads(OpCase::op("Attention").at(23))
            .int("q_num_heads", 2)
            .int("kv_num_heads", 2),
        heads(
            OpCase::op("MultiHeadAttention")
                .domain("com.microsoft")
                .at(1),
        )
        .int("num_heads", 2),
    ];
    let mut held = BTreeSet::new();
    for case in &cases {
        let node = case.named();
        let first = meaning(&node).averages[0] as usize;
        let zero = TensorRef::from_f32(vec![1, 3, 8], &[0.0; 24]);
        let (before, after) = (
            run(case, 1).unwrap(),
            run_with(case, 1, first, &zero).unwrap(),
        );
        assert!(before.output.1.iter().any(|number| *number != 0.0));
        assert!(
            after.output.1.iter().all(|number| *number == 0.0),
            "{}",
            node.op_type()
        );
        held.insert(node.op_type().to_owned());
    }
    let all = rules().filter(|rule| !rule.meaning.averages.is_empty());
    assert!(all.into_iter().all(|rule| held.contains(rule.op_type)));
}
