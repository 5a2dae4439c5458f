//! Small models through the door, one for what each rewrite is about.

use super::{Runtime, Session, Tensors, TractRuntime, Unverifiable};
use crate::model::{Model, Source, TensorRef};
use crate::proto::attribute_proto::AttributeType;
use crate::proto::{
    AttributeProto, Dtype, FunctionProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto,
    TypeProto, ValueInfoProto, type_proto,
};

fn value(name: &str, dtype: Dtype) -> ValueInfoProto {
    let tensor = type_proto::Tensor {
        elem_type: Some(dtype.code()),
        shape: None,
    };
    let kind = TypeProto {
        value: Some(type_proto::Value::TensorType(tensor)),
        ..Default::default()
    };
    ValueInfoProto {
        name: Some(name.into()),
        r#type: Some(kind),
        ..Default::default()
    }
}

fn node(op: &str, inputs: &[&str], outputs: &[&str]) -> NodeProto {
    NodeProto {
        op_type: Some(op.into()),
        input: inputs.iter().map(|name| (*name).into()).collect(),
        output: outputs.iter().map(|name| (*name).into()).collect(),
        ..Default::default()
    }
}

fn int(mut node: NodeProto, name: &str, value: i64) -> NodeProto {
    let attribute = AttributeProto {
        name: Some(name.into()),
        i: Some(value),
        r#type: Some(AttributeType::Int as i32),
        ..Default::default()
    };
    node.attribute.push(attribute);
    node
}

fn ints(mut node: NodeProto, name: &str, values: &[i64]) -> NodeProto {
    let attribute = AttributeProto {
        ints: values.to_vec(),
        ..Default::default()
    };
    node.attribute.push(AttributeProto {
        name: Some(name.into()),
        r#type: Some(AttributeType::Ints as i32),
        ..attribute
    });
    node
}

fn text(mut node: NodeProto, name: &str, value: &'static str) -> NodeProto {
    let s = Some(value.as_bytes().into());
    node.attribute.push(AttributeProto {
        name: Some(name.into()),
        s,
        r#type: Some(AttributeType::String as i32),
        ..Default::default()
    });
    node
}

fn graph(
    inputs: &[(&str, Dtype)],
    outputs: &[&str],
    constants: &[(&str, TensorRef)],
    nodes: Vec<NodeProto>,
) -> GraphProto {
    GraphProto {
        name: Some("g".into()),
        node: nodes,
        input: inputs
            .iter()
            .map(|(name, dtype)| value(name, *dtype))
            .collect(),
        output: outputs
            .iter()
            .map(|name| value(name, Dtype::Float))
            .collect(),
        initializer: constants
            .iter()
            .map(|(name, tensor)| tensor.to_proto(name))
            .collect(),
        ..Default::default()
    }
}

fn message(graph: GraphProto) -> ModelProto {
    let opset = |domain: &str, version| OperatorSetIdProto {
        domain: Some(domain.into()),
        version: Some(version),
    };
    ModelProto {
        ir_version: Some(8),
        opset_import: vec![opset("", 17), opset("com.microsoft", 1), opset("mine", 1)],
        graph: Some(graph),
        ..Default::default()
    }
}

fn session(
    proto: ModelProto,
    inputs: &Tensors,
    taps: &[&str],
) -> Result<Box<dyn Session>, Unverifiable> {
    let model = Model::new(proto, Source::default()).unwrap();
    let taps: Vec<String> = taps.iter().map(|tap| (*tap).into()).collect();
    TractRuntime::new(true).prepare(&model, inputs, &taps)
}

fn floats(dims: &[usize], seed: f32) -> TensorRef {
    let count: usize = dims.iter().product();
    let elements: Vec<f32> = (0..count)
        .map(|at| (at as f32 * 0.7 + seed).sin())
        .collect();
    TensorRef::from_f32(dims.to_vec(), &elements)
}

fn feeds(inputs: &[(&str, TensorRef)]) -> Tensors {
    inputs
        .iter()
        .map(|(name, tensor)| ((*name).to_owned(), tensor.clone()))
        .collect()
}

fn run(proto: ModelProto, inputs: &[(&str, TensorRef)]) -> Vec<Vec<f32>> {
    let inputs = feeds(inputs);
    let outputs = session(proto, &inputs, &[]).unwrap().run(&inputs).unwrap();
    outputs
        .iter()
        .map(|output| output.to_f32().unwrap())
        .collect()
}

fn close(got: &[f32], want: &[f32]) {
    assert_eq!(got.len(), want.len());
    assert!(
        got.iter()
            .zip(want)
            .all(|(got, want)| (got - want).abs() < 1e-5),
        "{got:?} {want:?}"
    );
}

#[test]
fn a_stranger_is_named() {
    let mut stranger = node("Relu", &["x"], &["y"]);
    (stranger.domain, stranger.name) = (Some("mine".into()), Some("first".into()));
    let proto = message(graph(&[("x", Dtype::Float)], &["y"], &[], vec![stranger]));
    let error = session(proto, &feeds(&[("x", floats(&[2], 0.0))]), &[])
        .err()
        .unwrap();
    assert!(error.reason.contains("mine:Relu 'first'"), "{error}");
}

#[test]
fn a_net_that_runs_backwards_is_the_forward_one_on_the_reversed_sequence() {
    let constants = [
        ("w", floats(&[1, 12, 3], 0.1)),
        ("r", floats(&[1, 12, 3], 0.2)),
        ("b", floats(&[1, 24], 0.3)),
    ];
    let net = |direction| {
        let lstm = int(
            node("LSTM", &["x", "w", "r", "b"], &["y", "h"]),
            "hidden_size",
            3,
        );
        message(graph(
            &[("x", Dtype::Float)],
            &["y", "h"],
            &constants,
            vec![text(lstm, "direction", direction)],
        ))
    };
    let x = floats(&[4, 1, 3], 0.4);
    let turned: Vec<f32> = x
        .to_f32()
        .unwrap()
        .chunks(3)
        .rev()
        .flatten()
        .copied()
        .collect();
    let backward = run(net("reverse"), &[("x", x)]);
    let forward = run(
        net("forward"),
        &[("x", TensorRef::from_f32(vec![4, 1, 3], &turned))],
    );
    let again: Vec<f32> = forward[0].chunks(3).rev().flatten().copied().collect();
    close(&backward[0], &again);
    close(&backward[1], &forward[1]);
}

#[test]
fn a_scalar_that_selects_a_branch_is_built_in_and_must_stay() {
    let branch = |op| graph(&[], &["inner"], &[], vec![node(op, &["x"], &["inner"])]);
    let mut choice = node("If", &["is_eight"], &["y"]);
    for (name, op) in [("then_branch", "Neg"), ("else_branch", "Abs")] {
        let g = Some(branch(op));
        choice.attribute.push(AttributeProto {
            name: Some(name.into()),
            g,
            r#type: Some(AttributeType::Graph as i32),
            ..Default::default()
        });
    }
    let eight = TensorRef {
        dims: vec![],
        ..TensorRef::from_i64(vec![1], &[8])
    };
    let nodes = vec![node("Equal", &["rate", "eight"], &["is_eight"]), choice];
    let inputs = [("x", Dtype::Float), ("rate", Dtype::Int64)];
    let proto = message(graph(&inputs, &["y"], &[("eight", eight.clone())], nodes));
    let given = feeds(&[("x", floats(&[3], 1.0)), ("rate", eight.clone())]);
    let session = session(proto, &given, &[]).unwrap();
    let want: Vec<f32> = given["x"].to_f32().unwrap().iter().map(|x| -x).collect();
    close(&session.run(&given).unwrap()[0].to_f32().unwrap(), &want);
    let other = feeds(&[
        ("x", floats(&[3], 1.0)),
        (
            "rate",
            TensorRef {
                dims: vec![],
                ..TensorRef::from_i64(vec![1], &[16])
            },
        ),
    ]);
    assert!(session.run(&other).unwrap_err().0.contains("'rate'"));
}

#[test]
fn functions_are_inlined_with_their_attributes() {
    let mut leaky = node("LeakyRelu", &["a"], &["b"]);
    leaky.attribute.push(AttributeProto {
        name: Some("alpha".into()),
        ref_attr_name: Some("slope".into()),
        ..Default::default()
    });
    let function = FunctionProto {
        name: Some("Twice".into()),
        domain: Some("mine".into()),
        input: vec!["a".into()],
        output: vec!["c".into()],
        attribute: vec!["slope".into()],
        node: vec![leaky, node("Add", &["b", "b"], &["c"])],
        opset_import: vec![OperatorSetIdProto {
            domain: None,
            version: Some(17),
        }],
        ..Default::default()
    };
    let call = |x: &str, y: &str, slope: f32| NodeProto {
        domain: Some("mine".into()),
        attribute: vec![AttributeProto {
            name: Some("slope".into()),
            f: Some(slope),
            r#type: Some(AttributeType::Float as i32),
            ..Default::default()
        }],
        ..node("Twice", &[x], &[y])
    };
    let mut proto = message(graph(
        &[("x", Dtype::Float)],
        &["z"],
        &[],
        vec![call("x", "y", 0.5), call("y", "z", 0.25)],
    ));
    proto.functions.push(function);
    close(
        &run(proto, &[("x", TensorRef::from_f32(vec![2], &[1.0, -1.0]))])[0],
        &[4.0, -0.5],
    );
}

#[test]
fn halves_are_computed_as_floats_and_taps_follow_the_outputs() {
    let half = |numbers: &[f32]| TensorRef {
        dtype: Dtype::Float16,
        dims: vec![numbers.len()],
        bytes: numbers
            .iter()
            .flat_map(|number| half::f16::from_f32(*number).to_le_bytes())
            .collect::<Vec<_>>()
            .into(),
    };
    let nodes = vec![
        node("Mul", &["x", "w"], &["middle"]),
        node("Neg", &["middle"], &["y"]),
    ];
    let proto = message(graph(
        &[("x", Dtype::Float16)],
        &["y"],
        &[("w", half(&[2.0, 3.0]))],
        nodes,
    ));
    let inputs = feeds(&[("x", half(&[1.5, -1.0]))]);
    let outputs = session(proto, &inputs, &["middle", "x"])
        .unwrap()
        .run(&inputs)
        .unwrap();
    close(&outputs[0].to_f32().unwrap(), &[-3.0, 3.0]);
    close(&outputs[1].to_f32().unwrap(), &[3.0, -3.0]);
    assert_eq!(outputs[2], inputs["x"]);
}

#[test]
fn normalising_by_the_batch_uses_its_own_statistics() {
    let ones = |value: f32| TensorRef::from_f32(vec![1], &[value]);
    let norm = int(
        node(
            "BatchNormalization",
            &["x", "s", "b", "m", "v"],
            &["y", "mean", "var"],
        ),
        "training_mode",
        1,
    );
    let constants = [
        ("s", ones(2.0)),
        ("b", ones(1.0)),
        ("m", ones(9.0)),
        ("v", ones(9.0)),
    ];
    let proto = message(graph(
        &[("x", Dtype::Float)],
        &["y"],
        &constants,
        vec![norm],
    ));
    let got = run(
        proto,
        &[("x", TensorRef::from_f32(vec![2, 1, 1], &[3.0, 5.0]))],
    );
    assert!(
        (got[0][0] + 1.0).abs() < 1e-4 && (got[0][1] - 3.0).abs() < 1e-4,
        "{got:?}"
    );
}

/// A node that asks for shapes stands beside them, since these rules do not ask for any.
#[test]
fn sums_over_rows_are_those_of_the_elements() {
    let x: Vec<f32> = (0..24).map(|at| (at * at % 17) as f32).collect();
    let cases: [(&str, &[i64], i64); 6] = [
        ("x", &[0, 2], 1),
        ("x", &[-1, 0], 0),
        ("y", &[2], 1),
        ("y", &[0, 2, 3], 0),
        ("x", &[0, 1, 2], 1),
        ("x", &[1], 1),
    ];
    for (name, axes, keep) in cases {
        let reduce = |op: &str| {
            int(
                ints(node(op, &[name], &[op]), "axes", axes),
                "keepdims",
                keep,
            )
        };
        let nodes = vec![
            reduce("ReduceSum"),
            reduce("ReduceMean"),
            node("Squeeze", &["x"], &["z"]),
        ];
        let mut proto = message(graph(
            &[("x", Dtype::Float), ("y", Dtype::Float)],
            &["ReduceSum", "ReduceMean", "z"],
            &[],
            nodes,
        ));
        proto.opset_import[0].version = Some(11);
        let feed = |dims: &[usize]| TensorRef::from_f32(dims.to_vec(), &x);
        let inputs = feeds(&[("x", feed(&[1, 4, 6])), ("y", feed(&[1, 4, 6, 1]))]);
        let got = session(proto, &inputs, &[]).unwrap().run(&inputs).unwrap();
        let (rows, width, stride) = match axes {
            [1] => (6, 4, 6),
            [0, 1, 2] => (1, 24, 1),
            _ => (4, 6, 1),
        };
        let first = |row: usize| if axes == [1] { row } else { row * width };
        let sums: Vec<f32> = (0..rows)
            .map(|row| (0..width).map(|at| x[first(row) + at * stride]).sum())
            .collect();
        let means = sums
            .iter()
            .map(|sum| sum / width as f32)
            .collect::<Vec<_>>();
        close(&got[0].to_f32().unwrap(), &sums);
        close(&got[1].to_f32().unwrap(), &means);
        let extents = inputs[name].dims.iter().enumerate();
        let reduced = |axis: usize| {
            axes.contains(&(axis as i64))
                || axes.contains(&(axis as i64 - inputs[name].dims.len() as i64))
        };
        let dims: Vec<usize> = extents
            .filter(|(axis, _)| keep == 1 || !reduced(*axis))
            .map(|(axis, dim)| if reduced(axis) { 1 } else { *dim })
            .collect();
        assert_eq!(
            (&got[0].dims, &got[1].dims),
            (&dims, &dims),
            "{name} {axes:?}"
        );
    }
}

#[test]
fn other_shapes_than_the_example_are_an_error_not_a_panic() {
    let proto = message(graph(
        &[("x", Dtype::Float)],
        &["y"],
        &[],
        vec![node("Relu", &["x"], &["y"])],
    ));
    let session = session(proto, &feeds(&[("x", floats(&[2], 0.0))]), &[]).unwrap();
    assert!(session.run(&feeds(&[("x", floats(&[3], 0.0))])).is_err());
    assert!(session.run(&Tensors::new()).is_err());
}

fn of_text(text: &str, inputs: &[(&str, TensorRef)]) -> Result<Box<dyn Session>, Unverifiable> {
    TractRuntime::new(true).prepare(
        &crate::model::text::model(text).unwrap(),
        &feeds(inputs),
        &[],
    )
}

/// tract reads extents of these unchecked, which ends the process.
#[test]
fn what_does_not_fit_is_refused_by_name() {
    let refused = |text: &str, dims: &[usize]| {
        of_text(text, &[("x", floats(dims, 0.0))])
            .err()
            .unwrap()
            .reason
    };
    let numbers = "const s f32[8] = positive\n";
    for (dims, shape) in [(&[8][..], "8"), (&[], "")] {
        let norm = format!(
            "input x f32[{shape}]\n{numbers}z = BatchNormalization(x, s, s, s, s)\noutput z"
        );
        assert!(
            refused(&norm, dims).contains("BatchNormalization 'z'"),
            "{}",
            refused(&norm, dims)
        );
    }
    // In constants that are folded, and in a branch.
    let hidden = format!(
        "input x f32[2]\n{numbers}c = BatchNormalization(s, s, s, s, s)\nz = Mul(c, c)\ny = Concat(x, z) {{axis=0}}\noutput y"
    );
    assert!(refused(&hidden, &[2]).contains("BatchNormalization 'c'"));
    let branch = format!(
        "input x f32[8]\n{numbers}const zero f32[] = 0\nm = ReduceMax(x) {{keepdims=0}}\nc = Less(m, zero)\n\
         z = If(c) {{then_branch=@a, else_branch=@b}}\noutput z\n\
         graph a\nr = BatchNormalization(x, s, s, s, s)\noutput r\nend\ngraph b\nr = Neg(x)\noutput r\nend"
    );
    assert!(refused(&branch, &[8]).contains("BatchNormalization 'r'"));
    assert!(
        refused(
            "opset 17\ninput x f32[]\nz = DFT(x) {axis=7}\noutput z",
            &[]
        )
        .contains("DFT 'z'")
    );
    let window = "input x f32[2,3]\nconst w f32[4,3]\nz = Conv(x, w)\noutput z";
    assert!(refused(window, &[2, 3]).contains("Conv 'z'"));
}

#[test]
fn a_pad_as_wide_as_numbers_go_does_not_overflow() {
    for mode in ["constant", "wrap", "edge"] {
        for pads in [
            [i64::MIN, 0],
            [0, i64::MIN],
            [i64::MAX, i64::MAX],
            [i64::MIN; 2],
        ] {
            let [before, after] = pads;
            let text = format!(
                "opset 19\ninput x f32[4]\nconst p i64[2] = {before}, {after}\ny = Pad(x, p) {{mode=\"{mode}\"}}\noutput y"
            );
            let grown = of_text(&text, &[("x", floats(&[4], 0.0))]).and_then(|session| {
                let run = session.run(&feeds(&[("x", floats(&[4], 0.0))]));
                run.map_err(|error| Unverifiable::new(error.0))
            });
            let len = grown.map_or(0, |values| values[0].dims.iter().product());
            assert!(len <= 4, "{text}");
        }
    }
}

#[test]
fn an_index_that_is_not_there_names_its_input() {
    let text = "const t f32[4,3]\ninput i i64[2]\nconst last i64[1] = 1\np = Unsqueeze(i, last)\ny = GatherND(t, p)\noutput y";
    let session = of_text(text, &[("i", TensorRef::from_i64(vec![2], &[0, 3]))]).unwrap();
    let error = session
        .run(&feeds(&[("i", TensorRef::from_i64(vec![2], &[0, 9]))]))
        .unwrap_err();
    assert!(
        error.0.contains("the values of 'i' do not fit") && error.0.contains("give inputs"),
        "{error}"
    );
}
