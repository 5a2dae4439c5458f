//! Control flow whose bodies read weights that stand outside.

use onnx_prune::model::{Model, Source, text};
use onnx_prune::proto::{FunctionProto, OperatorSetIdProto};

use super::Structure;

#[test]
fn branches_with_weights_outside_and_inside() {
    let text = "input x f32[n,4]\nconst a f32[4,8]\nconst b f32[8,6]\nconst k f32[8,6]\nconst o f32[6,3]\nconst c bool[] = 1
        h = MatMul(x, a)\nr = Relu(h)\nz = If(c) {then_branch=@one, else_branch=@two}\ny = MatMul(z, o)\noutput y
        graph one\nt = MatMul(r, b)\noutput t\nend\ngraph two\nt = MatMul(r, k)\noutput t\nend";
    Structure::new(text, 70.0).coarse(&[6, 8]).holds();
}

#[test]
fn a_loop_carries_hidden_units() {
    let text = "input x f32[n,4]\nconst a f32[4,8]\nconst w f32[8,5]\nconst v f32[5,8]\nconst o f32[8,3]\nconst trips i64[] = 3\nconst on bool[] = 1
        h = MatMul(x, a)\nz = Loop(trips, on, h) {body=@step}\ny = MatMul(z, o)\noutput y
        graph step\ninput i i64[]\ninput c bool[]\ninput s f32[n,8]\nc1 = Identity(c)\nu = MatMul(s, w)\nr = Relu(u)\nt = MatMul(r, v)\ns1 = Add(s, t)\noutput c1\noutput s1\nend";
    Structure::analysed(text, 99.0, &[5, 8]);
}

#[test]
fn a_scan_carries_hidden_units() {
    let text = "input x f32[3,n,4]\nconst h0 f32[2,6]\nconst a f32[4,6]\nconst w f32[6,6]\nconst o f32[6,3]
        z, all = Scan(h0, x) {body=@step, num_scan_inputs=1}\ny = MatMul(all, o)\noutput y
        graph step\ninput s f32[2,6]\ninput e f32[2,4]\nu = MatMul(e, a)\nr = MatMul(s, w)\nv = Add(u, r)\nt = Tanh(v)\nt1 = Identity(t)\noutput t\noutput t1\nend";
    Structure::analysed(text, 90.0, &[6]);
}

/// A function whose body is written as a graph: its inputs and outputs are the graph's.
fn function(name: &str, body: &str) -> FunctionProto {
    let graph = text::message(body).unwrap().graph.unwrap();
    let import = |domain: &str, version| OperatorSetIdProto {
        domain: Some(domain.into()),
        version: Some(version),
    };
    FunctionProto {
        name: Some(name.into()),
        domain: Some("local".into()),
        input: graph
            .input
            .iter()
            .map(|input| input.name().to_owned())
            .collect(),
        output: graph
            .output
            .iter()
            .map(|output| output.name().to_owned())
            .collect(),
        node: graph.node,
        opset_import: vec![import("", 17), import("local", 1)],
        ..Default::default()
    }
}

#[test]
fn functions_called_twice_and_nested() {
    let text =
        "input x f32[n,4]\nconst a f32[4,6]\nconst u f32[6,8]\nconst d f32[8,6]\nconst u2 f32[6,9]\nconst d2 f32[9,6]\nconst o f32[6,3]
        h = MatMul(x, a)\nb = local.Block(h, u, d)\nc = local.Block(b, u2, d2)\ny = MatMul(c, o)\noutput y";
    let mut proto = text::message(text).unwrap();
    let block = "input x\ninput up\ninput down\nr = local.Wide(x, up)\nt = MatMul(r, down)\ny = Add(x, t)\noutput y";
    let wide = "input x\ninput up\nt = MatMul(x, up)\ny = Relu(t)\noutput y";
    proto.functions = vec![function("Block", block), function("Wide", wide)];
    let model = Model::new(proto, Source::default()).unwrap();
    Structure::new(text, 99.0)
        .coarse(&[6, 8, 9])
        .holds_of(&model);
}

#[test]
fn a_slice_to_an_end_computed_from_the_extent_that_is_cut() {
    let text = "input x f32[n,6]\nconst a f32[6,8]\nconst b f32[8,5]\nconst from i64[2] = 0,0
        h = MatMul(x, a)\nr = Relu(h)\ns = Shape(h)\nr1 = Slice(r, from, s)\ny = MatMul(r1, b)\noutput y";
    Structure::new(text, 99.0).coarse(&[8]).holds();
}

#[test]
fn an_index_that_is_read_for_its_shape_alone() {
    // As in BART: the last channel is read to find out how many samples and tokens there are.
    let text = "input x f32[n,3,5]\nconst a f32[5,8]\nconst b f32[8,4]\nconst last i64[] = -1\nconst rest i64[1] = 4
        h = MatMul(x, a)\nc = Gather(h, last) {axis=2}\ns = Shape(c)\nr = Relu(h)\nz = MatMul(r, b)\nt = Concat(s, rest) {axis=0}\ny = Reshape(z, t)\noutput y";
    Structure::new(text, 99.0).coarse(&[8]).fine(&[8]).holds();
    // Where its number is used it stays.
    Structure::new(
        &text.replace("output y", "y1 = Identity(c)\noutput y\noutput y1"),
        0.0,
    )
    .holds();
}

#[test]
fn sequences_of_known_length_hold_the_tensors_that_go_through_them() {
    let text = "input x f32[n,4]\nconst a f32[4,8]\nconst b f32[8,10]\nconst c f32[5,6]\nconst d f32[5,6]\nconst e f32[12,3]\nconst five i64[] = 5\nconst zero i64[] = 0\nconst last i64[] = -1
        h = MatMul(x, a)\nr = Relu(h)\nk = MatMul(r, b)\ns = SplitToSequence(k, five) {axis=1}\nk0 = SequenceAt(s, zero)\nk1 = SequenceAt(s, last)
        p = MatMul(k0, c)\nq = MatMul(k1, d)\nempty = SequenceEmpty()\nt0 = SequenceInsert(empty, p)\nt1 = SequenceInsert(t0, q)\nz = ConcatFromSequence(t1) {axis=1}\ny = MatMul(z, e)\noutput y";
    Structure::new(text, 99.0).coarse(&[5, 5, 6, 6, 8]).holds();
    // Built in the branch that is always taken, as torch writes a split.
    let branch = "t1 = If(yes) {then_branch=@two, else_branch=@none}\nconst yes bool[] = 1";
    let graphs = "output y\ngraph two\nw = SequenceConstruct(p, q)\noutput w\nend\ngraph none\nw = SequenceEmpty()\noutput w\nend";
    let text = text
        .replace(
            "empty = SequenceEmpty()\nt0 = SequenceInsert(empty, p)\nt1 = SequenceInsert(t0, q)",
            branch,
        )
        .replace("output y", graphs);
    Structure::new(&text, 99.0).coarse(&[5, 5, 6, 6, 8]).holds();
}

#[test]
fn a_loop_that_fills_a_sequence() {
    // torch.tensor_split: slices between given places, put into a sequence turn after turn.
    let text = "input x f32[n,4]\nconst a f32[4,12]\nconst b f32[5,6]\nconst c f32[7,6]\nconst e f32[6,3]\nconst places i64[3] = 0,5,12\nconst trips i64[] = 2\nconst on bool[] = 1\nconst zero i64[] = 0\nconst one i64[] = 1\nconst ax i64[1] = 1\nconst lead i64[1] = 0
        h = MatMul(x, a)\nr = Relu(h)\nempty = SequenceEmpty()\ns = Loop(trips, on, empty) {body=@step}\nk0 = SequenceAt(s, zero)\nk1 = SequenceAt(s, one)\np = MatMul(k0, b)\nq = MatMul(k1, c)\nz = Add(p, q)\ny = MatMul(z, e)\noutput y
        graph step\ninput i i64[]\ninput go bool[]\ninput held\ngo1 = Identity(go)\nj = Add(i, one)\nfrom0 = Gather(places, i)\nto0 = Gather(places, j)\nfrom = Unsqueeze(from0, lead)\nto = Unsqueeze(to0, lead)\npart = Slice(r, from, to, ax)\nheld1 = SequenceInsert(held, part)\noutput go1\noutput held1\nend";
    Structure::new(text, 99.0).coarse(&[5, 6, 7]).holds();
}
