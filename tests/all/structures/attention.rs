//! Attention in the ways that exporters write it.

use super::Structure;

/// Attention over `q`, `k`, `v` of `[n, heads, t, width]`, back to `[n, t, heads·width]`, projected.
const TAIL: &str = "s = Transpose(k) {perm=[0,1,3,2]}\na = MatMul(q, s)\na1 = Softmax(a) {axis=-1}\nb = MatMul(a1, v)\nb1 = Transpose(b) {perm=[0,2,1,3]}\nb2 = Reshape(b1, flat)\nb3 = MatMul(b2, o)\ny0 = Add(x, b3)\ny = MatMul(y0, h)\noutput y";

#[test]
fn fused_projections_split_in_every_order() {
    // 24 = 3 × 4 heads × 2, told apart by Split, by Reshape and Gather in two orders, and by slices.
    let head = "input x f32[n,3,5]\nconst w f32[5,24]\nconst o f32[8,5]\nconst h f32[5,3]\nconst heads i64[4] = 0,0,4,2\nconst flat i64[3] = 0,0,8\np = MatMul(x, w)\n";
    let part = |name: &str, from: &str| {
        format!(
            "{name}0 = Reshape({from}, heads)\n{name} = Transpose({name}0) {{perm=[0,2,1,3]}}\n"
        )
    };
    let three = |from: [&str; 3]| {
        ["q", "k", "v"]
            .iter()
            .zip(from)
            .map(|(name, from)| part(name, from))
            .collect::<String>()
    };
    let split = format!(
        "const sizes i64[3] = 8\np0, p1, p2 = Split(p, sizes) {{axis=-1}}\n{}",
        three(["p0", "p1", "p2"])
    );
    let gather = "const five i64[5] = 0,0,3,4,2\nconst i0 i64[] = 0\nconst i1 i64[] = 1\nconst i2 i64[] = 2\np1 = Reshape(p, five)\np2 = Transpose(p1) {perm=[2,0,3,1,4]}\nq = Gather(p2, i0) {axis=0}\nk = Gather(p2, i1) {axis=0}\nv = Gather(p2, i2) {axis=0}\n";
    let by_head = "const five i64[4] = 0,0,4,6\nconst sizes i64[3] = 2\np1 = Reshape(p, five)\np2 = Transpose(p1) {perm=[0,2,1,3]}\nq, k, v = Split(p2, sizes) {axis=-1}\n";
    let inner = "const five i64[5] = 0,0,4,3,2\nconst i0 i64[] = 0\nconst i1 i64[] = 1\nconst i2 i64[] = 2\np1 = Reshape(p, five)\np2 = Transpose(p1) {perm=[3,0,2,1,4]}\nq = Gather(p2, i0) {axis=0}\nk = Gather(p2, i1) {axis=0}\nv = Gather(p2, i2) {axis=0}\n";
    let slices = "const z i64[1] = 0\nconst e i64[1] = 8\nconst f i64[1] = 16\nconst g i64[1] = 24\nconst ax i64[1] = 2\np0 = Slice(p, z, e, ax)\np1 = Slice(p, e, f, ax)\np2 = Slice(p, f, g, ax)\n".to_owned()
        + &three(["p0", "p1", "p2"]);
    for middle in [
        split,
        gather.to_owned(),
        by_head.to_owned(),
        inner.to_owned(),
        slices,
    ] {
        let text = format!("{head}{middle}{TAIL}");
        Structure::new(&text, 75.0).coarse(&[4]).holds();
    }
}

/// Rotary embedding of `q0` and `k0` (`[n, heads, t, width]`) with halves of two.
const ROTARY: &str = "const z i64[1] = 0\nconst half i64[1] = 2\nconst end i64[1] = 9223372036854775807\nconst ax i64[1] = 3\nconst cos f32[3,4]\nconst sin f32[3,4]
    qa = Slice(q0, z, half, ax)\nqb = Slice(q0, half, end, ax)\nqn = Neg(qb)\nqr = Concat(qn, qa) {axis=-1}\nq1 = Mul(q0, cos)\nq2 = Mul(qr, sin)\nq = Add(q1, q2)
    ka = Slice(k0, z, half, ax)\nkb = Slice(k0, half, end, ax)\nkn = Neg(kb)\nkr = Concat(kn, ka) {axis=-1}\nk1 = Mul(k0, cos)\nk2 = Mul(kr, sin)\nkk = Add(k1, k2)\n";

/// Six query heads on two key heads (or one) of four.
fn grouped(heads: usize, past: bool) -> String {
    let (repeat, wide) = (6 / heads, heads * 4);
    let (input, join, tail) = match past {
        true => (
            format!("input pk f32[n,{heads},2,4]\ninput pv f32[n,{heads},2,4]\n"),
            "kc = Concat(pk, kk) {axis=2}\nvc = Concat(pv, v0) {axis=2}\n",
            "\noutput kc\noutput vc",
        ),
        false => (String::new(), "kc = Identity(kk)\nvc = Identity(v0)\n", ""),
    };
    let length = if past { 5 } else { 3 };
    format!(
        "input x f32[n,3,5]\n{input}const w f32[5,24]\nconst wk f32[5,{wide}]\nconst wv f32[5,{wide}]\nconst o f32[24,5]\nconst h f32[5,3]\nconst heads i64[4] = 0,0,-1,4\nconst flat i64[3] = 0,0,-1\nconst two i64[1] = 2\nconst more i64[5] = 1,1,{repeat},1,1\nconst merged i64[4] = 0,6,{length},4
        qp = MatMul(x, w)\nkp = MatMul(x, wk)\nvp = MatMul(x, wv)\nqh = Reshape(qp, heads)\nkh = Reshape(kp, heads)\nvh = Reshape(vp, heads)\nq0 = Transpose(qh) {{perm=[0,2,1,3]}}\nk0 = Transpose(kh) {{perm=[0,2,1,3]}}\nv0 = Transpose(vh) {{perm=[0,2,1,3]}}
        {ROTARY}{join}ku = Unsqueeze(kc, two)\nke = Expand(ku, more)\nk = Reshape(ke, merged)\nvu = Unsqueeze(vc, two)\nve = Expand(vu, more)\nv = Reshape(ve, merged)\n{TAIL}{tail}"
    )
}

#[test]
fn grouped_queries_with_rotary_embedding() {
    Structure::new(&grouped(2, false), 80.0)
        .coarse(&[2])
        .holds();
}

#[test]
fn one_key_head_for_all_queries() {
    Structure::new(&grouped(1, false), 50.0).holds();
}

#[test]
fn past_keys_and_values_freeze_heads_unless_they_may_shrink() {
    Structure::new(&grouped(2, true), 0.0).coarse(&[3]).holds();
    let allowed = [("pk", 1), ("pv", 1), ("kc", 1), ("vc", 1)];
    let text = grouped(2, true);
    let model = onnx_prune::model::text::model(&text).unwrap();
    let options = onnx_prune::analysis::Options {
        allowed: allowed
            .iter()
            .map(|(name, axis)| ((*name).to_owned(), *axis))
            .collect(),
        ..Default::default()
    };
    let prepared = onnx_prune::workspace::Workspace::new(&model, &options).unwrap();
    Structure::new(&text, 80.0).reaches(&prepared, options.granularity, &[2]);
    // Dimensions of heads stay, for their axes were not named.
    Structure::new(&text, 0.0)
        .allow(&allowed)
        .coarse(&[2])
        .holds();
    let pruned = prepared.cut(&prepared.select(&[vec![0]]), &[]).unwrap();
    let keys =
        onnx_prune::analysis::declared(&pruned.graph(onnx_prune::model::Index::MAIN).input[1]);
    assert_eq!(
        keys.shape.unwrap()[1].num(),
        Some(1),
        "the graph's input has one head left"
    );
}

#[test]
fn biases_by_head() {
    let text = format!(
        "input x f32[n,3,5]\nconst wq f32[5,8]\nconst wk f32[5,8]\nconst wv f32[5,8]\nconst o f32[8,5]\nconst h f32[5,3]\nconst heads i64[4] = 0,0,4,2\nconst flat i64[3] = 0,0,8\nconst slopes f32[4,1,1]\nconst far f32[3,3]\nconst table f32[5,4]\nconst at i64[3,3] = 0,1,2,1,0,3,2,3,4
        qp = MatMul(x, wq)\nkp = MatMul(x, wk)\nvp = MatMul(x, wv)\nqh = Reshape(qp, heads)\nkh = Reshape(kp, heads)\nvh = Reshape(vp, heads)\nq = Transpose(qh) {{perm=[0,2,1,3]}}\nk = Transpose(kh) {{perm=[0,2,1,3]}}\nv = Transpose(vh) {{perm=[0,2,1,3]}}
        alibi = Mul(slopes, far)\nt1 = Gather(table, at)\nt2 = Transpose(t1) {{perm=[2,0,1]}}\n{}",
        TAIL.replace("a1 = Softmax(a)", "a2 = Add(a, alibi)\na3 = Add(a2, t2)\na1 = Softmax(a3)")
    );
    Structure::new(&text, 75.0).coarse(&[4]).holds();
}

#[test]
fn windowed_attention_with_roll_and_relative_bias() {
    let text = "input x f32[n,4,4,5]\nconst w f32[5,24]\nconst o f32[8,5]\nconst h f32[5,3]\nconst table f32[9,4]\nconst at i64[16] = 4,3,1,0,5,4,2,1,7,6,4,3,8,7,5,4
        const z i64[1] = 0\nconst one i64[1] = 1\nconst end i64[1] = 4\nconst a1 i64[1] = 1\nconst a2 i64[1] = 2\nconst win i64[6] = 0,2,2,2,2,5\nconst rows i64[3] = -1,4,5\nconst heads i64[5] = 0,4,3,4,2\nconst square i64[3] = 4,4,4\nconst flat i64[3] = 0,0,8\nconst back i64[6] = -1,2,2,2,2,5\nconst whole i64[4] = -1,4,4,5
        r0 = Slice(x, one, end, a1)\nr1 = Slice(x, z, one, a1)\nr2 = Concat(r0, r1) {axis=1}\nr3 = Slice(r2, one, end, a2)\nr4 = Slice(r2, z, one, a2)\nr5 = Concat(r3, r4) {axis=2}
        p0 = Reshape(r5, win)\np1 = Transpose(p0) {perm=[0,1,3,2,4,5]}\np2 = Reshape(p1, rows)\np3 = MatMul(p2, w)\np4 = Reshape(p3, heads)\np5 = Transpose(p4) {perm=[2,0,3,1,4]}
        const i0 i64[] = 0\nconst i1 i64[] = 1\nconst i2 i64[] = 2\nq = Gather(p5, i0) {axis=0}\nk = Gather(p5, i1) {axis=0}\nv = Gather(p5, i2) {axis=0}
        s = Transpose(k) {perm=[0,1,3,2]}\na = MatMul(q, s)\nt0 = Gather(table, at)\nt1 = Reshape(t0, square)\nt2 = Transpose(t1) {perm=[2,0,1]}\nb = Add(a, t2)\nb0 = Softmax(b) {axis=-1}\nb1 = MatMul(b0, v)\nb2 = Transpose(b1) {perm=[0,2,1,3]}\nb3 = Reshape(b2, flat)\nb4 = MatMul(b3, o)
        c0 = Reshape(b4, back)\nc1 = Transpose(c0) {perm=[0,1,3,2,4,5]}\nc2 = Reshape(c1, whole)\nc3 = Add(x, c2)\ny = MatMul(c3, h)\noutput y";
    Structure::new(text, 75.0).coarse(&[4]).holds();
}

#[test]
fn gated_layers() {
    let fused = "input x f32[n,3,5]\nconst w f32[5,16]\nconst d f32[8,5]\nconst sizes i64[2] = 8\np = MatMul(x, w)\ng, u = Split(p, sizes) {axis=-1}\ns = Sigmoid(g)\nt = Mul(g, s)\nv = Mul(t, u)\ny = MatMul(v, d)\noutput y";
    let apart = "input x f32[n,3,5]\nconst w f32[5,8]\nconst u f32[5,8]\nconst d f32[8,5]\ng = MatMul(x, w)\ns = Sigmoid(g)\nt = Mul(g, s)\nr = MatMul(x, u)\nv = Mul(t, r)\ny = MatMul(v, d)\noutput y";
    for text in [fused, apart] {
        Structure::new(text, 99.0).coarse(&[8]).holds();
    }
}

#[test]
fn experts_keep_their_routes_and_lose_neurons() {
    // Each expert works on the rows that the router gives it, and adds them back where they came from.
    let text = "input x f32[4,5]\nconst r f32[5,2]\nconst u0 f32[5,6]\nconst d0 f32[6,5]\nconst u1 f32[5,7]\nconst d1 f32[7,5]\nconst one i64[] = 1\nconst nil i64[] = 0\nconst ax i64[1] = 1\nconst zero f32[] = 0
        g = MatMul(x, r)\ng0 = ArgMax(g) {axis=1, keepdims=0}\nm1 = Equal(g0, one)\nm0 = Equal(g0, nil)
        n0 = NonZero(m0)\nt0 = Transpose(n0) {perm=[1,0]}\ne0 = GatherND(x, t0)\ne1 = MatMul(e0, u0)\ne2 = Relu(e1)\ne3 = MatMul(e2, d0)\nbase = Mul(x, zero)\ns0 = ScatterND(base, t0, e3)
        n1 = NonZero(m1)\nt1 = Transpose(n1) {perm=[1,0]}\nf0 = GatherND(x, t1)\nf1 = MatMul(f0, u1)\nf2 = Relu(f1)\nf3 = MatMul(f2, d1)\ns1 = ScatterND(s0, t1, f3)\ny = Add(x, s1)\noutput y";
    Structure::analysed(text, 90.0, &[6, 7]);
}

#[test]
fn experts_looked_up_for_each_token() {
    let text = "opset 18\ninput x f32[n,5]\nconst in f32[5,8]\nconst r f32[8,3]\nconst u f32[3,12,8]\nconst d f32[3,8,6]\nconst o f32[8,4]\nconst two i64[1] = 2\nconst last i64[1] = -1\nconst one i64[1] = 1\nconst more i64[3] = 1,2,1\nconst rows i64[2] = -1,8\nconst apart i64[3] = -1,2,8
        x0 = MatMul(x, in)\ng = MatMul(x0, r)\ng0 = Softmax(g) {axis=-1}\nw, i = TopK(g0, two) {axis=-1}
        a = Unsqueeze(x0, one)\na1 = Expand(a, more)\na2 = Reshape(a1, rows)\ni1 = Reshape(i, last)\ni2 = Unsqueeze(i1, last)
        e = GatherND(u, i2)\na3 = Unsqueeze(a2, last)\nb = MatMul(e, a3)\nb1 = Squeeze(b, last)\nb2, b3 = Split(b1) {axis=1, num_outputs=2}\nb4 = Sigmoid(b2)\nb5 = Mul(b4, b3)
        f = GatherND(d, i2)\nb6 = Unsqueeze(b5, last)\nc = MatMul(f, b6)\nc1 = Squeeze(c, last)\nw1 = Reshape(w, last)\nw2 = Unsqueeze(w1, last)\nc2 = Mul(c1, w2)\nc3 = Reshape(c2, apart)\nc4 = ReduceSum(c3, one) {keepdims=0}\nx1 = Add(x0, c4)\ny = MatMul(x1, o)\noutput y";
    Structure::new(text, 95.0).coarse(&[6, 8]).holds();
}

#[test]
fn a_scale_worked_out_from_the_width_of_a_head() {
    // Heads are merged into the batch and cut along their dimensions; the scale stays that of the original.
    let text = "input x f32[n,4,6]\nconst q f32[6,12]\nconst k f32[6,12]\nconst v f32[6,12]\nconst o f32[12,5]\nconst apart i64[4] = 0,0,2,6\nconst back i64[3] = 0,0,12\nconst last i64[] = 3\nconst half f32[] = 0.5
        q1 = MatMul(x, q)\nq2 = Reshape(q1, apart)\nq3 = Transpose(q2) {perm=[0,2,1,3]}\nk1 = MatMul(x, k)\nk2 = Reshape(k1, apart)\nk3 = Transpose(k2) {perm=[0,2,3,1]}\nv1 = MatMul(x, v)\nv2 = Reshape(v1, apart)\nv3 = Transpose(v2) {perm=[0,2,1,3]}
        s = Shape(q3)\nd = Gather(s, last)\nd1 = Cast(d) {to=1}\nr = Pow(d1, half)\na = MatMul(q3, k3)\na1 = Div(a, r)\na2 = Softmax(a1) {axis=-1}\na3 = MatMul(a2, v3)\na4 = Transpose(a3) {perm=[0,2,1,3]}\na5 = Reshape(a4, back)\ny = MatMul(a5, o)\noutput y";
    Structure::new(text, 99.0)
        .coarse(&[2])
        .fine(&[6, 6])
        .holds();
}

#[test]
fn positions_repeated_for_every_sample_and_head() {
    // As in DeBERTa: heads stand in the batch, keys of relative positions are repeated so many times as that holds the heads, and
    // what is looked up in them is spread over all of it.
    let text = "input x f32[n,3,5]\nconst rel f32[6,5]\nconst wq f32[5,8]\nconst wk f32[5,8]\nconst wv f32[5,8]\nconst o f32[8,5]\nconst heads i64[4] = 0,0,4,2\nconst merged i64[3] = -1,3,2\nconst apart i64[3] = 6,4,2\nconst back i64[4] = -1,4,3,2\nconst flat i64[3] = 0,0,8\nconst four i64[] = 4\nconst zero i64[] = 0\nconst ax i64[1] = 0\nconst ones i64[2] = 1,1\nconst square i64[2] = 3,3\nconst at i64[1,3,3] = 0,1,2,1,0,3,5,3,4
        q0 = MatMul(x, wq)\nq1 = Reshape(q0, heads)\nq2 = Transpose(q1) {perm=[0,2,1,3]}\nq = Reshape(q2, merged)\nv0 = MatMul(x, wv)\nv1 = Reshape(v0, heads)\nv2 = Transpose(v1) {perm=[0,2,1,3]}\nv = Reshape(v2, merged)
        s = Shape(q)\ns0 = Gather(s, zero)\nr0 = Div(s0, four)\nr1 = Unsqueeze(r0, ax)\nr = Concat(r1, ones) {axis=0}\nk0 = MatMul(rel, wk)\nk1 = Reshape(k0, apart)\nk2 = Transpose(k1) {perm=[1,2,0]}\nk = Tile(k2, r)\na = MatMul(q, k)
        c = Shape(x)\nc0 = Gather(c, zero)\nm = Mul(four, c0)\nm1 = Unsqueeze(m, ax)\nm2 = Concat(m1, square) {axis=0}\ne = Expand(at, m2)\ng = GatherElements(a, e) {axis=2}
        p = Softmax(g) {axis=-1}\nb = MatMul(p, v)\nb0 = Reshape(b, back)\nb1 = Transpose(b0) {perm=[0,2,1,3]}\nb2 = Reshape(b1, flat)\ny = MatMul(b2, o)\noutput y";
    // The positions themselves are a weight with channels of its own.
    Structure::new(text, 80.0).coarse(&[4, 5]).holds();
}
