//! Shapes that are computed from tensors whose channels are cut.

use onnx_prune::analysis::{Options, Pins};
use onnx_prune::model::{Index, Model, TensorRef, text};
use onnx_prune::proto::{ValueInfoProto, type_proto};
use onnx_prune::run::{Tensors, TractRuntime};
use onnx_prune::verify::Verdict;
use onnx_prune::workspace::Workspace;

use super::Structure;

#[test]
fn zeros_like_another_tensor() {
    // Two tensors of equal width that are cut apart: what is made after the shape of one is added to the other.
    let text = "input x f32[n,4,t]\nconst a f32[16,4,3]\nconst b f32[16,4,3]\nconst c f32[2,16,1]\nconst d f32[2,16,1]
        f = Conv(x, a) {pads=[1,1]}\nr = Relu(f)\ns = Shape(r)\nz = ConstantOfShape(s)\ng = Conv(x, b) {pads=[1,1]}\no = Add(z, g)\nk = Conv(r, c)\nl = Conv(o, d)\ny = Add(k, l)\noutput y";
    Structure::new(text, 99.0).coarse(&[16, 16]).holds();
    // Through pieces of the shape, put together again.
    let pieces = "s = Shape(r)\ns0 = Gather(s, first) {axis=0}\ns1 = Gather(s, second) {axis=0}\ns2 = Slice(s, two, three)\nu0 = Unsqueeze(s0, ax)\nu1 = Unsqueeze(s1, ax)\nv = Concat(u0, u1, s2) {axis=0}\nw = Cast(v) {to=6}\nw1 = Cast(w) {to=7}\nz = ConstantOfShape(w1)\nconst first i64[] = 0\nconst second i64[] = 1\nconst two i64[1] = 2\nconst three i64[1] = 3\nconst ax i64[1] = 0";
    Structure::new(
        &text.replace("s = Shape(r)\nz = ConstantOfShape(s)", pieces),
        99.0,
    )
    .coarse(&[16, 16])
    .holds();
    // A single number broadcast to the shape of the other.
    let expanded = "s = Shape(r)\nz = Expand(number, s)\nconst number f32[1] = 0.5";
    Structure::new(
        &text.replace("s = Shape(r)\nz = ConstantOfShape(s)", expanded),
        99.0,
    )
    .coarse(&[16, 16])
    .holds();
}

#[test]
fn zeros_like_a_sum_that_flows_on() {
    let text = "input x f32[n,4,t]\nconst a f32[16,4,3]\nconst b f32[32,16,3]\nconst c f32[16,16,1]\nconst d f32[2,16,1]\nconst c0 i64[1] = 0\nconst c16 i64[1] = 16\nconst c32 i64[1] = 32\nconst ax i64[1] = 1
        f = Conv(x, a) {pads=[1,1]}\nr = Relu(f)\ns = Shape(r)\nz = ConstantOfShape(s)\ng = Conv(r, b) {pads=[1,1]}\ng0 = Slice(g, c0, c16, ax)\ng1 = Slice(g, c16, c32, ax)\nr2 = Add(r, g0)\no = Add(z, g1)\nk = Conv(r2, c)\no2 = Add(o, k)\ny = Conv(o2, d)\noutput y";
    Structure::new(text, 99.0).coarse(&[16, 16]).holds();
}

#[test]
fn a_shape_whose_batch_is_not_known_holds_heads_merged_into_it() {
    let text = "input x f32[n,6]\nconst a f32[6,16]\nconst b f32[6,16]\nconst c f32[4,3]\nconst apart i64[2] = -1,4\nconst back i64[2] = -1,12
        f = MatMul(x, a)\nr = Reshape(f, apart)\ns = Shape(r)\nz = ConstantOfShape(s)\ng = MatMul(x, b)\nh = Reshape(g, apart)\no = Add(z, h)\np = Add(o, r)\nk = MatMul(p, c)\ny = Reshape(k, back)\noutput y";
    Structure::new(text, 40.0).holds();
}

#[test]
fn positions_are_padded_with_what_stands_beside_them() {
    for (mode, rows) in [
        ("reflect", "8"),
        ("edge", "8"),
        ("reflect", "h"),
        ("constant", "8"),
    ] {
        let text = format!(
            "input x f32[1,3,{rows},8]\nconst a f32[8,3,3,3]\nconst b f32[4,8,3,3]\nconst pads i64[8] = 0,0,1,2,0,0,1,2
            f = Conv(x, a) {{pads=[1,1,1,1]}}\np = Pad(f, pads) {{mode=\"{mode}\"}}\ny = Conv(p, b)\noutput y"
        );
        let rows = rows != "h" || mode == "constant";
        let structure = Structure::new(&text, 99.0).coarse(&[8]);
        // Two positions are too few to be mirrored.
        if rows {
            structure.holds()
        } else {
            Structure::analysed(&text, 99.0, &[8])
        }
        if mode != "constant" && rows {
            let old = text.replace("p = Pad(f, pads)", "p = Pad(f)").replace(
                &format!("mode=\"{mode}\""),
                &format!("mode=\"{mode}\", pads=[0,0,1,2,0,0,1,2]"),
            );
            Structure::new(&format!("opset 9\n{old}"), 99.0)
                .coarse(&[8])
                .holds();
        }
    }
}

#[test]
fn pads_as_torch_computes_them() {
    // [1, 2, 1, 2] for the last two axes, filled up with zeros, turned round and transposed.
    let text = "opset 11\ninput x f32[1,3,8,8]\nconst a f32[8,3,3,3]\nconst b f32[4,8,3,3]\nconst given i64[4] = 1,2,1,2\nconst more i64[1] = 4\nconst pairs i64[2] = -1,2\nconst flat i64[1] = -1\nconst from i64[1] = -1\nconst to i64[1] = -9223372036854775807\nconst ax i64[1] = 0\nconst step i64[1] = -1
        f = Conv(x, a) {pads=[1,1,1,1]}\nzeros = ConstantOfShape(more)\nz = Cast(zeros) {to=7}\nall = Concat(given, z) {axis=0}\np = Reshape(all, pairs)\nq = Slice(p, from, to, ax, step)\nr = Transpose(q) {perm=[1,0]}\ns = Reshape(r, flat)\nt = Cast(s) {to=7}\ng = Pad(f, t) {mode=\"reflect\"}\ny = Conv(g, b)\noutput y";
    Structure::new(text, 99.0).coarse(&[8]).holds();
    // As many zeros as the rank of the tensor asks for.
    let counted = "sh = Shape(f)\nrank = Shape(sh)\ntwice = Mul(rank, two)\nmore = Sub(twice, four)\nconst two i64[1] = 2\nconst four i64[1] = 4";
    Structure::new(
        &text
            .replace("const more i64[1] = 4\n", "")
            .replace("zeros = ", &format!("{counted}\nzeros = ")),
        99.0,
    )
    .coarse(&[8])
    .holds();
}

#[test]
fn a_constant_that_is_read_for_its_shape_too() {
    let text = "input x f32[2,8]\nconst w f32[8,4,6]\nconst v f32[6,5]\nconst flat i64[2] = 8,24\nconst back i64[3] = 2,4,6
        s = Shape(w)\nt = Transpose(w) {perm=[0,2,1]}\nu = Transpose(t) {perm=[0,2,1]}\nr = Reshape(u, s)\nm = Reshape(r, flat)\nh = MatMul(x, m)\nh3 = Reshape(h, back)\ne = Relu(h3)\nz = MatMul(e, v)\ny = ReduceSum(z, ax)\nconst ax i64[1] = 1\noutput y";
    Structure::new(text, 80.0).holds();
    // Of this one only the shape is read: there is nothing in it to cut.
    let alone = "input x f32[2,24]\nconst w f32[4,6]\nconst v f32[24,24]\nconst o f32[6,3]
        h0 = MatMul(x, v)\ns = Shape(w)\nlead = Concat(two, s) {axis=0}\nh = Reshape(h0, lead)\nz = MatMul(h, o)\ny = ReduceSum(z, ax)\nconst two i64[1] = 2\nconst ax i64[1] = 1\noutput y";
    Structure::new(alone, 90.0).holds();
}

#[test]
fn an_input_of_unknown_rank_has_that_of_what_it_is_run_with() {
    let text = "input x f32[n,4]\nconst a f32[4,8]\nconst b f32[8,6]\nconst c f32[6,3]\nf = MatMul(x, a)\ng = Relu(f)\nh = MatMul(g, b)\nk = Relu(h)\ny = MatMul(k, c)\noutput y";
    let mut message = text::message(text).unwrap();
    let undeclare = |info: &mut ValueInfoProto| {
        if let Some(type_proto::Value::TensorType(tensor)) =
            info.r#type.as_mut().and_then(|kind| kind.value.as_mut())
        {
            tensor.shape = None;
        }
    };
    message
        .graph
        .iter_mut()
        .flat_map(|graph| &mut graph.input)
        .for_each(undeclare);
    let model = Model::new(message, Default::default()).unwrap();
    let pins = Pins::from([("x".to_owned(), vec![2, 4])]);
    let prepared = Workspace::new(
        &model,
        &Options {
            pins,
            ..Default::default()
        },
    )
    .unwrap();
    assert_eq!(
        prepared
            .analysis
            .groups
            .iter()
            .map(|group| group.units.len())
            .collect::<Vec<_>>(),
        [8, 6]
    );
    let selection = prepared.select(&[vec![0, 3, 4], vec![5]]);
    let pruned = prepared.cut(&selection, &[]).unwrap();
    prepared.check(&pruned, &selection).unwrap();
    assert_eq!(
        pruned.graph(Index::MAIN).input,
        model.graph(Index::MAIN).input
    );
    let inputs = Tensors::from_iter([(
        "x".to_owned(),
        TensorRef::from_f32(vec![2, 4], &[0.5, -1.0, 2.0, 0.25, 1.0, -0.5, 0.75, 3.0]),
    )]);
    let runtime = TractRuntime::new(false);
    let ran = crate::engines::original(&runtime, &model, &inputs).unwrap();
    let (outcome, _) = crate::engines::judge(&ran, &model, &prepared, &selection, &pruned, &inputs);
    assert_eq!(outcome.verdict, Verdict::Exact);
}
