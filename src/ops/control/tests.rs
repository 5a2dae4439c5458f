use super::*;
use crate::proto::{AttributeProto, NodeProto, attribute_proto::AttributeType};

fn fact(dims: &[i64]) -> Fact {
    Fact::new(
        Some(Dtype::Float),
        dims.iter().copied().map(Dim::Num).collect(),
    )
}

fn node(op_type: &str, outputs: usize, ints: &[(&str, i64)]) -> NodeProto {
    let attribute = ints
        .iter()
        .map(|(name, value)| AttributeProto {
            name: Some((*name).into()),
            r#type: Some(AttributeType::Int as i32),
            i: Some(*value),
            ..Default::default()
        })
        .collect();
    let output = (0..outputs).map(|at| format!("out{at}")).collect();
    NodeProto {
        op_type: Some(op_type.into()),
        output,
        attribute,
        ..Default::default()
    }
}

fn branch(attribute: &str, formals: &[Fact], results: &[Fact]) -> Branch {
    Branch {
        attribute: attribute.into(),
        formals: formals.to_vec(),
        results: results.to_vec(),
    }
}

fn view<'a>(
    node: &'a NodeProto,
    inputs: &[Option<&'a Fact>],
    branches: Vec<Branch>,
) -> NodeView<'a> {
    NodeView {
        node,
        opset: 21,
        inputs: inputs.to_vec(),
        outputs: Vec::new(),
        branches,
        magnitudes: false,
    }
}

fn check(operator: &dyn Operator, view: &NodeView, shapes: &str, relation: &str) {
    let facts = operator.infer(view).unwrap();
    let show = |fact: &Fact| {
        fact.shape.as_ref().map_or("?".into(), |dims| {
            dims.iter()
                .map(Dim::to_string)
                .collect::<Vec<_>>()
                .join("x")
        })
    };
    assert_eq!(facts.iter().map(show).collect::<Vec<_>>().join(" "), shapes);
    let full = NodeView {
        outputs: facts.iter().map(Some).collect(),
        ..view.clone()
    };
    assert_eq!(operator.relate(&full).to_string(), relation);
}

#[test]
fn branches_are_the_output() {
    let (node, condition) = (node("If", 1, &[]), Fact::new(Some(Dtype::Bool), vec![]));
    let branches = |second| {
        vec![
            branch("else_branch", &[], &[fact(&[2, 8])]),
            branch("then_branch", &[], &[second]),
        ]
    };
    let alike = view(&node, &[Some(&condition)], branches(fact(&[2, 8])));
    check(
        &If,
        &alike,
        "2x8",
        "cond[] → y0[a, a2] else0[a, a2] then0[a, a2]",
    );
    let other = view(&node, &[Some(&condition)], branches(fact(&[3, 8])));
    check(
        &If,
        &other,
        "?out0.0x8",
        "cond[] → y0[?out0.0, a] else0[2, a] then0[3, a]",
    );
    let ranks = view(&node, &[Some(&condition)], branches(fact(&[8])));
    check(&If, &ranks, "?", "cond[] else0[2, 8] then0[8]");
}

#[test]
fn a_known_condition_takes_one_branch() {
    let node = node("If", 1, &[]);
    let condition = Fact::new(Some(Dtype::Bool), vec![])
        .with_contents(Contents::new(vec![Element::Bool(true)]));
    let branches = vec![
        branch("else_branch", &[], &[fact(&[2, 8])]),
        branch("then_branch", &[], &[fact(&[16])]),
    ];
    check(
        &If,
        &view(&node, &[Some(&condition)], branches),
        "16",
        "cond[] → y0[a] else0[2, 8] then0[a]",
    );
}

#[test]
fn a_loop_carries_and_stacks() {
    let node = node("Loop", 2, &[]);
    let (state, trips) = (
        fact(&[1, 6]),
        Fact::new(Some(Dtype::Int64), vec![]).with_contents(Contents::ints([Dim::Num(7)])),
    );
    let inputs = [Some(&trips), None, Some(&state)];
    let formals = Loop.formal_facts(&view(&node, &inputs, vec![]), 0);
    assert_eq!(formals[2], state);
    let results = [formals[1].clone(), state.clone(), fact(&[1, 6, 3])];
    let branches = vec![branch("body", &formals, &results)];
    check(
        &Loop,
        &view(&node, &inputs, branches),
        "1x6 7x1x6x3",
        "trips[] x0[a, a2] → y0[a, a2] y1[t, a3, a4, a5] step[] go[] in0[a, a2] on[] out0[a, a2] out1[a3, a4, a5]",
    );
}

#[test]
fn what_grows_in_a_loop_becomes_unknown() {
    let node = node("Loop", 1, &[]);
    let state = fact(&[1, 0, 6]);
    let inputs = [None, None, Some(&state)];
    let first = Loop.formal_facts(&view(&node, &inputs, vec![]), 0);
    let grown = branch("body", &first, &[Fact::default(), fact(&[1, 1, 6])]);
    let second = Loop.formal_facts(&view(&node, &inputs, vec![grown]), 0);
    assert_eq!(second[2].shape.as_ref().unwrap()[1], Dim::symbol("?.1"));
    let more = Fact::new(
        None,
        vec![Dim::Num(1), &Dim::symbol("?.1") + &Dim::Num(1), Dim::Num(6)],
    );
    let branches = vec![branch("body", &second, &[Fact::default(), more])];
    assert_eq!(
        Loop.formal_facts(&view(&node, &inputs, branches.clone()), 0),
        second
    );
    check(
        &Loop,
        &view(&node, &inputs, branches),
        "1x?out0.1x6",
        "x0[a, 0, a2] → y0[a, ?out0.1, a2] step[] go[] in0[a, ?.1, a2] out0[a, ?.1 + 1, a2]",
    );
}

#[test]
fn a_scan_slices_and_stacks() {
    let node = node("Scan", 2, &[("num_scan_inputs", 1)]);
    let (state, data) = (fact(&[2, 6]), fact(&[9, 2, 4]));
    let inputs = [Some(&state), Some(&data)];
    let formals = Scan.formal_facts(&view(&node, &inputs, vec![]), 0);
    assert_eq!(formals, [state.clone(), fact(&[2, 4])]);
    let branches = vec![branch("body", &formals, &[state.clone(), fact(&[2, 5])])];
    check(
        &Scan,
        &view(&node, &inputs, branches.clone()),
        "2x6 9x2x5",
        "x0[a, a2] s0[t, a3, a4] → y0[a, a2] y1[t2, a5, a6] in0[a, a2] slice0[a3, a4] out0[a, a2] out1[a5, a6]",
    );
    let old = NodeView {
        opset: 8,
        ..view(&node, &inputs, branches)
    };
    assert!(
        Scan.relate(&old)
            .labels
            .iter()
            .all(|label| matches!(label.fate, crate::relation::Fate::Fixed(_)))
    );
}
