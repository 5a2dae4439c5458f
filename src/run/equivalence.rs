//! Two ways of writing one computation, of which tract lacks the first: both must give the same.

use super::{Runtime, Tensors, TractRuntime};
use crate::model::{TensorRef, text};

fn floats(dims: &[usize]) -> TensorRef {
    let elements: Vec<f32> = (0..dims.iter().product())
        .map(|at: usize| (at as f32 * 0.7 + 0.3).sin())
        .collect();
    TensorRef::from_f32(dims.to_vec(), &elements)
}

fn feeds(inputs: &[(&str, TensorRef)]) -> Tensors {
    inputs
        .iter()
        .map(|(name, tensor)| ((*name).to_owned(), tensor.clone()))
        .collect()
}

fn run(model: &str, inputs: &Tensors) -> Vec<TensorRef> {
    let model = text::model(model).unwrap();
    TractRuntime::new(true)
        .prepare(&model, inputs, &[])
        .unwrap()
        .run(inputs)
        .unwrap()
}

fn close(left: &TensorRef, right: &TensorRef) {
    assert_eq!(left.dims, right.dims);
    let (left, right) = (left.to_f32().unwrap(), right.to_f32().unwrap());
    assert!(left.iter().any(|x| x.abs() > 1e-3), "nothing to compare");
    assert!(
        left.iter()
            .zip(&right)
            .all(|(left, right)| (left - right).abs() < 1e-5),
        "{left:?} {right:?}"
    );
}

fn equivalent(first: &str, second: &str, inputs: &[(&str, TensorRef)]) {
    let inputs = feeds(inputs);
    let (first, second) = (run(first, &inputs), run(second, &inputs));
    assert_eq!(first.len(), second.len());
    first
        .iter()
        .zip(&second)
        .for_each(|(first, second)| close(first, second));
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
    equivalent(&rolled, &flat, &[("x", floats(&[2, 3]))]);
}

#[test]
fn a_loop_ends_when_its_counter_says_so_and_fills_a_sequence() {
    let rolled = "input x f32[2,3]\nconst zero i64[] = 0\nconst one i64[] = 1\nconst two i64[] = 2\n\
        graph body\ninput i i64[]\ninput on bool[]\ninput at i64[]\ninput list\nnext = Add(at, one)\nmore = Less(next, two)\n\
        f = Cast(next) {to=1}\nrow = Mul(x, f)\nlonger = SequenceInsert(list, row)\noutput more\noutput next\noutput longer\nend\n\
        empty = SequenceEmpty()\nstart = Less(zero, two)\nn, list = Loop(_, start, zero, empty) {body=@body}\n\
        y = ConcatFromSequence(list) {axis=0}\noutput y";
    let flat = "input x f32[2,3]\nconst two f32[] = 2\nd = Mul(x, two)\ny = Concat(x, d) {axis=0}\noutput y";
    equivalent(rolled, flat, &[("x", floats(&[2, 3]))]);
}

#[test]
fn a_sequence_is_its_tensors() {
    let listed = "input x f32[2,7]\nconst sizes i64[3] = 2, 4, 1\nconst last i64[] = -1\nconst first i64[] = 0\n\
        parts = SplitToSequence(x, sizes) {axis=1}\na = SequenceAt(parts, last)\nb = SequenceAt(parts, first)\n\
        o = Optional(b)\nc = OptionalGetElement(o)\nagain = SequenceConstruct(a, c)\ny = ConcatFromSequence(again) {axis=1}\noutput y";
    let flat = "input x f32[2,7]\nconst sizes i64[3] = 2, 4, 1\na, b, c = Split(x, sizes) {axis=1}\ny = Concat(c, a) {axis=1}\noutput y";
    equivalent(listed, flat, &[("x", floats(&[2, 7]))]);
}

#[test]
fn the_bias_of_an_attention_is_added_before() {
    let head = "input q f32[2,3,8]\ninput k f32[2,5,8]\ninput v f32[2,5,4]\nconst b f32[20]\n";
    let fused =
        format!("{head}y = com.microsoft.MultiHeadAttention(q, k, v, b) {{num_heads=2}}\noutput y");
    let apart = format!(
        "{head}const sizes i64[3] = 8, 8, 4\nbq, bk, bv = Split(b, sizes) {{axis=0}}\nq1 = Add(q, bq)\nk1 = Add(k, bk)\nv1 = Add(v, bv)\n\
         y = com.microsoft.MultiHeadAttention(q1, k1, v1) {{num_heads=2}}\noutput y"
    );
    equivalent(
        &fused,
        &apart,
        &[
            ("q", floats(&[2, 3, 8])),
            ("k", floats(&[2, 5, 8])),
            ("v", floats(&[2, 5, 4])),
        ],
    );
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
    equivalent(
        &whole,
        &steps,
        &[
            ("q", floats(&[1, 5, 16])),
            ("k", floats(&[1, 5, 8])),
            ("v", floats(&[1, 5, 8])),
        ],
    );
}

#[test]
fn a_norm_with_computed_numbers_and_a_product_of_doubles() {
    let numbers = "const b f32[3]\nconst m f32[3]\nconst v f32[3] = positive\n";
    let computed = format!(
        "input x f32[2,3,4]\nconst s f32[3]\n{numbers}t = Shape(x)\nz = ReduceMax(x) {{keepdims=0}}\nn = Sub(z, z)\n\
        g = Add(s, n)\ny = BatchNormalization(x, g, b, m, v)\noutput y"
    );
    let plain = format!(
        "input x f32[2,3,4]\nconst s f32[3]\n{numbers}y = BatchNormalization(x, s, b, m, v)\noutput y"
    );
    equivalent(&computed, &plain, &[("x", floats(&[2, 3, 4]))]);
    let head = "input x f32[2,3]\nconst w f32[5,3]\nconst b f32[5]\n";
    let double = format!(
        "{head}xd = Cast(x) {{to=11}}\nwd = Cast(w) {{to=11}}\nbd = Cast(b) {{to=11}}\n\
        yd = Gemm(xd, wd, bd) {{transB=1, alpha=0.5, beta=2.0}}\ny = Cast(yd) {{to=1}}\noutput y"
    );
    let single = format!("{head}y = Gemm(x, w, b) {{transB=1, alpha=0.5, beta=2.0}}\noutput y");
    equivalent(&double, &single, &[("x", floats(&[2, 3]))]);
}

#[test]
fn indices_from_the_end_gather_the_same() {
    let with = |indices: &str| {
        format!("input x f32[4,3]\nconst i i64[2,1] = {indices}\ny = GatherND(x, i)\noutput y")
    };
    equivalent(&with("-1, 0"), &with("3, 0"), &[("x", floats(&[4, 3]))]);
}

/// Each operand is expanded along an axis that no other operand of the product has: tract's optimizer would drop the expansion.
#[test]
fn what_is_expanded_before_a_product_stays_so() {
    let pooled =
        "input x f32[2,3,4,5]\nconst w f32[7,6,1,1]\np = GlobalAveragePool(x)\ns = Shape(x)\n";
    let whole =
        format!("{pooled}q = Expand(p, s)\nr = Concat(x, q) {{axis=1}}\ny = Conv(r, w)\noutput y");
    let parted = format!(
        "{pooled}const n i64[2] = 3, 3\na, b = Split(w, n) {{axis=1}}\nc = Conv(x, a)\nd = Conv(p, b)\ny = Add(c, d)\noutput y"
    );
    equivalent(&whole, &parted, &[("x", floats(&[2, 3, 4, 5]))]);
    let row = "input x f32[1,1,6]\nconst w f32[6,4]\n";
    for spread in [
        "const s i64[3] = 2, 5, 6\nq = Expand(x, s)",
        "const s i64[3] = 2, 5, 1\nq = Tile(x, s)",
    ] {
        let before = format!("{row}{spread}\ny = MatMul(q, w)\noutput y");
        let after =
            format!("{row}p = MatMul(x, w)\nconst s i64[3] = 2, 5, 4\ny = Expand(p, s)\noutput y");
        equivalent(&before, &after, &[("x", floats(&[1, 1, 6]))]);
    }
}

/// A sum over an axis that is expanded counts each entry as often as it stands there.
#[test]
fn a_sum_over_an_expanded_axis_counts_all() {
    let head = "input x f32[4,1]\ninput z f32[4,3]\nconst s i64[2] = 4, 5\nconst five f32[] = 5\nq = Expand(x, s)\n";
    let product = format!("{head}y = Einsum(q, z) {{equation=\"ij,ik->ik\"}}\noutput y");
    let scaled = format!("{head}m = Mul(x, z)\ny = Mul(m, five)\noutput y");
    equivalent(
        &product,
        &scaled,
        &[("x", floats(&[4, 1])), ("z", floats(&[4, 3]))],
    );
}

/// What a cut leaves may have a width of one.
#[test]
fn products_of_width_one() {
    let head = "input x f32[1,4,6]\nconst s i64[2] = 1, 24\nconst w f32[1,24]\nconst b f32[1]\nconst o f32[1,2]\nconst last i64[1] = 1\n\
        f = Reshape(x, s)\n";
    let products = format!(
        "{head}l = Gemm(f, w, b) {{transB=1}}\nr = Sigmoid(l)\nc = Concat(l, r) {{axis=-1}}\ny = Gemm(c, o) {{transB=1}}\noutput y"
    );
    let sums = format!(
        "{head}p = Mul(f, w)\nq = ReduceSum(p, last)\nl = Add(q, b)\nr = Sigmoid(l)\nc = Concat(l, r) {{axis=-1}}\nm = Mul(c, o)\n\
         y = ReduceSum(m, last)\noutput y"
    );
    equivalent(&products, &sums, &[("x", floats(&[1, 4, 6]))]);
}

#[test]
fn a_negative_pad_is_a_slice() {
    let x = &[("x", floats(&[1, 4, 3]))];
    let pads = |numbers: &str, more: &str| {
        format!(
            "input x f32[1,4,3]\nconst p i64[6] = {numbers}\ny = Pad(x, p) {{{more}}}\noutput y"
        )
    };
    let shifted = "input x f32[1,4,3]\nconst a i64[1] = 0\nconst b i64[1] = 3\nconst c i64[1] = 1\nconst p i64[6] = 0, 1, 0, 0, 0, 0\n\
        s = Slice(x, a, b, c)\ny = Pad(s, p)\noutput y";
    equivalent(&pads("0, 1, 0, 0, -1, 0", "mode=\"constant\""), shifted, x);
    let cropped = "input x f32[1,4,3]\nconst a i64[2] = 1, 0\nconst b i64[2] = 4, 2\nconst c i64[2] = 1, 2\ny = Slice(x, a, b, c)\noutput y";
    equivalent(&pads("0, -1, 0, 0, 0, -1", "mode=\"edge\""), cropped, x);
    // What is repeated is what the crop left.
    let edge =
        "input x f32[1,4,3]\nconst i i64[4] = 1, 1, 2, 3\ny = Gather(x, i) {axis=1}\noutput y";
    let rows = "input x f32[1,4,3]\nconst v f32[] = 7\nconst p i64[2] = 1, 0\nconst axes i64[1] = 1\nconst a i64[1] = 1\nconst b i64[1] = 4\nconst c i64[1] = 1\n\
        s = Slice(x, a, b, c)\ny = Pad(s, p, v, axes) {mode=\"edge\"}\noutput y";
    equivalent(rows, edge, x);
    let wrapped =
        "input x f32[1,4,3]\nconst i i64[4] = 2, 0, 1, 2\ny = Gather(x, i) {axis=1}\noutput y";
    equivalent(&pads("0, 1, 0, 0, -1, 0", "mode=\"wrap\""), wrapped, x);
}

#[test]
fn a_fourier_transform_is_the_same_whatever_names_its_axis() {
    let with = |opset: u8, axis: &str, length: &str, attributes: &str| {
        format!(
            "opset {opset}\ninput x f32[2,3,8,1]\nconst a i64[] = {axis}\nconst n i64[] = {length}\n\
             y = DFT(x{}{}) {{{attributes}}}\noutput y",
            if length == "0" { ", _" } else { ", n" },
            if opset < 20 { "" } else { ", a" }
        )
    };
    let x = &[("x", floats(&[2, 3, 8, 1]))];
    for one in ["onesided=1", "onesided=0"] {
        let new = with(20, "2", "0", one);
        equivalent(&with(17, "2", "0", &format!("axis=2, {one}")), &new, x);
        equivalent(&with(17, "2", "0", &format!("axis=-2, {one}")), &new, x);
        equivalent(&with(20, "-2", "0", one), &new, x);
        equivalent(&new.replace(", _, a", ""), &new, x);
    }
    let longer = "input x f32[2,3,8,1]\nconst p i64[8] = 0, 0, 0, 0, 0, 0, 2, 0\nz = Pad(x, p)\ny = DFT(z) {axis=2, onesided=1}\noutput y";
    equivalent(&with(17, "2", "10", "axis=2, onesided=1"), longer, x);
    let shorter = "input x f32[2,3,8,1]\nconst s i64[2] = 6, 2\nz, w = Split(x, s) {axis=2}\ny = DFT(z) {axis=2, onesided=1}\noutput y";
    equivalent(&with(20, "2", "6", "onesided=1"), shorter, x);
}

#[test]
fn a_signal_of_two_axes_is_real() {
    let with = |extra: &str, x: &str| {
        format!(
            "input x f32[2,32]\nconst step i64[] = 4\nconst w f32[8]\nconst axis i64[1] = 2\n{extra}\
             y = STFT({x}, step, w) {{onesided=1}}\noutput y"
        )
    };
    equivalent(
        &with("", "x"),
        &with("z = Unsqueeze(x, axis)\n", "z"),
        &[("x", floats(&[2, 32]))],
    );
}

#[test]
fn packed_numbers_of_eight_bits_are_dequantized() {
    // Two blocks of 16, the second not full: K = 24.
    let head = "input x f32[2,24]\nconst b u8[3,2,16] = full\nconst s f32[3,2]\n";
    let packed = format!(
        "{head}y = com.microsoft.MatMulNBits(x, b, s) {{K=24, N=3, bits=8, block_size=16}}\noutput y"
    );
    let spread = "const flat i64[2] = 3, 32\nconst s1 i64[3] = 3, 2, 1\nconst a i64[1] = 0\nconst e i64[1] = 24\nconst ax i64[1] = 1\n\
        f = Cast(b) {to=1}\nc = Sub(f, zero)\nt = Reshape(s, s1)\nd = Mul(c, t)\nm = Reshape(d, flat)\nk = Slice(m, a, e, ax)\n\
        w = Transpose(k) {perm=[1,0]}\ny = MatMul(x, w)\noutput y";
    equivalent(
        &packed,
        &format!("{head}const zero f32[] = 128\n{spread}"),
        &[("x", floats(&[2, 24]))],
    );
    let zeros = format!("{head}const z u8[3,2] = 3, 200, 128, 0, 255, 77\n");
    let packed = format!(
        "{zeros}y = com.microsoft.MatMulNBits(x, b, s, z) {{K=24, N=3, bits=8, block_size=16}}\noutput y"
    );
    let spread = format!(
        "{zeros}const z1 i64[3] = 3, 2, 1\nzf = Cast(z) {{to=1}}\nzero = Reshape(zf, z1)\n{spread}"
    );
    equivalent(&packed, &spread, &[("x", floats(&[2, 24]))]);
}

#[test]
fn sixteen_bits_are_quantized_by_hand() {
    let x = &[("x", floats(&[2, 3, 4]))];
    for (dtype, zero) in [("u16", 32768), ("i16", -5)] {
        let rounded = format!(
            "input x f32[2,3,4]\nconst s f32[] = 0.000015\nconst z {dtype}[] = {zero}\nq = QuantizeLinear(x, s, z)\n\
             y = DequantizeLinear(q, s, z)\noutput y"
        );
        // Steps of 1.5e-5 are not seen at 1e-5, but where the range ends is.
        let first = if dtype == "u16" { 0 } else { -32768 };
        let ends = [first - zero, first + 65535 - zero].map(|end| f64::from(end) * 0.000015);
        let clipped = format!(
            "input x f32[2,3,4]\nconst l f32[] = {}\nconst h f32[] = {}\ny = Clip(x, l, h)\noutput y",
            ends[0], ends[1]
        );
        equivalent(&rounded, &clipped, x);
    }
    let along = |scale: &str, zero: &str, axis: &str| {
        format!(
            "input x f32[2,3,4]\n{scale}{zero}q = QuantizeLinear(x, s, z) {{axis={axis}}}\nd = DequantizeLinear(q, s, z) {{axis={axis}}}\n\
             y = Identity(d)\noutput y"
        )
    };
    let (scale, zero) = (
        "const s f32[3] = 0.1, 0.2, 0.3\n",
        "const z i16[3] = 1, 0, -1\n",
    );
    let wide = along(scale, zero, "1");
    let bytes = along(scale, &zero.replace("i16", "i8"), "-2");
    equivalent(&wide, &bytes, x);
}

#[test]
fn columns_add_up_to_an_image() {
    // Blocks of 2 by 3, stepped by 2 and 1, on an image of 5 by 4 padded by one at the left.
    let head = "input x f32[2,12,6]\n";
    let image = format!(
        "opset 18\n{head}const i i64[2] = 5, 4\nconst b i64[2] = 2, 3\n\
         y = Col2Im(x, i, b) {{strides=[2,1], pads=[0,1,0,0]}}\noutput y"
    );
    let ones = "const shape i64[4] = 2, 12, 2, 3\nr = Reshape(x, shape)\n\
        y = ConvTranspose(r, w) {group=2, strides=[2,1], pads=[0,1,0,0], output_padding=[1,0]}\noutput y";
    let weight: Vec<&str> = (0..72)
        .map(|at| if at % 36 % 7 == 0 { "1" } else { "0" })
        .collect();
    let transposed = format!(
        "{head}const w f32[12,1,2,3] = {}\n{ones}",
        weight.join(", ")
    );
    equivalent(&image, &transposed, &[("x", floats(&[2, 12, 6]))]);
}

#[test]
fn quantized_products_and_pools_are_their_float_twins() {
    let (a, q) = (
        "const s f32[] = 0.02\nconst z u8[] = 100\nq = QuantizeLinear(x, s, z)\n",
        "d = DequantizeLinear(q, s, z)\n",
    );
    let end = "const t f32[] = 0.05\nconst v u8[] = 90\n";
    let product = "input x f32[4,5]\nconst w i8[3,5] = full\nconst r f32[3] = 0.01, 0.02, 0.005\nconst o i8[3] = 0, 0, 0\nconst c i32[3] = 50, -80, 900\n";
    let fused = format!(
        "{product}{a}{end}y8 = com.microsoft.QGemm(q, s, z, w, r, o, c, t, v) {{transB=1}}\ny = DequantizeLinear(y8, t, v)\noutput y"
    );
    let apart = format!(
        "{product}{a}{q}{end}f = DequantizeLinear(w, r, o) {{axis=0}}\ncf = Cast(c) {{to=1}}\nk = Mul(s, r)\nb = Mul(cf, k)\n\
         p = Gemm(d, f, b) {{transB=1}}\ny8 = QuantizeLinear(p, t, v)\ny = DequantizeLinear(y8, t, v)\noutput y"
    );
    equivalent(&fused, &apart, &[("x", floats(&[4, 5]))]);
    let picture = "input x f32[1,2,4,4]\n";
    let fused = format!(
        "{picture}{a}{end}y8 = com.microsoft.QLinearAveragePool(q, s, z, t, v) {{kernel_shape=[2,2]}}\ny = DequantizeLinear(y8, t, v)\noutput y"
    );
    let apart = format!(
        "{picture}{a}{q}{end}p = AveragePool(d) {{kernel_shape=[2,2]}}\ny8 = QuantizeLinear(p, t, v)\ny = DequantizeLinear(y8, t, v)\noutput y"
    );
    equivalent(&fused, &apart, &[("x", floats(&[1, 2, 4, 4]))]);
}

#[test]
fn a_rotation_tells_its_heads_by_its_tables() {
    let head = "input x f32[1,3,8]\nconst cos f32[9,2]\nconst sin f32[9,2]\n";
    let bare = format!(
        "{head}const at i64[1] = 4\ny = com.microsoft.RotaryEmbedding(x, at, cos, sin)\noutput y"
    );
    let told = format!(
        "{head}const at i64[1,3] = 4, 5, 6\ny = com.microsoft.RotaryEmbedding(x, at, cos, sin) {{num_heads=2}}\noutput y"
    );
    equivalent(&bare, &told, &[("x", floats(&[1, 3, 8]))]);
}

/// A norm over one axis has one channel.
#[test]
fn a_norm_of_one_axis() {
    let numbers =
        "const s f32[1] = 2\nconst b f32[1] = 1\nconst m f32[1] = 0.5\nconst v f32[1] = 4\n";
    let norm = format!(
        "input x f32[6]\n{numbers}y = BatchNormalization(x, s, b, m, v) {{epsilon=0.0}}\noutput y"
    );
    let plain = format!("input x f32[6]\n{numbers}y = Add(x, m)\noutput y");
    equivalent(&norm, &plain, &[("x", floats(&[6]))]);
}
