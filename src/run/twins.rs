//! Two ways of writing one computation, of which tract lacks the first: both must give the same.

use super::{Runtime, Tensors, TractRuntime};
use crate::model::{TensorRef, text};

fn floats(dims: &[usize]) -> TensorRef {
    let elements: Vec<f32> = (0..dims.iter().product()).map(|at: usize| (at as f32 * 0.7 + 0.3).sin()).collect();
    TensorRef::from_f32(dims.to_vec(), &elements)
}

fn feeds(inputs: &[(&str, TensorRef)]) -> Tensors {
    inputs.iter().map(|(name, tensor)| ((*name).to_owned(), tensor.clone())).collect()
}

fn run(model: &str, inputs: &Tensors) -> Vec<TensorRef> {
    let model = text::model(model).unwrap();
    TractRuntime::new(true).prepare(&model, inputs, &[]).unwrap().run(inputs).unwrap()
}

fn close(left: &TensorRef, right: &TensorRef) {
    assert_eq!(left.dims, right.dims);
    let (left, right) = (left.to_f32().unwrap(), right.to_f32().unwrap());
    assert!(left.iter().any(|x| x.abs() > 1e-3), "nothing to compare");
    assert!(left.iter().zip(&right).all(|(left, right)| (left - right).abs() < 1e-5), "{left:?} {right:?}");
}

fn twins(first: &str, second: &str, inputs: &[(&str, TensorRef)]) {
    let inputs = feeds(inputs);
    let (first, second) = (run(first, &inputs), run(second, &inputs));
    assert_eq!(first.len(), second.len());
    first.iter().zip(&second).for_each(|(first, second)| close(first, second));
}

#[test]
fn a_loop_is_its_turns() {
    let body = "graph body\ninput i i64[]\ninput on bool[]\ninput s f32[2,3]\nt = Tanh(s)\nn = MatMul(t, w)\n\
        f = Cast(i) {to=1}\nr = Add(n, f)\nmore = Identity(on)\noutput more\noutput n\noutput r\nend\n";
    let head = "input x f32[2,3]\nconst w f32[3,3]\nconst three i64[] = 3\n";
    let rolled = format!("{head}{body}y, z = Loop(three, _, x) {{body=@body}}\noutput y\noutput z");
    let flat = format!(
        "{head}const first i64[1] = 0\nconst one f32[] = 1\nconst two f32[] = 2\na = Tanh(x)\nb = MatMul(a, w)\nc = Tanh(b)\nd = MatMul(c, w)\n\
         e = Tanh(d)\ny = MatMul(e, w)\nd1 = Add(d, one)\ny2 = Add(y, two)\np = Unsqueeze(b, first)\nq = Unsqueeze(d1, first)\n\
         r = Unsqueeze(y2, first)\nz = Concat(p, q, r) {{axis=0}}\noutput y\noutput z"
    );
    twins(&rolled, &flat, &[("x", floats(&[2, 3]))]);
}

#[test]
fn a_loop_ends_when_its_counter_says_so_and_fills_a_sequence() {
    let rolled = "input x f32[2,3]\nconst zero i64[] = 0\nconst one i64[] = 1\nconst two i64[] = 2\n\
        graph body\ninput i i64[]\ninput on bool[]\ninput at i64[]\ninput list\nnext = Add(at, one)\nmore = Less(next, two)\n\
        f = Cast(next) {to=1}\nrow = Mul(x, f)\nlonger = SequenceInsert(list, row)\noutput more\noutput next\noutput longer\nend\n\
        empty = SequenceEmpty()\nstart = Less(zero, two)\nn, list = Loop(_, start, zero, empty) {body=@body}\n\
        y = ConcatFromSequence(list) {axis=0}\noutput y";
    let flat = "input x f32[2,3]\nconst two f32[] = 2\nd = Mul(x, two)\ny = Concat(x, d) {axis=0}\noutput y";
    twins(rolled, flat, &[("x", floats(&[2, 3]))]);
}

#[test]
fn a_sequence_is_its_tensors() {
    let listed = "input x f32[2,7]\nconst sizes i64[3] = 2, 4, 1\nconst last i64[] = -1\nconst first i64[] = 0\n\
        parts = SplitToSequence(x, sizes) {axis=1}\na = SequenceAt(parts, last)\nb = SequenceAt(parts, first)\n\
        o = Optional(b)\nc = OptionalGetElement(o)\nagain = SequenceConstruct(a, c)\ny = ConcatFromSequence(again) {axis=1}\noutput y";
    let flat = "input x f32[2,7]\nconst sizes i64[3] = 2, 4, 1\na, b, c = Split(x, sizes) {axis=1}\ny = Concat(c, a) {axis=1}\noutput y";
    twins(listed, flat, &[("x", floats(&[2, 7]))]);
}

#[test]
fn the_bias_of_an_attention_is_added_before() {
    let head = "input q f32[2,3,8]\ninput k f32[2,5,8]\ninput v f32[2,5,4]\nconst b f32[20]\n";
    let fused = format!("{head}y = com.microsoft.MultiHeadAttention(q, k, v, b) {{num_heads=2}}\noutput y");
    let apart = format!(
        "{head}const sizes i64[3] = 8, 8, 4\nbq, bk, bv = Split(b, sizes) {{axis=0}}\nq1 = Add(q, bq)\nk1 = Add(k, bk)\nv1 = Add(v, bv)\n\
         y = com.microsoft.MultiHeadAttention(q1, k1, v1) {{num_heads=2}}\noutput y"
    );
    twins(&fused, &apart, &[("q", floats(&[2, 3, 8])), ("k", floats(&[2, 5, 8])), ("v", floats(&[2, 5, 4]))]);
}

/// Three tokens and then two more give what five at once do.
#[test]
fn a_cache_of_keys_and_values_takes_the_place_of_earlier_tokens() {
    let head = "const cos f32[8,2]\nconst sin f32[8,2]\n";
    let call = "com.microsoft.GroupQueryAttention";
    let settings = "{num_heads=4, kv_num_heads=2, do_rotary=1}";
    let whole = format!(
        "{head}input q f32[1,5,16]\ninput k f32[1,5,8]\ninput v f32[1,5,8]\nconst n i32[1] = 4\nconst total i32[] = 5\n\
         y, pk, pv = {call}(q, k, v, _, _, n, total, cos, sin) {settings}\noutput y\noutput pk\noutput pv"
    );
    let steps = format!(
        "{head}input q f32[1,5,16]\ninput k f32[1,5,8]\ninput v f32[1,5,8]\nconst n3 i32[1] = 2\nconst three i32[] = 3\n\
         const n i32[1] = 4\nconst total i32[] = 5\nconst sizes i64[2] = 3, 2\nqa, qb = Split(q, sizes) {{axis=1}}\n\
         ka, kb = Split(k, sizes) {{axis=1}}\nva, vb = Split(v, sizes) {{axis=1}}\n\
         ya, ck, cv = {call}(qa, ka, va, _, _, n3, three, cos, sin) {settings}\n\
         yb, pk, pv = {call}(qb, kb, vb, ck, cv, n, total, cos, sin) {settings}\ny = Concat(ya, yb) {{axis=1}}\noutput y\noutput pk\noutput pv"
    );
    twins(&whole, &steps, &[("q", floats(&[1, 5, 16])), ("k", floats(&[1, 5, 8])), ("v", floats(&[1, 5, 8]))]);
}

#[test]
fn a_norm_with_computed_numbers_and_a_product_of_doubles() {
    let numbers = "const b f32[3]\nconst m f32[3]\nconst v f32[3] = positive\n";
    let computed = format!(
        "input x f32[2,3,4]\nconst s f32[3]\n{numbers}t = Shape(x)\nz = ReduceMax(x) {{keepdims=0}}\nn = Sub(z, z)\n\
        g = Add(s, n)\ny = BatchNormalization(x, g, b, m, v)\noutput y"
    );
    let plain = format!("input x f32[2,3,4]\nconst s f32[3]\n{numbers}y = BatchNormalization(x, s, b, m, v)\noutput y");
    twins(&computed, &plain, &[("x", floats(&[2, 3, 4]))]);
    let head = "input x f32[2,3]\nconst w f32[5,3]\nconst b f32[5]\n";
    let double = format!(
        "{head}xd = Cast(x) {{to=11}}\nwd = Cast(w) {{to=11}}\nbd = Cast(b) {{to=11}}\n\
        yd = Gemm(xd, wd, bd) {{transB=1, alpha=0.5, beta=2.0}}\ny = Cast(yd) {{to=1}}\noutput y"
    );
    let single = format!("{head}y = Gemm(x, w, b) {{transB=1, alpha=0.5, beta=2.0}}\noutput y");
    twins(&double, &single, &[("x", floats(&[2, 3]))]);
}

#[test]
fn indices_from_the_end_gather_the_same() {
    let with = |indices: &str| format!("input x f32[4,3]\nconst i i64[2,1] = {indices}\ny = GatherND(x, i)\noutput y");
    twins(&with("-1, 0"), &with("3, 0"), &[("x", floats(&[4, 3]))]);
}
